"""Volumes of the hippocampus and of the left atrium, from the Decathlon and from LA 2018."""

from __future__ import annotations

import tarfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from lsseg_edu.data.cohort import Cohort
from lsseg_edu.data.public.download import download
from lsseg_edu.data.public.sources import SOURCES, to_bytes

MILLIMETRES = {"hippocampus": (1.0, 1.0, 1.0)}
"""Sets whose volumes all have this pixel size; in the others it varies, so they count pixels."""

LAST_OF_TRAINING, ONE_MORE = "TDDI6L3Y0L9VVFP9MNFS", "UZUZZT2W9IUSHL6ASOX3"
"""The public 80/20 split of LA 2018 (github.com/yulequan/UA-MT): in order of their names, cases up
to the one and the other train, the rest test."""


def cohort(name: str, arrays: dict[str, np.ndarray], size=None) -> Cohort:
    """Volumes ``(D, H, W)``: z, y, x of the prepared arrays, which are stored as x, y, z.

    ``extras["split"]`` of LA is 0 (train) or 2 (test).
    """
    stored = arrays["images"].transpose(0, 3, 2, 1)
    size = tuple(size or stored.shape[1:])
    if size != stored.shape[1:]:
        raise ValueError(
            f"{name!r} comes with {stored.shape[1:]} voxels and cannot be had with {size}: "
            f"leave size away."
        )
    extras = {}
    if "is_train" in arrays:
        extras["split"] = torch.from_numpy(np.where(arrays["is_train"], 0, 2))
    return Cohort.from_arrays(
        stored,
        arrays["labels"].transpose(0, 3, 2, 1),
        names=SOURCES[name].names,
        spacing=MILLIMETRES.get(name, (1.0, 1.0, 1.0)),
        name=name,
        unit="mm" if name in MILLIMETRES else "px",
        extras=extras,
    )


def prepare(name: str, root: Path) -> dict[str, np.ndarray]:
    """Read the volumes as published: uint8 arrays ``(N, x, y, z)``.

    The hippocampus is centred in its 1 mm box, without resampling. The others are whole scans of
    different sizes, resampled to one shape, images linearly with anti-aliasing and labels by
    nearest neighbour: no label tells where to crop. Grey values are clipped to the 0.5 and 99.5
    percentile of their volume and mapped to 0..255.
    """
    files = _decathlon(name, root) if SOURCES[name].msd else _atria(name, root)
    shape, fit = SOURCES[name].size[::-1], _centred if name == "hippocampus" else _resized
    images = [fit(to_bytes(_read(image)), shape, 1) for image, _ in files]
    labels = [fit(_read(label), shape, 0) for _, label in files]
    arrays = {"images": np.stack(images), "labels": np.stack(labels).astype(np.uint8)}
    if name == "la":
        cases = np.array([Path(image).parent.name for image, _ in files])
        arrays["is_train"] = (cases <= LAST_OF_TRAINING) | (cases == ONE_MORE)
        arrays["labels"] = np.minimum(arrays["labels"], 1)
    return arrays


def _read(file: str) -> np.ndarray:
    """A volume, its axes towards the right, the front and the head where the file knows them."""
    if file.endswith(".nrrd"):
        return _nrrd().read(file)[0]
    import nibabel

    return np.asanyarray(nibabel.as_closest_canonical(nibabel.load(file)).dataobj)


def _nrrd():
    try:
        return import_module("nrrd")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Reading .nrrd files takes `pip install pynrrd`.") from error


def _centred(volume: np.ndarray, shape, order: int) -> np.ndarray:
    """Padded with 0, or cropped, by equal amounts at both ends of each axis."""
    for axis, (have, want) in enumerate(zip(volume.shape, shape, strict=True)):
        more, less = max(want - have, 0), max(have - want, 0)
        pad = [(0, 0)] * volume.ndim
        pad[axis] = (more // 2, more - more // 2)
        volume = np.pad(volume.take(range(less // 2, less // 2 + min(have, want)), axis), pad)
    return volume


def _resized(volume: np.ndarray, shape, order: int) -> np.ndarray:
    """Resampled linearly with anti-aliasing (order 1) or by nearest neighbour (order 0)."""
    from skimage.transform import resize

    smooth = {"order": order, "anti_aliasing": order > 0, "preserve_range": True}
    return resize(volume, shape, mode="edge", **smooth).round().astype(np.uint8)


def _decathlon(name: str, root: Path) -> list[tuple[str, str]]:
    """The training files of a Decathlon task, downloaded unless they are there."""
    from monai.apps import DecathlonDataset

    task = SOURCES[name].msd
    if not (root / task / "dataset.json").exists():
        checksum = f"md5:{DecathlonDataset.md5[task]}"
        archive = download(DecathlonDataset.resource[task], root / f"{task}.tar", checksum)
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
    data = DecathlonDataset(root, task, "training", val_frac=0, cache_num=0, progress=False)
    return sorted((str(pair["image"]), str(pair["label"])) for pair in data.data)


def _atria(name: str, root: Path) -> list[tuple[str, str]]:
    """The training files of LA 2018, in order of their names."""
    images = sorted((root / name).rglob("lgemri.nrrd"), key=lambda file: file.parent.name)
    if not images:
        raise FileNotFoundError(
            f"LA 2018 is not in {root / name} and cannot be downloaded without its owners' leave: "
            f"{SOURCES[name].how}"
        )
    return [(str(image), str(image.with_name("laendo.nrrd"))) for image in images]
