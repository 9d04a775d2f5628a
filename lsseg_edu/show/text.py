"""Code and tables as Markdown outputs, which every reader of a notebook sets in its own style."""

from __future__ import annotations

import ast
import inspect
import textwrap

from IPython.display import Markdown

from lsseg_edu import survey


def code(thing) -> Markdown:
    """The source of a class or function as it stands in the library, without its docstrings.

    A chapter explains what it shows; the docstring says the same to those who come from the code.
    """
    source = textwrap.dedent(inspect.getsource(thing))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            text = node.body[0]
            lines[text.lineno - 1 : text.end_lineno] = [None] * (text.end_lineno - text.lineno + 1)
    return Markdown("```python\n" + "\n".join(x for x in lines if x is not None).strip() + "\n```")


SCORES = {"dice": "Dice", "f1": "F1", "pq": "PQ", "aji": "AJI", "last": "last Dice"}
"""What the results call a score, and what readers call it."""


def scoreboard(lines) -> Markdown:
    """Lines of :func:`lsseg_edu.study.summary` as a table, every number with its spread.

    HD95 stands beside Dice; where the lines are compared by another column, Dice does.
    """
    lines = list(lines)
    if not lines:
        return Markdown("*Nothing has been run under this protocol yet.*")
    column = lines[0].column
    beside = "HD95" if column == "dice" else "Dice"
    rows = [
        f"| method | test {SCORES[column]}, mean [95 % interval] | runs | difference to baseline | "
        f"gap closed | {beside} | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        change = "baseline"
        if line.difference is not None:
            d = line.difference
            change = f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {line.verdict}"
            change = f"{d.mean:+.3f} (one run)" if line.seeds == 1 else change
        closed = "" if line.closed is None else f"{line.closed:.0%}"
        other = f"{line.hd95:.1f}" if column == "dice" else f"{line.dice.mean:.3f}"
        rows.append(
            f"| {survey.title(line.method)} | {line.score} | {line.seeds} | {change} | {closed} "
            f"| {other} | {line.seconds / 60:.1f} |"
        )
    return Markdown("\n".join(rows))


SECTIONS = {
    "I": "Introduction",
    "II": "Foundations",
    "III-A": "Transfer learning",
    "III-B": "Data augmentation",
    "III-C": "Prior knowledge",
    "III-D": "Curriculum learning",
    "III-E": "Self-training and uncertainty",
    "III-F": "Co-training",
    "III-G": "Consistency",
    "III-H": "Self-supervision",
    "III-I": "Adversarial learning",
    "III-J": "Few-shot segmentation",
    "III-K": "Related settings",
    "IV-slices": "Sparse slices",
    "IV-regions": "Regions and scribbles",
    "IV-interactive": "Interaction and active learning",
    "IV-points": "Points",
    "IV-partial-labels": "Missing classes",
    "V-noisy": "Noisy labels",
    "V-boxes": "Boxes",
    "VI": "The frontier",
}
"""The survey's sections, in its order, in this book's words."""


def survey_table(up: str = "../") -> Markdown:
    """Every row of the survey by section, linked to its chapter where it is built.

    Args:
        up: the way from the page to the top of the book.
    """
    text = []
    for section, title in SECTIONS.items():
        rows = [r for r in survey.rows() if r.section.split(",")[0] == section]
        text.append(f"\n**{section.partition('-')[0]}: {title}**\n")
        text.append("| technique | what it does | state |\n|---|---|---|")
        text.extend(f"| {_link(row, up)} | {row.what} | {_state(row)} |" for row in rows)
    return Markdown("\n".join(text))


def _link(row, up: str) -> str:
    if not row.built:
        return row.name
    page, _, section = row.chapter.partition("#")
    return f"[{row.name}]({up}{page}.html#{section})"


def _state(row) -> str:
    if row.built:
        return f"built; simplified: {row.simplified}" if row.simplified else "built"
    return "context" if row.priority == "mention" else "to come"
