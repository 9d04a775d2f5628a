"""Survey III-B: more labelled images out of those there are."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adamixup": ["AdaMixUp"],
        "advbias": ["AdvBias", "biased", "spline"],
        "adversarial": ["WorstCase"],
        "ascent": ["ascend", "somewhere"],
        "conditional_gan": ["ConditionalGAN", "cgan_augmentation"],
        "costa": ["RetinaGAN", "retina_augmentation"],
        "cross_modal": ["CrossModal", "cross_modal_augmentation"],
        "cutmix": ["CutMix"],
        "deformations": ["Modes", "Motions", "register_unlabelled"],
        "ea_gan": ["EaGAN", "edge_aware_augmentation", "paired_scanners", "sobel"],
        "feature_space": ["FeatureSpace", "majority", "partners"],
        "fluid": ["Fluid", "fluid_training"],
        "gan": ["GAN", "Generative", "gan_augmentation"],
        "given": [
            "only",
            "with_crop",
            "with_cutout",
            "with_erasing",
            "with_intensity",
            "with_warp",
        ],
        "mixup": ["Mixup", "mixup_loss"],
        "motion": ["Motion"],
        "nodules": ["NoduleGAN", "NoduleSampler", "nodule_augmentation"],
        "noise": ["Decoder", "Encoder", "WholeCritic"],
        "olut": ["DeformationAttack", "deformation_training"],
        "panfilov": ["ShiftMixup"],
        "soft": ["soft_dice_ce"],
        "synthetic": ["Repainted", "WithSynthetic", "moved"],
        "task_driven": ["FieldNet", "TaskDriven"],
        "zhao": ["Appearance", "LearnedTransforms", "one_shot_augmentation", "roughness"],
    },
)
