"""Survey VI: features that are alike where images belong together."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chaitanya": ["GlobalLocal", "finetune_chaitanya", "partition", "regions"],
        "loss": ["contrast", "nt_xent"],
        "moco": ["MoCo", "finetune_moco"],
        "simclr": ["SimCLR", "finetune_simclr"],
        "simclrv2": ["Distillation", "SimCLRv2", "simclrv2_distill", "soften"],
    },
)
