"""What an annotator with less time would leave of a dense mask.

Every function here maps a :class:`~lsseg_edu.data.Task` to a task with less supervision, and acts
on the labelled training items only: validation and test keep their masks. Beside each stands the
plain function of masks ``(B, *S)`` that it uses (``draw_scribbles``, ``draw_points``, ...), to be
shown on one image. Times are counted by :mod:`lsseg_edu.data.annotate.cost`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["components", "cost"],
    submod_attrs={
        "annotator": ["answer_seconds", "ask", "unaided", "with_annotator"],
        "box": ["boxes", "boxes_to_masks", "draw_boxes"],
        "missing": ["drop_classes", "missing_classes"],
        "contour": ["boundary_scribbles", "draw_contours"],
        "cost": ["SECONDS"],
        "fewer": ["keep_slices", "slices", "subjects"],
        "point": ["clicks", "draw_points", "points"],
        "rater": ["STYLES", "Style", "rate", "raters"],
        "scribble": ["draw_scribbles", "expert_scribbles", "scribbles"],
    },
)
