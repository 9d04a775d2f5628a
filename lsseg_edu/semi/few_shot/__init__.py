"""Survey III-J: segment an organ that training never named, from a few annotated examples."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alpnet": ["ALPNet", "average", "local_prototypes", "nearness", "ssl_alpnet"],
        "conditioned": ["Conditioned", "Episode", "combine", "draw_episode"],
        "episodes": ["FewShotTask", "choose_support", "few_shot_task", "few_shot_upper"],
        "finetune": ["SupportFinetune", "fss_finetune", "support_only"],
        "oslsm": ["OSLSM", "WeightHashing"],
        "scse": ["SCSE", "ChannelGate", "SCSEUNet", "SpatialGate", "scse_supervised", "scse_unet"],
        "se_few_shot": ["SEConditioner", "SEFewShot", "pair_slices"],
        "superpixels": ["superpixel_maps"],
    },
)
