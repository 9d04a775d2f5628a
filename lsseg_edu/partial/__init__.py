"""Survey IV: every image is labelled a little."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["active", "classes", "interactive", "points", "regions", "slices"],
    submod_attrs={"cover": ["max_cover"], "rounds": ["alternate"]},
)
