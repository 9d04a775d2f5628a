"""The public data sets: what they are, under which licence, and how one gets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        title: what it shows.
        licence: as published with the data.
        citation: what its owners ask to be cited.
        how: how to get it, in a sentence.
        names: class names, background first.
        module: the module of this package that reads it.
        msd: its name in the Medical Segmentation Decathlon, if it is of it.
        size: default ``(D, H, W)`` of volumes.
    """

    title: str
    licence: str
    citation: str
    how: str
    names: tuple[str, ...]
    module: str
    msd: str = ""
    size: tuple[int, int, int] | None = None


_MSD = (
    "Simpson et al., A large annotated medical image dataset for the development and evaluation "
    "of segmentation algorithms, arXiv:1902.09063, 2019; Antonelli et al., The Medical "
    "Segmentation Decathlon, Nature Communications 13:4128, 2022"
)

SOURCES = {
    "acdc": Source(
        title="ACDC: cine MR of the heart, short-axis slices, end-diastole and end-systole",
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., Deep learning techniques for automatic MRI cardiac "
        "multi-structures segmentation and diagnosis: is the problem solved?, IEEE TMI "
        "37(11):2514-2525, 2018",
        how="download the ACDC database from https://www.creatis.insa-lyon.fr/Challenge/acdc/ and "
        "unpack it in the root folder as acdc/, so that it holds the folders patient001 to "
        "patient100 at any depth, each with Info.cfg, patientNNN_frameFF.nii.gz and "
        "patientNNN_frameFF_gt.nii.gz.",
        names=("background", "right ventricle", "myocardium", "left ventricle"),
        module="acdc",
    ),
    "hippocampus": Source(
        title="MSD Task04 Hippocampus: brain MR around the hippocampus, 1 mm volumes",
        licence="CC BY-SA 4.0",
        citation=_MSD,
        how="downloaded by load (27 MB).",
        names=("background", "anterior", "posterior"),
        module="volumes",
        msd="Task04_Hippocampus",
        size=(40, 56, 40),
    ),
    "heart": Source(
        title="MSD Task02 Heart: MR of the chest, left atrium",
        licence="CC BY-SA 4.0",
        citation=_MSD,
        how="downloaded by load (435 MB).",
        names=("background", "left atrium"),
        module="volumes",
        msd="Task02_Heart",
        size=(48, 96, 96),
    ),
    "la": Source(
        title="LA 2018: late-gadolinium MR of the heart, left atrium",
        licence="challenge data for research; no named licence",
        citation="Xiong et al., A global benchmark of algorithms for segmenting the left atrium "
        "from late gadolinium-enhanced cardiac magnetic resonance imaging, Medical Image Analysis "
        "67:101832, 2021",
        how="ask for the training set on https://www.cardiacatlas.org/atriaseg2018-challenge/ and "
        "unpack it in the root folder as la/, so that it holds 100 folders, each with lgemri.nrrd "
        "and laendo.nrrd (reading them takes `pip install pynrrd`).",
        names=("background", "left atrium"),
        module="volumes",
        size=(48, 64, 64),
    ),
}


def to_bytes(volume: np.ndarray) -> np.ndarray:
    """Grey values clipped to the volume's 0.5 and 99.5 percentile and mapped to 0..255."""
    low, high = np.percentile(volume, (0.5, 99.5))
    scaled = (volume.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
