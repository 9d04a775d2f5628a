"""Survey IV-B, interaction: a user corrects, and the model answers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answering": ["Interactive"],
        "bifseg": ["BIFSeg", "image_specific"],
        "contour": ["level_set"],
        "edit": ["InteractiveEdit"],
        "grab_cut": ["GrabCut", "grabcut"],
        "held_out": ["Corrected", "HalfAndHalf"],
        "iter_mrl": ["IterMRL", "apply_actions"],
        "maps": ["check_clicks", "click_maps", "geodesic", "marked"],
        "point": ["PointGuided"],
        "ugir": ["GroupedUNet", "UGIR", "grouped_unet"],
        "user": ["visited", "with_user"],
    },
)
