"""Survey III-C: shapes, learnt from masks, that answers are drawn to or replaced by."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "acnn": ["ACNN", "acnn_training"],
        "ambellan": ["BoundaryRefinement", "ambellan_segmentation"],
        "autoencoder": ["ShapeAutoencoder", "ShapeNet", "ShapeRestorer", "shape_training"],
        "constrained": ["ShapeConstrained"],
        "corruption": ["corrupt"],
        "cvae_warp": [
            "AnatomicalWarp",
            "VariationalAutoencoder",
            "VariationalShapes",
            "cvae_segmentation",
        ],
        "densebias": ["ImageAutoencoder", "PriorUNet", "prior_features_training"],
        "outlines": ["align", "fill", "landmarks", "pose", "present"],
        "post_dae": ["post_dae_segmentation"],
        "projection": ["ShapeProjection", "ssm_segmentation"],
        "ravishankar": ["ShapeRegularised", "cascade_training"],
        "shapes": ["Repaired", "WARPS", "one_hot", "repaired", "shape_set", "shape_task"],
        "srscn": ["SRSCN", "srscn_training"],
        "ssm": ["ShapeModel"],
        "tetris": ["TemplateNet", "Tetris", "medoid"],
    },
)
