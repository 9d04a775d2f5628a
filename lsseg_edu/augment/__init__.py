"""Random changes of a whole batch, on its device, image and label together."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "erasing": ["cutout", "erase", "rectangle"],
        "flow": ["compose", "displaced", "folded", "integrate", "jacobian"],
        "geometry": [
            "affine_grid",
            "crop",
            "elastic_displacement",
            "flip",
            "random_affine",
            "warp",
            "warp_labels",
        ],
        "intensity": ["bias_field", "blur", "contrast", "gamma", "noise"],
        "mix": ["beta", "mixup"],
        "recipe": ["Augment"],
        "smooth": ["smooth_field"],
    },
)
