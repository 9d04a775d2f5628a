"""Survey III-H: questions whose answer is in the image itself teach a network to see."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "colorization": ["Colorization", "finetune_colorization", "remap"],
        "cpc": ["CPC", "finetune_cpc", "info_nce"],
        "exemplar": ["Exemplar", "finetune_exemplar", "triplet"],
        "finetune": ["Pretext", "finetune_from", "pretrain", "pretrain_finetune", "transfer"],
        "inpainting": ["Inpainting", "finetune_inpainting", "holes"],
        "jigsaw": ["Jigsaw", "finetune_jigsaw", "permutation_set"],
        "multimodal_puzzle": ["MultimodalPuzzle", "finetune_multimodal_puzzle", "sinkhorn"],
        "relative_position": ["RelativePosition", "finetune_relative_position"],
        "rotation": ["Rotation", "finetune_rotation", "rotations"],
        "self_loop": ["SelfLoop"],
        "surrogate": ["pretexts_3d", "surrogate_supervision"],
        "tiles": ["Grid", "TilePretext", "standardised", "take"],
    },
)
