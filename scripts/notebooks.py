"""Write the notebooks of the book from their sources.

``book/**/x.py`` (py:percent) gives ``x.ipynb`` beside it; a lab gives a student edition as well.
Cells whose code did not change keep their outputs, so a notebook shrinks only by what is stale.

    python scripts/notebooks.py [PAGE ...]          write
    python scripts/notebooks.py --check [PAGE ...]  fail if a notebook differs from its source

``PAGE`` is a page as ``_toc.yml`` calls it (``semi/consistency``), or a path; default: all.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
BADGE = "<!-- badge -->"
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SETUP = """\
# Finds the library; on Colab installs it, and leaves the torch and NumPy that are there alone.
import importlib.util, os, subprocess, sys
needed = ("lsseg_edu", "monai", "nilearn", "nibabel")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if "lsseg_edu" in missing:
    missing[0] = os.environ.get("LSSEG_EDU_SOURCE", "git+{home}")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*install, *missing, "lazy_loader>=0.6"], check=True)"""
SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)# BEGIN SOLUTION.*?# END SOLUTION[^\n]*$", re.MULTILINE | re.DOTALL
)


def home() -> str:
    """Where the project lives: ``_config.yml`` says it, everything else asks here."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return config["repository"]["url"]


def sources(pages: list[str] = ()) -> list[Path]:
    """The sources of these pages, of all by default.

    Raises:
        ValueError: a page that has no source.
    """
    if not pages:
        return sorted(path for path in BOOK.rglob("*.py") if "_static" not in path.parts)
    found = []
    for page in pages:
        stem = re.sub(r"(\.py|\.ipynb)$", "", str(page))
        places = [Path(stem + ".py"), ROOT / (stem + ".py"), BOOK / (stem + ".py")]
        source = next((place.resolve() for place in places if place.exists()), None)
        if source is None:
            raise ValueError(f"No page {page!r}: there is no book/{stem}.py.")
        found.append(source)
    return found


def is_code(cell) -> bool:
    return cell.cell_type == "code"


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def code_hash(notebook) -> str:
    """Fingerprint of the code that made the outputs; the set-up cell is no part of it."""
    code = [c.source for c in notebook.cells if is_code(c) and not tagged(c, "setup")]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def _name_cells(cells) -> None:
    """Ids from the cells' own text: an edit changes one id, an insertion changes none."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def _minutes(seconds: float) -> str:
    return "under a minute" if seconds < 60 else f"{round(seconds / 60)} min"


def badge(source: Path, run: dict) -> str:
    """The line below a title: Colab, and how long it takes where that was measured."""
    page = source.relative_to(ROOT).with_suffix("").as_posix()
    colab = home().replace("github.com", "colab.research.google.com/github") + "/blob/main"
    parts = [f"[Open in Colab]({colab}/{page}.ipynb)"]
    if source.parent.name == "labs":
        parts = [
            f"[Student edition in Colab]({colab}/{page}_student.ipynb)",
            f"[Solution in Colab]({colab}/{page}.ipynb)",
        ]
    measured = run.get("measured", {})
    for budget, machine in (("laptop", "on a 2-core laptop"), ("gpu", "on a GPU")):
        if budget in measured:
            parts.append(f"{_minutes(measured[budget]['seconds'])} {machine}")
    return " · ".join(parts)


def generate(source: Path):
    """The notebook of a source, with the outputs that are stored and still belong to it."""
    target = source.with_suffix(".ipynb")
    old = nbformat.read(target, as_version=4) if target.exists() else nbformat.v4.new_notebook()
    run = dict(old.metadata.get("lsseg_edu", {}))
    new = jupytext.read(source, fmt="py:percent")
    new.metadata = nbformat.from_dict({**KERNEL, **({"lsseg_edu": run} if run else {})})
    new.nbformat, new.nbformat_minor = 4, 5
    _name_cells(new.cells)
    kept = {cell.id: cell for cell in old.cells if is_code(cell)}
    for cell in new.cells:
        if tagged(cell, "setup"):
            cell.source = SETUP.format(home=home())
            cell.metadata["tags"] = ["setup", "hide-input"]
        elif is_code(cell) and cell.id in kept:
            cell.outputs = kept[cell.id].outputs
            cell.execution_count = kept[cell.id].execution_count
        elif not is_code(cell):
            cell.source = cell.source.replace(BADGE, badge(source, run))
    return new


def student(notebook):
    """The student edition: every solution replaced by a numbered blank, nothing executed."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("lsseg_edu", None)
    blanks = iter(range(1, 1000))

    def blank(match) -> str:
        if match[0].count("BEGIN SOLUTION") > 1:
            raise ValueError("BEGIN SOLUTION and END SOLUTION must come in pairs.")
        message = f"Blank {next(blanks)}: your code instead of this line."
        return f'{match["indent"]}raise NotImplementedError("{message}")'

    for cell in notebook.cells:
        if is_code(cell):
            cell.source = SOLUTION.sub(blank, cell.source)
            cell.outputs, cell.execution_count = [], None
            if "SOLUTION" in cell.source:
                raise ValueError("BEGIN SOLUTION and END SOLUTION must come in pairs.")
    return notebook


def editions(source: Path) -> dict[Path, object]:
    """Every notebook that a source stands for."""
    notebook = generate(source)
    made = {source.with_suffix(".ipynb"): notebook}
    if source.parent.name == "labs":
        made[source.with_name(f"{source.stem}_student.ipynb")] = student(notebook)
    return made


def write(notebook, target: Path) -> None:
    """Write in one piece: a notebook is the old one or the new one, never half of it."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    nbformat.validate(notebook)
    draft.write_text(_text(notebook), encoding="utf-8")
    draft.replace(target)


def _text(notebook) -> str:
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    args = parser.parse_args(argv)
    drifted = 0
    for source in sources(args.pages):
        for target, notebook in editions(source).items():
            name = target.relative_to(ROOT)
            if target.exists() and target.read_text(encoding="utf-8") == _text(notebook):
                continue
            drifted += 1
            if args.check:
                print(f"{name} differs from {source.name}: run `make notebooks`.")
            else:
                write(notebook, target)
                print(f"wrote {name}")
    return 1 if args.check and drifted else 0


if __name__ == "__main__":
    sys.exit(main())
