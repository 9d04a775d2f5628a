"""Survey III-E: a network labels the images nobody labelled, and another learns from that."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bai": ["crf_self_training"],
        "dense_crf": ["affinity", "mean_field"],
        "inf_net": ["growing_self_training"],
        "pseudo_label": [
            "PseudoLabelled",
            "SelfTrained",
            "hard_labels",
            "self_training",
            "unlabelled_images",
            "with_pseudo",
        ],
        "quality": ["PseudoQuality", "pseudo_label_quality"],
        "sedai": ["UncertaintyWeighted", "uncertainty_self_training"],
        "teacher_student": ["TeacherStudent", "teacher_student_training"],
    },
)
