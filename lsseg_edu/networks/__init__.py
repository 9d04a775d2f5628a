"""Networks: images ``(B, C, *S)`` to logits ``(B, K, *S)``.

All are made in one manner, ``networks.unet(task, width=16, seed=0)``: from anything that knows its
channels, classes and dims (a Task or a Cohort), with weights that depend on ``seed`` alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention_unet": ["AttentionUNet", "attention_unet"],
        "build": ["Shape", "build"],
        "deeplab": ["DeepLab", "deeplab"],
        "dense_unet": ["DenseUNet", "dense_unet"],
        "fcn": ["FCN", "fcn"],
        "pspnet": ["PSPNet", "pspnet"],
        "registration": ["RegistrationNet", "registration"],
        "resnet": ["ResNet", "ResNetEncoder", "resnet"],
        "segnet": ["SegNet", "segnet"],
        "unet": ["UNet", "unet"],
        "vgg": ["VGG", "VGGEncoder", "vgg"],
    },
)
