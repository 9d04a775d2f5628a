"""Survey III-G: a good network says the same of an image and of its perturbed copy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "mean_teacher": ["MeanTeacher", "ema_update"],
        "rampup": ["sigmoid_rampup"],
    },
)
