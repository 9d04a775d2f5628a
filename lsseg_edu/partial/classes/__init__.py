"""Survey IV: missing classes, where each data set annotates other organs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "asked": ["Asked", "as_class"],
        "conditional": ["ConditionalNet", "Told"],
        "dodnet": ["DoDNet", "dynamic_head"],
        "few_organs": ["FewOrganCoTraining", "open_labels"],
        "lesions": ["SharedHeads", "accepted", "head_labels", "mined_annotations"],
        "marginal": ["MarginalLoss", "exclusion_loss"],
        "pann": ["PaNN", "dual_ascent", "prior_bound", "size_prior"],
        "partly": ["annotated_classes", "annotated_items", "marginal_logits", "marginal_loss"],
        "vicinal": ["VicinalLabels", "neighbours", "vicinal_labels", "vicinal_loss"],
    },
)
