"""Phantoms: the embedded cohorts. Seeded, made in seconds, exact ground truth, no download.

Each module ``phantoms/<name>.py`` defines ``VERSION`` (raised when its images change), ``NAMES``
(class names), ``SIZES`` (those offered for 2 and 3 dimensions), ``spacing(size, dims)`` in mm, and
``subject(size, dims, scanner, rng) -> images (N, C, *S), labels (N, *S), extras`` which draws
one subject: first the body, then the scanner's part, so that both scanners see the same bodies.
``physics.py`` is shared by all; the remaining modules hold parts of one phantom each.
"""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from lsseg_edu.data.cohort import Cohort

FEW = {"cardiac": 3, "brain": 1, "abdomen": 2, "nuclei": 2, "vessels": 1, "lesions": 5}
"""The phantoms, and the number of labelled subjects that makes each a few-label problem."""


def load(
    name: str, size: int = 64, dims: int = 2, subjects: int = 100, scanner="A", seed: int = 0
) -> Cohort:
    """One of the embedded cohorts, made on the first call and cached for the next.

    Subject ``i`` of a seed does not depend on how many subjects are asked for, and its anatomy
    does not depend on the scanner.

    Args:
        name: a key of :data:`FEW`.
        size: pixels along a side of the image.
        dims: 2 for slices, several per subject; 3 for volumes.
        subjects: number of subjects.
        scanner: ``"A"``, ``"B"``, or ``"AB"``: in turn, told apart by ``extras["scanner"]`` 0, 1.
        seed: another seed, other subjects.

    Raises:
        ValueError: no such name, size, dims or scanner, or no subjects; the message lists
            what there is.

    Example:
        >>> cohort = load("cardiac", subjects=10)
        >>> cohort.names
        ('background', 'right ventricle', 'myocardium', 'left ventricle')
    """
    phantom = _check(name, size, dims, subjects, scanner)
    version = f"v{phantom.VERSION}"
    file = _folder() / f"{name}-{size}-{dims}d-{subjects}-{scanner}-{seed}-{version}.npz"
    arrays = _read(file)
    if arrays is None:
        arrays = _make(phantom, size, dims, subjects, scanner, seed)
        _write(file, arrays)
    extras = {key[2:]: torch.from_numpy(v) for key, v in arrays.items() if key.startswith("x_")}
    return Cohort.from_arrays(
        arrays["images"].astype(np.float32),
        arrays["labels"].astype(np.int64),
        arrays["subjects"],
        phantom.NAMES,
        phantom.spacing(size, dims),
        name,
        unit=getattr(phantom, "UNIT", "mm"),
        extras=extras,
    )


def _check(name, size, dims, subjects, scanner):
    if name not in FEW:
        raise ValueError(f"There is no phantom {name!r}; there are {', '.join(FEW)}.")
    phantom = import_module(f"{__name__}.{name}")
    offered = "; ".join(f"{d}D at {', '.join(map(str, s))}" for d, s in phantom.SIZES.items())
    if size not in phantom.SIZES.get(dims, ()):
        raise ValueError(f"{name!r} has no size {size} in {dims}D; it has {offered} pixels.")
    if scanner not in ("A", "B", "AB"):
        raise ValueError(f"There is no scanner {scanner!r}; choose 'A', 'B' or 'AB' (both).")
    if subjects < 1:
        raise ValueError(f"{subjects} subjects cannot be made; ask for at least 1.")
    return phantom


def _make(phantom, size, dims, subjects, scanner, seed) -> dict[str, np.ndarray]:
    drawn = []
    for i in range(subjects):
        machine = scanner if scanner != "AB" else "AB"[i % 2]
        rng = np.random.default_rng((seed, i))
        images, labels, extras = phantom.subject(size, dims, machine, rng)
        n = len(labels)
        extras = {**extras, "scanner": np.full(n, "AB".index(machine))}
        drawn.append(
            {
                "images": _standardise(images),
                "labels": labels.astype(np.uint8),
                "subjects": np.full(n, i),
                **{f"x_{key}": np.asarray(value) for key, value in extras.items()},
            }
        )
    return {key: np.concatenate([one[key] for one in drawn]) for key in drawn[0]}


def _standardise(images) -> np.ndarray:
    """To float16 within its range; the cohort normalises again in float32."""
    axes = (0, *range(2, images.ndim))
    mean, std = images.mean(axes, keepdims=True), images.std(axes, keepdims=True)
    return ((images - mean) / std).astype(np.float16)


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LSSEG_EDU_CACHE") or Path(home) / "lsseg_edu")


def _read(file: Path):
    """The arrays of a cache file, or None where it is missing or damaged."""
    try:
        with np.load(file) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, arrays) -> None:
    """Write beside, then rename: a reader never sees half a file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as part:
            try:
                np.savez(part, **arrays)
            except BaseException:
                os.unlink(part.name)
                raise
        os.replace(part.name, file)
    except OSError as error:
        warnings.warn(f"The phantom was made but not cached: {error}.", stacklevel=3)
