"""Survey III-G: a good network says the same of an image and of its perturbed copy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bortsova": ["Elastic", "Siamese"],
        "covid_weak": ["PointConsistency"],
        "cps": ["CrossPseudoSupervision"],
        "cui": ["CuiMeanTeacher"],
        "cutmix": ["boxes", "paste"],
        "dmnet": ["DMNet", "FusionDecoder", "sharpen"],
        "entropy_min": ["EntropyMinimisation"],
        "extreme_consistency": ["ExtremeConsistency", "Mixing"],
        "fixmatch": ["FixMatch", "confident", "pseudo_loss"],
        "mean_teacher": ["MeanTeacher", "ema_update"],
        "mi_cluster": ["MIClustering", "mutual_information"],
        "mmt_psm": ["MMTPSM"],
        "pi_model": ["PiModel"],
        "rampup": ["sigmoid_rampup"],
        "src_mt": ["SRCMT", "relations"],
        "tcsm": ["TCSM"],
        "temporal_ensembling": ["TemporalEnsembling"],
        "transforms": ["AffineView", "Chain", "Dihedral", "Shift"],
        "ua_mt": ["UAMT", "entropy", "masked_mse"],
        "unimatch": ["UniMatch"],
    },
)
