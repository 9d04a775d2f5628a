"""The set-up cell on a machine that has only what Colab has.

A fresh virtual environment sees the packages Colab brings (with what those need themselves) as
links into this environment, and nothing else: no lsseg_edu, no MONAI, no nilearn. In an empty
folder the cell must install the library from a wheel of this tree, leave torch and NumPy as they
were, and a chapter must then run.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ROOT / "book" / "semi" / "consistency.ipynb"
COLAB = ["torch", "numpy", "scipy", "pandas", "scikit-learn", "scikit-image", "matplotlib"]
COLAB += ["pillow", "ipywidgets", "ipykernel", "ipython", "joblib", "tqdm", "requests", "nibabel"]
ABSENT = {"lsseg-edu", "monai", "nilearn"}


def needed(names) -> dict[str, object]:
    """These distributions and all that they need, by normalised name."""
    found, todo = {}, list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found or name in ABSENT:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # wanted on another platform only
            continue
        lines = [line for line in found[name].requires or [] if "extra ==" not in line]
        todo += [re.match(r"[\w.-]+", line)[0] for line in lines]
    return found


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """The interpreter of such an environment."""
    folder = tmp_path_factory.mktemp("colab") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    here = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    for package in needed(COLAB).values():
        for file in package.files or []:
            top = Path(package.locate_file(file.parts[0]))
            if file.parts[0] not in ("..", "__pycache__") and top.exists():
                link = here / top.name
                if not link.exists():
                    link.symlink_to(top)
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this tree, built from a copy: a build leaves things behind."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "lsseg_edu", folder / "lsseg_edu")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, folder]
    subprocess.run(build, check=True)
    return next(folder.glob("lsseg_edu-*.whl"))


@pytest.mark.slow
def test_setup_cell_installs_beside_what_is_there(colab, wheel, tmp_path):
    code = [c.source for c in nbformat.read(CHAPTER, as_version=4).cells if c.cell_type == "code"]
    nothing = "assert not any(map(importlib.util.find_spec, ('lsseg_edu', 'monai', 'nilearn')))"
    probe = "print('as it was:', torch.__file__, numpy.__file__, numpy.__version__)"
    script = [
        *["import importlib.util, numpy, torch", nothing, probe],
        *code,
        *["import lsseg_edu", probe, "print(lsseg_edu.__file__)"],
    ]
    (tmp_path / "chapter.py").write_text("\n\n".join(script))
    bare = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = bare | {"LSSEG_EDU_SOURCE": str(wheel), "LSSEG_EDU_BUDGET": "smoke"}
    run = subprocess.run(
        [colab, "chapter.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.strip().splitlines()
    before, after = [line for line in lines if line.startswith("as it was:")]
    assert before == after, "torch or NumPy was touched"
    assert str(colab.parent.parent) in lines[-1]
