"""Survey IV-A: volumes of which an annotator outlined a few planes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bai": ["propagated_training"],
        "bitarafan": ["handed_on", "one_slice_training"],
        "completion": ["completed", "known_planes", "with_trust"],
        "motion": ["Motion", "plane_motion", "propagate"],
        "problem": ["mixed_annotation", "unannotated"],
        "sparse": ["SparseSlices", "voxel_loss"],
        "wang": ["HybridLoss", "hybrid_training", "rims"],
        "zheng_select": ["Chosen", "representative_slices"],
        "zheng_ugst": ["Heads", "KHeads", "uncertainty_guided"],
    },
)
