"""Segmenting with Less: medical image segmentation when labels are few, partial or wrong.

The rooms of the library bear the names of the survey it teaches; see :mod:`lsseg_edu.survey`
for the map from every technique of the survey to its code, its chapter and its results.
Importing the package is cheap: a room is loaded when you first step into it.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "augment",
        "data",
        "evaluate",
        "frontier",
        "inaccurate",
        "learn",
        "losses",
        "networks",
        "partial",
        "semi",
        "show",
        "study",
        "survey",
        "train",
    ],
)
