"""Survey III-C: one labelled image that knows the anatomy, and the ways to hand it on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atlas_net": ["AtlasNet", "atlas_net"],
        "chi": ["deformable_pseudo_labels", "trust"],
        "dap": ["DeepAtlasPrior", "atlas_prior_training", "probability_atlas"],
        "deep_atlas": ["DeepAtlas"],
        "deep_atlas_net": ["DeepAtlasNet"],
        "deep_rs": ["DeepRS"],
        "fusion": ["locally_weighted", "majority", "staple"],
        "ito": ["atlas_em", "posterior"],
        "lt_net": ["LTNet"],
        "multi": ["MultiAtlas"],
        "propagation": ["by_subject", "local_correlation", "overlap_loss", "registered"],
        "single": ["SingleAtlas"],
        "soft": ["SoftLabelled", "with_soft"],
        "zotti": ["PriorUNet", "ShapePrior", "centred_prior"],
    },
)
