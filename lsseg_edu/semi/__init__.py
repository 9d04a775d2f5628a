"""Survey III: some images are labelled, the others are not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "adversarial",
        "augmentation",
        "co_training",
        "consistency",
        "curriculum",
        "few_shot",
        "priors",
        "self_supervision",
        "self_training",
        "transfer",
        "uncertainty",
    ],
)
