"""Survey III-F: several views of one image, whose learners teach each other."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adversarial": ["fgsm", "virtual_adversarial"],
        "agreement": ["different", "jensen_shannon", "product", "vote"],
        "asymmetric": ["AsymmetricUNet", "asymmetric_unet"],
        "blum": ["Band", "co_training", "top_per_class"],
        "committee": ["Committee", "together"],
        "dct": ["DeepCoTraining"],
        "dmpct": ["multi_planar_co_training", "plane_net"],
        "ensemble": ["EnsembleCoTraining", "leave_some_out"],
        "planes": ["PLANES", "InPlane", "InView", "need_volumes"],
        "umct": ["UMCT", "weighted_fusion"],
    },
)
