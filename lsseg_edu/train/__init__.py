"""The one training loop, and what a technique adds to it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "budget": ["Budget", "device", "one_cycle"],
        "checkpoint": ["load_checkpoint", "save_checkpoint"],
        "batch": ["Batch", "Part"],
        "fit": ["Run", "fit"],
        "fitted": ["Fitted"],
        "method": ["Method", "Player"],
        "supervised": ["Supervised", "supervised_longer"],
    },
)
