"""The picture of the survey: nothing is missing from it, and its links lead somewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree

from lsseg_edu import show, survey
from lsseg_edu.show.taxonomy import FAMILIES, LEAF, NAMED, TRUNK, leaves, state

BOOK = Path(__file__).parent.parent / "book"


def svg():
    text = re.search(r"<svg.*</svg>", show.taxonomy()._repr_html_(), re.DOTALL).group()
    return ElementTree.fromstring(text)


def test_every_technique_lies_in_a_section_of_the_map():
    drawn = set(leaves())
    assert {name.partition("-")[0] for name in drawn} == set(FAMILIES)
    for row in survey.rows():
        if row.priority in ("core", "variant", "beyond"):
            assert drawn & set(row.section.split(", ")), f"{row.id} is nowhere on the map"


def test_built_sections_are_links_to_pages_that_exist_and_the_others_are_not():
    links = {a.get("aria-label"): a.get("href") for a in svg().iter("a")}
    built = [section for section in leaves() if state(section)[1]]
    assert len(links) == len(built) > 0
    for href in links.values():
        page, _, anchor = href.partition(".html#")
        assert anchor
        assert (BOOK / f"{page}.py").exists(), href


def test_every_section_is_named_for_those_who_cannot_see_it():
    labelled = [node.get("aria-label") for node in svg().iter() if node.get("aria-label")]
    assert len(labelled) == len(leaves())
    assert all(re.search(r"\d+ (of \d+ )?techniques", label) for label in labelled)


def test_words_stay_inside_their_boxes():
    """About 7.2 px a letter at 13.5 px; a name and its count share a box."""
    for section in leaves():
        _, built, total = state(section)
        assert 7.2 * len(NAMED[section]) + 6 * len(f"{built} of {total}") + 30 < LEAF[1]
    assert all(7.6 * len(name) + 20 < TRUNK[1] for name, *_ in FAMILIES.values())
