"""Survey VI: where the field was heading."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["contrastive"])
