"""Real public data, as the same cohorts.

``load("acdc")`` looks for a prepared file ``acdc.npz``, first in the folder that the environment
variable ``LSSEG_EDU_DATA`` names, then in ``root``. Where there is none it reads the data as their
owners publish them, downloading what may be downloaded, and keeps the prepared file in ``root``.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np

from lsseg_edu.data.cohort import Cohort
from lsseg_edu.data.public.download import download
from lsseg_edu.data.public.sources import SOURCES, Source
from lsseg_edu.data.task import Task

__all__ = ["SOURCES", "Source", "about", "download", "load", "split", "task"]


def load(name: str, root=None, size=None) -> Cohort:
    """A public data set as a cohort.

    Args:
        name: ``"acdc"``, ``"hippocampus"``, ``"heart"`` or ``"la"``.
        root: where downloads, and the prepared file, are kept; by default ``public`` in the
            library's cache folder (``LSSEG_EDU_CACHE``, else ``~/.cache/lsseg_edu``).
        size: pixels along a side of ``acdc``: by default 64, the heart's region; 128 is the whole
            slice. Volumes come in one size.

    Raises:
        ValueError: an unknown name, a size that does not fit, a damaged file.
        FileNotFoundError: the data must be asked for by hand; the message says where.
        ConnectionError: a download failed; the message says why.
    """
    source = _source(name)
    module = import_module(f"{__name__}.{source.module}")
    return module.cohort(name, _arrays(name, Path(root) if root else _folder(), module), size)


def split(cohort: Cohort) -> dict:
    """The official split, as the ``valid`` and ``test`` of :meth:`Task.split`.

    ACDC: 70/10/20 patients, the split of public semi-supervised benchmarks. LA: 80/20, with no
    validation part. Elsewhere there is none: a tenth of the subjects validate, a fifth test.
    """
    if "split" not in cohort.extras:
        n = len(cohort.subjects.unique())
        return {"valid": n // 10, "test": n // 5}
    part = cohort.extras["split"]
    return {
        "valid": cohort.subjects[part == 1].unique(),
        "test": cohort.subjects[part == 2].unique(),
    }


def task(name: str, labelled: int | None = None, seed: int = 0, **kwargs) -> Task:
    """:func:`load` (with ``kwargs``) and :meth:`Task.split` by the official :func:`split`.

    Example:
        >>> from lsseg_edu.data import public
        >>> task = public.task("acdc", labelled=3, seed=0)  # doctest: +SKIP
    """
    cohort = load(name, **kwargs)
    return Task.split(cohort, labelled, seed=seed, **split(cohort))


def about(name: str) -> str:
    """What a data set is, its licence, what to cite, and how to get it."""
    source = _source(name)
    return (
        f"{source.title}\nLicence: {source.licence}\nCite: {source.citation}\n"
        f"How to get it: {source.how}"
    )


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"There is no public data set {name!r}; there are {', '.join(SOURCES)}.")
    return SOURCES[name]


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LSSEG_EDU_CACHE") or Path(home) / "lsseg_edu") / "public"


def _arrays(name: str, root: Path, module) -> dict[str, np.ndarray]:
    """The prepared arrays: of the mirror, of an earlier call, or made now."""
    folders = [Path(folder) for folder in (os.environ.get("LSSEG_EDU_DATA"), root) if folder]
    for file in (folder / f"{name}.npz" for folder in folders):
        if file.exists():
            return _read(file)
    print(about(name))
    arrays = module.prepare(name, root)
    _keep(arrays, root / f"{name}.npz")
    return arrays


def _keep(arrays, file: Path) -> None:
    """Write beside, then rename: a reader never sees half a file."""
    part = file.with_suffix(f".{os.getpid()}.npz")
    try:
        np.savez_compressed(part, **arrays)
        os.replace(part, file)
    except OSError as error:
        warnings.warn(f"{file} cannot be kept ({error}): it is made again next time.", stacklevel=4)


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file) as stored:
            return dict(stored)
    except Exception as error:
        raise ValueError(f"{file} cannot be read ({error}): remove it and load again.") from error
