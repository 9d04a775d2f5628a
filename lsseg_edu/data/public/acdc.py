"""ACDC: cine MR slices of the heart, in a region found without looking at a label."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data.cohort import Cohort
from lsseg_edu.data.public.sources import SOURCES, to_bytes

SIDE, REGION = 128, 80
SMOOTH = 8.0
"""Standard deviation in pixels of 128: about a heart's radius."""
VALID = (2, 19, 28, 30, 39, 45, 78, 82, 85, 87)
TEST = (1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93)
"""Patients of the public split (github.com/HiLab-git/SSL4MIS); the other 70 train."""


def cohort(name: str, arrays: dict[str, np.ndarray], size: int | None = None) -> Cohort:
    """Slices of ``size`` pixels: below 128 the moving region, at 128 the whole slice.

    Images are resampled linearly with anti-aliasing, labels and scribbles by nearest neighbour.
    Extras: ``frame`` (0 end-diastole, 1 end-systole), ``volume`` (a number for each patient and
    frame), ``position`` (of the slice in its stack, 0 to 1), ``split`` (0 train, 1 validation,
    2 test) and, where the source has them, the expert's ``scribbles``.
    """
    size = size or 64
    if not isinstance(size, int) or not 16 <= size <= SIDE:
        raise ValueError(f"ACDC slices can be 16 to {SIDE} pixels wide, not {size}.")
    patient, frame = (arrays[key].astype(np.int64) for key in ("patient_id", "frame"))
    corner = None if size == SIDE else region(arrays["images"], patient, frame)
    extras = {
        "frame": torch.from_numpy(frame),
        "volume": torch.from_numpy(2 * patient + frame),
        "position": torch.from_numpy(_position(arrays, 2 * patient + frame)),
        "split": torch.from_numpy(np.isin(patient, VALID) + 2 * np.isin(patient, TEST)),
    }
    if "scribbles" in arrays:
        extras["scribbles"] = _cut(arrays["scribbles"], corner, size)
    return Cohort.from_arrays(
        _cut(arrays["images"], corner, size, smooth=True).numpy(),
        _cut(arrays["labels"], corner, size).numpy(),
        patient,
        SOURCES["acdc"].names,
        name=name,
        extras=extras,
    )


def region(images: np.ndarray, patient: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Upper left corners ``(N, 2)`` of the 80x80 region in which most moves, one per patient.

    The heart is what moves between end-diastole and end-systole: the region is centred on the
    peak of the mean absolute difference of the two frames, smoothed over a heart's width.
    """
    corner = np.zeros((len(images), 2), int)
    for one in np.unique(patient):
        rest, squeezed = (images[(patient == one) & (frame == f)] for f in (0, 1))
        n = min(len(rest), len(squeezed))
        moved = np.abs(rest[:n].astype(np.float32) - squeezed[:n]).mean(0)
        moved = ndimage.gaussian_filter(moved, SMOOTH)
        peak = np.array(np.unravel_index(moved.argmax(), moved.shape))
        corner[patient == one] = np.clip(peak - REGION // 2, 0, SIDE - REGION)
    return corner


def _cut(stack: np.ndarray, corner, size: int, smooth: bool = False) -> Tensor:
    """Crop ``(N, 128, 128)`` to each item's region and resample it to ``(N, size, size)``."""
    if corner is not None:
        rows, columns = (corner[:, axis, None] + np.arange(REGION) for axis in (0, 1))
        stack = stack[np.arange(len(stack))[:, None, None], rows[:, :, None], columns[:, None]]
    return _resample(torch.from_numpy(np.ascontiguousarray(stack)), size, smooth)


def _resample(stack: Tensor, size: int, smooth: bool) -> Tensor:
    """``(N, H, W)`` to ``(N, size, size)``: linear with anti-aliasing, or nearest neighbour."""
    if smooth:
        shape = {"size": (size, size), "mode": "bilinear", "antialias": True}
        return F.interpolate(stack[:, None].float(), **shape)[:, 0]
    return F.interpolate(stack[:, None], (size, size), mode="nearest-exact")[:, 0]


def prepare(name: str, root: Path) -> dict[str, np.ndarray]:
    """Read the database as the organisers publish it, at 128x128 pixels.

    Each slice is cut to the central square of its shorter side and resampled, images linearly with
    anti-aliasing, labels by nearest neighbour; grey values are clipped to the 0.5 and 99.5
    percentile of their volume and mapped to 0..255.
    """
    found = sorted((root / name).rglob("patient*_frame*_gt.nii.gz"))
    if not found:
        raise FileNotFoundError(
            f"ACDC is not in {root / name} and cannot be downloaded without its owners' leave: "
            f"{SOURCES[name].how}"
        )
    parts: dict[str, list] = {}
    for file in found:
        for key, value in _volume(file).items():
            parts.setdefault(key, []).append(value)
    return {key: np.concatenate(values) for key, values in parts.items()}


def _volume(file: Path) -> dict[str, np.ndarray]:
    """The slices of one patient and frame; ``file`` holds their labels."""
    import nibabel

    patient, frame = (int(part[-n:]) for part, n in zip(file.name.split("_"), (3, 2), strict=False))
    diastole = re.search(r"ED:\s*(\d+)", (file.parent / "Info.cfg").read_text())
    stacks = {"labels": file, "images": file.with_name(file.name.replace("_gt", ""))}
    stacks = {key: np.asanyarray(nibabel.load(f).dataobj).T for key, f in stacks.items()}
    n = len(stacks["labels"])
    return {
        "images": _square(to_bytes(stacks["images"]), smooth=True),
        "labels": _square(stacks["labels"].astype(np.uint8)),
        "patient_id": np.full(n, patient, np.int16),
        "frame": np.full(n, int(diastole is None or frame != int(diastole[1])), np.uint8),
        "slice_index": np.arange(n, dtype=np.int16),
    }


def _square(stack: np.ndarray, smooth: bool = False) -> np.ndarray:
    """The central squares of ``(n, H, W)``, resampled to 128x128."""
    side = min(stack.shape[1:])
    top, left = ((n - side) // 2 for n in stack.shape[1:])
    square = np.ascontiguousarray(stack[:, top : top + side, left : left + side])
    return _resample(torch.from_numpy(square), SIDE, smooth).round().byte().numpy()


def _position(arrays, volume: np.ndarray) -> np.ndarray:
    """Where each slice lies in its stack, from 0 to 1."""
    index = arrays["slice_index"].astype(np.float32)
    last = np.zeros(volume.max() + 1, np.float32)
    np.maximum.at(last, volume, index)
    return index / np.maximum(last[volume], 1)
