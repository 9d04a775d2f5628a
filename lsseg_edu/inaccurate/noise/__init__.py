"""Survey V-A: noisy labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["models"],
    submod_attrs={"co_teaching": ["CoTeaching", "keep_rate", "small_loss"]},
)
