"""What a learner is given: cohorts, tasks, and what annotators leave of a mask."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["annotate", "phantoms", "public"],
    submod_attrs={
        "cohort": ["IGNORE", "Cohort"],
        "task": ["Task"],
        "phantoms": ["load"],
    },
)
