"""Survey III-A: start from what another task, or another set of images, has taught."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ah_net": ["Propagation", "ah_net", "finetune_ah_net"],
        "corruptions": ["bezier", "corrupt", "local_shuffle", "paint"],
        "efficient": ["EfficientUNet", "efficient_unet", "imagenet_weights"],
        "finetune": ["Source", "finetune_layers", "learn_source", "transfer_learning"],
        "genesis": ["Genesis", "finetune_genesis_2d", "finetune_genesis_3d"],
        "inflate": ["finetune_copied", "finetune_padded", "inflate", "spread"],
        "layers": ["Tuned", "copy_layers", "layers", "remap_channels"],
        "rethink": ["effect", "factorial", "interaction", "pretrain_and_self_train"],
        "slices": ["slices"],
        "tajbakhsh": ["HandCrafted", "full_or_fine", "hand_crafted", "layerwise_tuning"],
        "transferability": ["layer_transfer", "transferability"],
        "transfusion": ["redraw", "steps_to", "transfusion"],
        "universal": ["Universal", "finetune_universal", "joint_sources"],
    },
)
