"""Survey III-I: a second network judges, and the segmenter learns to satisfy it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "asdnet": ["ASDNet", "region_dice"],
        "cyclegan": ["ShapeCycleGAN"],
        "dan": ["DAN"],
        "discriminator": ["Adversarial", "Critic", "critic", "one_hot", "verdict_loss"],
        "hung": ["HungSemi"],
        "segmentation_gan": ["SegmentationGAN", "soften"],
        "shift": ["scanner_shift"],
        "spine_gan": ["SpineGAN", "SpineNet", "Sweep", "spine_net"],
        "translator": ["Translator"],
    },
)
