"""Survey IV: every image is labelled a little."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["regions"])
