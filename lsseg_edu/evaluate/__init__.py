"""Measuring: per subject and class, with empties counted and intervals given."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "report": ["Report", "evaluate", "score"],
        "calibration": ["expected_calibration_error"],
        "curve": ["area_under_curve", "learning_curve"],
        "instances": ["InstanceReport", "instance_scores", "score_instances", "split_objects"],
        "intervals": ["interval_over_seeds", "paired_bootstrap"],
        "topology": ["betti_error", "betti_numbers"],
        "plausibility": ["Rules", "implausible"],
    },
)
