"""scripts/notebooks.py: what is kept, what is not, and the student edition."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import execute
import notebooks

SOURCE = """\
# %% [markdown]
# # Title
# <!-- badge -->

# %% tags=["setup"]

# %%
a = 1
print(a)

# %%
print(a)

# %%
print(a)
"""
LAB = """\
# %%
def double(x):
    # BEGIN SOLUTION
    y = 2 * x
    return y
    # END SOLUTION


# %%
z = double(3)  # not a blank
# BEGIN SOLUTION
z += 1
# END SOLUTION
"""


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A book of one page, away from the real one."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/a/b}")
    path = tmp_path / "book" / "semi" / "page.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    return path


def store(source: Path) -> None:
    """Write the notebook as if it had been executed."""
    notebook = notebooks.generate(source)
    for count, cell in enumerate(filter(notebooks.is_code, notebook.cells), 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=cell.id)]
    notebook.metadata["lsseg_edu"] = {"code": notebooks.code_hash(notebook)}
    notebooks.write(notebook, source.with_suffix(".ipynb"))


def test_ids_are_unique_and_do_not_depend_on_the_cells_before(source):
    first = notebooks.generate(source)
    assert len({cell.id for cell in first.cells}) == len(first.cells)
    source.write_text(SOURCE.replace("# %% tags", "# %%\nb = 2\n\n# %% tags"))
    assert {cell.id for cell in first.cells} < {c.id for c in notebooks.generate(source).cells}


def test_an_edit_keeps_the_outputs_of_the_other_cells(source):
    store(source)
    source.write_text(SOURCE.replace("a = 1", "a = 2"))
    code = [cell for cell in notebooks.generate(source).cells if notebooks.is_code(cell)]
    assert [len(cell.outputs) for cell in code] == [0, 0, 1, 1]


def test_outputs_are_valid_until_code_changes(source):
    store(source)
    assert execute.valid(notebooks.generate(source))
    source.write_text(SOURCE.replace("# # Title", "# # Another title"))
    assert execute.valid(notebooks.generate(source))
    source.write_text(SOURCE.replace("a = 1", "a = 2"))
    assert not execute.valid(notebooks.generate(source))


def test_setup_and_badge_name_the_home(source):
    store(source)
    notebook = notebooks.generate(source)
    assert "git+https://github.com/a/b" in notebook.cells[1].source
    assert "github/a/b/blob/main/book/semi/page.ipynb" in notebook.cells[0].source


def test_check_finds_a_drift_and_writes_nothing(source, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "BOOK", source.parent.parent)
    assert notebooks.main([]) == 0 and notebooks.main(["--check"]) == 0
    before = source.with_suffix(".ipynb").read_text()
    source.write_text(SOURCE.replace("Title", "Another title"))
    assert notebooks.main(["--check"]) == 1
    assert "make notebooks" in capsys.readouterr().out
    assert source.with_suffix(".ipynb").read_text() == before


def test_student_edition_has_numbered_blanks_and_no_solution(source):
    source.write_text(LAB)
    first, second = notebooks.student(notebooks.generate(source)).cells
    assert first.source.splitlines()[0] == "def double(x):"
    assert first.source.splitlines()[1].startswith('    raise NotImplementedError("Blank 1:')
    assert len(first.source.splitlines()) == 2
    assert second.source.splitlines()[0] == "z = double(3)  # not a blank"
    assert second.source.splitlines()[1].startswith('raise NotImplementedError("Blank 2:')


def test_half_a_solution_is_refused(source):
    source.write_text(LAB.replace("    # END SOLUTION\n", "", 1))
    with pytest.raises(ValueError, match="pairs"):
        notebooks.student(notebooks.generate(source))


def test_an_unknown_page_is_refused(source):
    with pytest.raises(ValueError, match="No page 'semi/nothing'"):
        notebooks.sources(["semi/nothing"])


def test_stderr_and_size_are_complained_about(source):
    store(source)
    notebook = notebooks.generate(source)
    target = source.with_suffix(".ipynb")
    assert execute.complaints(notebook, target) == []
    notebook.cells[2].outputs[0].name = "stderr"
    notebook.cells[3].outputs[0].text = "x" * 401_000
    notebooks.write(notebook, target)
    size, words = execute.complaints(notebook, target)
    assert "at most 400" in size and "stderr" in words
