"""Survey III: some images are labelled, the others are not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "adversarial",
        "co_training",
        "consistency",
        "few_shot",
        "self_supervision",
        "self_training",
        "uncertainty",
    ],
)
