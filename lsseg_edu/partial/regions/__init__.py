"""Survey IV-B: regions and scribbles, a few strokes an image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "tang": ["PartialCrossEntropy", "partial_cross_entropy"],
        "boundary_scribble": ["BoundaryScribble"],
        "cheng": ["SelfSimilarityStudent", "similar_ensemble", "similarity_loss"],
        "dmpls": ["DMPLS"],
        "dong": ["PointsAndRoughMasks", "points_and_rough_masks", "separate"],
        "graph_cut": ["graph_cut_training"],
        "ji": ["scribble_hierarchy", "whole_scribbles"],
        "peng": ["annotated_areas", "feature_propagation", "propagated"],
        "potts": ["alpha_expansion", "min_cut"],
        "rois": ["boxes_and_few_masks"],
        "rounds": ["Propagated"],
        "lee": ["Scribble2Label", "scribble2label"],
        "lin": ["propagate", "scribblesup"],
        "crf_inference": ["CRFInference"],
        "dense_crf_loss": ["DenseCRFLoss", "crf_loss"],
        "gated": ["GatedCRF", "gated_crf"],
        "kernel_cut": ["KernelCut"],
        "chan_vese": ["LevelSet", "level_set", "narrow_band"],
        "piecewise": ["MumfordShah", "mumford_shah"],
        "ncut": ["NormalisedCut", "normalised_cut"],
        "regularised": ["AllPairs", "Regularised", "affinities", "on_grid"],
        "tv": ["TotalVariation", "curvature", "total_variation"],
        "zhao": ["BoxThenMask", "boxes_and_masks"],
    },
)
