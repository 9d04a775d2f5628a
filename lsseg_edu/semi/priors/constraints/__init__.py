"""Survey III-C: size, shape and topology as losses that need no mask."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "constrained": ["Constrained", "RegionConstraint", "obeyed"],
        "convex": ["ConvexShape", "convex_violation"],
        "homology": ["Bars", "Homology", "barcode", "betti_prior", "topology_loss"],
        "size": ["SizeConstraint", "size_bounds", "size_penalty", "tagged"],
        "skeleton": ["ClDice", "cldice", "soft_skeleton"],
        "star": ["StarShape", "star_violation"],
    },
)
