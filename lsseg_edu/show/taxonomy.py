"""The survey's taxonomy as a map: how the field is divided, and which chapter teaches what."""

from __future__ import annotations

from html import escape

from lsseg_edu import survey
from lsseg_edu.show.picture import CARD
from lsseg_edu.show.text import SECTIONS

FAMILIES = {
    "II": ("Foundations", "full labels", "#595959", "#E8E8E8"),
    "III": ("Semi-supervised", "masks for a few", "#00507D", "#D6E8F4"),
    "IV": ("Partially supervised", "a part of each mask", "#8A3C00", "#FBE3D2"),
    "V": ("Inaccurate labels", "masks with errors", "#00604A", "#D3EEE4"),
    "VI": ("Frontier", "beyond the families", "#7A3D66", "#F2DFEB"),
}
"""Roman number: name, what is given to learn from, ink and fill. Ink on fill has contrast > 6."""

NAMED = {
    **SECTIONS,
    "II": "Networks",
    "III-E": "Self-training, uncertainty",
    "IV-interactive": "Interactive and active",
    "VI": "New directions",
}
"""The sections' names where they must fit into a box."""

WIDTH, ROW, HEIGHT, GAP = 680, 34, 27, 14
ROOT, TRUNK, LEAF = (6, 112), (160, 174), (382, 290)
"""Left edge and width of the three columns, in pixels."""

STYLE = """
.lsseg-map text { font: 13.5px system-ui, sans-serif; }
.lsseg-map a { text-decoration: none; }
.lsseg-map a text:first-of-type { text-decoration: underline; text-underline-offset: 3px; }
.lsseg-map a:hover rect, .lsseg-map a:focus-visible rect { stroke-width: 3; }
.lsseg-map a:focus-visible { outline: none; }
"""


def taxonomy(up: str = "") -> Taxonomy:
    """The sections of the survey as a tree; each is a link to the chapter that begins it.

    The numbers tell how many of a section's techniques are in the library. A section without any
    is pale and no link.

    Args:
        up: the way from the page to the top of the book.
    """
    return Taxonomy(up)


class Taxonomy:
    """What :func:`taxonomy` returns. See there."""

    def __init__(self, up: str = ""):
        self.up = up

    def __repr__(self) -> str:
        return "\n".join(_sentence(section) for section in leaves())

    def _repr_html_(self) -> str:
        heights, bottom = _heights()
        drawn = [self._family(number, heights, bottom / 2) for number in FAMILIES]
        return (
            f'<figure class="lsseg-map" style="{CARD};overflow-x:auto" aria-label="Map of the '
            f'survey: the sections of its five parts, with links to their chapters">'
            f'<style>{STYLE}</style><svg viewBox="0 0 {WIDTH} {bottom}" role="group" '
            f'style="min-width:34rem;width:100%;max-width:{WIDTH}px;height:auto;display:block">'
            f"{_root(bottom / 2)}{''.join(drawn)}</svg></figure>"
        )

    def _family(self, number: str, heights: dict, middle: float) -> str:
        """A family, its branches, and its sections."""
        mine = {name: y for name, y in heights.items() if name.partition("-")[0] == number}
        centre = sum(mine.values()) / len(mine)
        name, given, ink, fill = FAMILIES[number]
        parts = [_branch(sum(ROOT), middle, TRUNK[0], centre, ink)]
        parts += [_branch(sum(TRUNK), centre, LEAF[0], y, ink) for y in mine.values()]
        parts += [
            _rect(TRUNK, centre, 44, ink, fill),
            _text(TRUNK[0] + 10, centre - 4, name, ink, "font-weight:600"),
            _text(TRUNK[0] + 10, centre + 13, given, ink, "font-size:12px"),
        ]
        return "".join(parts + [self._leaf(section, y, ink, fill) for section, y in mine.items()])

    def _leaf(self, section: str, y: float, ink: str, fill: str) -> str:
        page, built, total = state(section)
        sentence = escape(_sentence(section))
        shade = ink if page else "#6B6B6B"
        count = f"{built} of {total}" if page else f"{total} to come"
        small = "font-size:11px;text-anchor:end"
        start = _text(LEAF[0] + 10, y + 4.5, NAMED[section], shade)
        end = _text(sum(LEAF) - 10, y + 4, count, shade, small)
        if not page:
            box = _rect(LEAF, y, HEIGHT, "#B8B8B8", "#FFFFFF")
            return f'<g role="img" aria-label="{sentence}">{box}{start}{end}</g>'
        page, _, anchor = page.partition("#")
        box = _rect(LEAF, y, HEIGHT, ink, fill)
        return (
            f'<a href="{self.up}{page}.html#{anchor}" aria-label="{sentence}">'
            f"<title>{sentence}</title>{box}{start}{end}</a>"
        )


def leaves() -> list[str]:
    """The sections that teach techniques, in the survey's order."""
    return [section for section in SECTIONS if state(section)[2]]


def state(section: str) -> tuple[str, int, int]:
    """Where a section begins in the book (``""``: nowhere yet), techniques built, techniques."""
    mine = [row for row in survey.rows() if section in row.section.split(", ")]
    mine = [row for row in mine if row.priority in ("core", "variant", "beyond")]
    built = [row for row in mine if row.built]
    return (built[0].chapter if built else ""), len(built), len(mine)


def _sentence(section: str) -> str:
    page, built, total = state(section)
    where = f"{built} of {total} techniques built" if page else f"{total} techniques, to come"
    return f"{section.partition('-')[0]} {NAMED[section]}: {where}"


def _heights() -> tuple[dict[str, float], float]:
    """The y of each section's middle, with a gap between families, and of the bottom."""
    heights, y, family = {}, 0.0, ""
    for name in leaves():
        y += ROW + GAP * (name.partition("-")[0] != family)
        heights[name], family = y - ROW / 2, name.partition("-")[0]
    return heights, y + GAP


def _root(y: float) -> str:
    words = ("Segmenting", "with less")
    lines = [_text(ROOT[0] + 12, y - 4 + 18 * i, w, "#1A1A1A") for i, w in enumerate(words)]
    return _rect(ROOT, y, 52, "#1A1A1A", "#FFFFFF") + "".join(lines)


def _rect(column, y, height, ink, fill) -> str:
    return (
        f'<rect x="{column[0]}" y="{y - height / 2:.1f}" width="{column[1]}" height="{height}" '
        f'rx="5" fill="{fill}" stroke="{ink}" stroke-width="1.2"/>'
    )


def _text(x, y, words, ink, style="") -> str:
    return f'<text x="{x}" y="{y:.1f}" fill="{ink}" style="{style}">{escape(words)}</text>'


def _branch(x0, y0, x1, y1, ink) -> str:
    half = (x0 + x1) / 2
    way = f"M{x0} {y0:.1f}C{half} {y0:.1f} {half} {y1:.1f} {x1} {y1:.1f}"
    return f'<path d="{way}" fill="none" stroke="{ink}" stroke-width="1.2" opacity="0.6"/>'
