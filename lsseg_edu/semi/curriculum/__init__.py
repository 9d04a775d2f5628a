"""Survey III-D: what is learnt first, from which examples, and by which easier task."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": ["HeatmapClassifier", "attention_curriculum", "severity_stages"],
        "jesson": ["cased", "cased_chances", "misclassified", "patches"],
        "stages": ["CoarseToFine", "coarse_to_fine"],
        "dasl": ["ActiveSelfPaced", "active_self_paced"],
        "easy_first": [
            "data_curriculum",
            "difficulty_by_loss",
            "difficulty_by_size",
            "growing_pool",
            "ordered",
        ],
        "jimenez": ["agreement", "annealed", "rater_curriculum"],
        "label_distribution": [
            "LabelDistribution",
            "distribution_targets",
            "label_distribution_adaptation",
        ],
        "hardness": ["item_losses"],
        "spl": ["self_paced", "self_paced_weights"],
        "size_regression": ["SizeGuided", "SizeRegressor", "size_curriculum"],
    },
)
