"""Survey IV-C: which image is worth a question, if the answer costs time."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baseline": ["at_random", "by_true_error", "random_queries"],
        "fisher": ["by_fisher", "fisher_queries", "layer_information", "query_distribution"],
        "informative": ["by_bald", "by_entropy", "by_margin", "uncertain_queries"],
        "loop": ["Asked", "Pool", "active_learning"],
        "problem": ["everything_outlined", "slices_on_request"],
        "shen": [
            "by_three_criteria",
            "dissatisfaction",
            "diverse_order",
            "representativeness",
            "three_criteria",
        ],
        "suggestive": ["bootstrap_committee", "by_suggestion", "suggestive_annotation"],
    },
)
