"""Survey IV-B: regions and scribbles, a few strokes an image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"partial_cross_entropy": ["PartialCrossEntropy", "partial_cross_entropy"]},
)
