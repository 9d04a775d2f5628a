"""Survey III-E: a network that knows where it does not know, and tests of whether it does."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bnn": ["BayesByBackprop", "Gaussian"],
        "calibration": [
            "Scores",
            "brier",
            "fit_temperature",
            "nll",
            "proper_scores",
            "reliability_bins",
            "tempered",
        ],
        "ensemble": ["Ensemble", "deep_ensemble"],
        "kendall_gal": ["KendallGal"],
        "mc_batchnorm": ["MCBatchNorm", "statistics_of", "with_batchnorm"],
        "mc_dropout": ["MCDropout"],
        "measures": [
            "area",
            "entropy",
            "mean_entropy",
            "mutual_information",
            "predicted_variance",
            "retention",
            "uncertainty_maps",
            "variance",
        ],
        "mehrtash": ["calibrated_ensemble", "segment_entropy"],
        "reliability": [
            "Reliability",
            "best_threshold",
            "error_overlap",
            "reliability",
            "subject_doubt",
        ],
        "sampled": ["Sampled", "only"],
        "tta": ["TestTimeAugmentation"],
    },
)
