"""What must hold of the repository as a whole: one home, one frame, notebooks that are true."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import tomllib
from packaging.requirements import Requirement

import lsseg_edu

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import execute  # noqa: E402
import notebooks  # noqa: E402
import pages  # noqa: E402

PARTS = ("foundations", "semi", "partial", "inaccurate", "frontier")
SOURCES = notebooks.sources()
CHAPTERS = [source for source in SOURCES if source.parent.name in PARTS]
LABS = [source for source in SOURCES if source.parent.name == "labs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name(source: Path) -> str:
    return source.relative_to(notebooks.BOOK).with_suffix("").as_posix()


def tracked(*suffixes: str) -> list[Path]:
    """Files of the repository: what git knows and what it would be told, nothing ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / line for line in answer.stdout.splitlines()]
    return [path for path in paths if path.exists() and (path.suffix in suffixes or not suffixes)]


def text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def stored(source: Path):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def test_the_home_is_written_in_its_places_only():
    home = notebooks.home()
    assert PROJECT["project"]["urls"]["Homepage"] == home
    places = {"_config.yml", "pyproject.toml", "README.md", "CITATION.cff"}
    elsewhere = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix != ".ipynb" and home in text(path) and path.name not in places
    ]
    assert not elsewhere, f"{home} belongs in _config.yml and pyproject.toml, not in {elsewhere}"
    for path in ("README.md", "CITATION.cff"):
        assert home in text(ROOT / path), f"{path} names another home than _config.yml"


def test_one_version():
    version = PROJECT["project"]["version"]
    assert version == lsseg_edu.__version__
    assert f"version: {version}\n" in text(ROOT / "CITATION.cff")


def test_the_tested_set_is_within_the_loose_ranges():
    lines = [line for line in text(ROOT / "requirements.txt").splitlines() if "==" in line]
    pins = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines}
    project = PROJECT["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    for wanted in map(Requirement, [*project["dependencies"], *extras]):
        pin = pins.get(wanted.name.lower().replace("_", "-"))
        assert pin is not None, f"requirements.txt does not pin {wanted.name}"
        assert wanted.specifier.contains(pin), f"{wanted} does not admit the pin {pin}"


def test_no_path_of_somebodys_machine():
    roots = "|".join(["home/[a-z]", "root/", "Users/[A-Za-z]", "work/", "tmp/[a-z]"])
    pattern = re.compile(rf"(?<![\w.:/~-])/({roots})")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        for match in [pattern.search(text(path))]
        if match
    ]
    assert not found


def test_files_and_lines_are_short():
    code = [path for path in tracked(".py") if notebooks.BOOK not in path.parents]
    for path in code:
        lines = text(path).splitlines()
        room = path.relative_to(ROOT).parts[0]
        assert room != "lsseg_edu" or len(lines) <= 200, f"{path} has {len(lines)} lines"
        long = [i for i, line in enumerate(lines, 1) if len(line) > 100]
        assert not long, f"{path}: lines {long} are longer than 100 characters"


def test_every_module_imports():
    for module in pkgutil.walk_packages(lsseg_edu.__path__, "lsseg_edu."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_the_api_page_shows_every_room():
    page = text(notebooks.BOOK / "api.md")
    rooms = [m.name for m in pkgutil.walk_packages(lsseg_edu.__path__, "lsseg_edu.") if m.ispkg]
    missing = [room for room in rooms if f"automodule:: {room}\n" not in page]
    assert not missing


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "lsseg_edu.study"],
        ["scripts/notebooks.py"],
        ["scripts/execute.py"],
    ],
    ids=" ".join,
)
def test_entry_point_answers_for_help(command):
    run = [sys.executable, *command, "--help"]
    answer = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("usage")


def test_every_page_of_the_toc_has_a_source_and_every_source_is_in_the_toc():
    listed = [page.removeprefix("book/") for page in pages.pages()]
    assert len(listed) == len(set(listed))
    for page in listed:
        assert any((notebooks.BOOK / (page + end)).exists() for end in (".md", ".py")), page
    assert not {name(source) for source in SOURCES} - set(listed)


def test_notebooks_are_in_step_with_their_sources(capsys):
    assert notebooks.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_stored_outputs_are_valid(source):
    notebook = stored(source)
    assert execute.valid(notebook), "run `make execute`"
    assert notebook.metadata["lsseg_edu"]["budget"] in ("laptop", "gpu")
    assert not execute.complaints(notebook, source.with_suffix(".ipynb"))
    first = next(cell for cell in notebook.cells if notebooks.is_code(cell))
    assert notebooks.tagged(first, "setup"), "the first code cell must be the set-up cell"
    assert first.source == notebooks.SETUP.format(home=notebooks.home())


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_output_pictures_have_alt_text(source):
    for cell in filter(notebooks.is_code, stored(source).cells):
        for output in cell.outputs:
            for kind in ("image/png", "image/jpeg", "image/svg+xml"):
                if kind in output.get("data", {}):
                    alt = output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt")
                    html = output.data.get("text/html", "")
                    assert alt or "alt=" in html, f"a picture without alt text: {cell.source}"


@pytest.mark.parametrize("source", CHAPTERS, ids=name)
def test_chapter_has_the_frame(source):
    notebook = notebooks.generate(source)
    prose = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    code = "\n\n".join(c.source for c in notebook.cells if notebooks.is_code(c))
    assert prose.startswith("# ")
    assert notebooks.BADGE in text(source)
    assert re.search(r"you will learn", prose, re.IGNORECASE)
    assert re.search(r"you should know", prose, re.IGNORECASE)
    if source.parent.name != "foundations":
        assert re.search(r"^## .*scoreboard", prose, re.IGNORECASE | re.MULTILINE)
    assert re.search(r"^## Exercises", prose, re.MULTILINE)
    assert re.search(r"^## Take[ -]?away", prose, re.MULTILINE | re.IGNORECASE)
    assert prose.count("{dropdown} Solution") >= 3, "three exercises with folded solutions"
    assert prose.count("{dropdown} Hint") >= 3, "three exercises with folded hints"
    called = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    calls = {getattr(func, "attr", getattr(func, "id", "")) for func in called}
    assert "explore" in calls, "at least one figure with controls"
    assert "quiz" in calls


@pytest.mark.parametrize("source", LABS, ids=name)
def test_student_edition_stops_at_its_first_blank(source, monkeypatch):
    monkeypatch.setenv("LSSEG_EDU_BUDGET", "smoke")
    path = source.with_name(f"{source.stem}_student.ipynb")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.outputs for cell in notebook.cells if notebooks.is_code(cell))
    client = execute.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    first = next(output for output in outputs if output.output_type == "error")
    assert first.ename == "NotImplementedError"
    assert first.evalue.startswith("Blank 1:")
