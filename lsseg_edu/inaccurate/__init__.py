"""Survey V: every pixel is labelled, and some labels are wrong."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["noise"])
