"""The one training loop, and what a technique adds to it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "budget": ["Budget", "device"],
        "checkpoint": ["load_checkpoint", "save_checkpoint"],
        "fit": ["Batch", "Fitted", "Part", "fit"],
        "method": ["Method", "Player"],
        "supervised": ["Supervised"],
    },
)
