"""Survey III-C: what anatomy is known before the first training image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["atlas", "constraints", "shape"],
    submod_attrs={"registration": ["Atlas", "Registration", "alignment", "bending_energy"]},
)
