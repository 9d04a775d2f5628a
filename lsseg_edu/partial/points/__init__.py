"""Survey IV-E: points, one click an object."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clicked": ["clicked", "nearest", "partial_points", "taught"],
        "concentric": ["concentric_labels", "concentric_training"],
        "detection": ["HeatMaps", "background_grown", "detect", "heat_maps", "peaks"],
        "pseudo_edge": ["PseudoEdgeNet", "pseudo_edge_net", "sobel"],
        "qu": ["TwoLabels", "qu_points"],
        "voronoi": ["cluster_labels", "voronoi_labels"],
        "whats_the_point": ["Objectness", "WhatsThePoint", "image_level"],
    },
)
