"""Assert that every page of ``_toc.yml`` was built, and no other; say where the site is."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"


def pages() -> list[str]:
    """The pages of the book, in order, as paths without a suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def main() -> int:
    wanted = set(pages())
    built = {
        path.relative_to(SITE).with_suffix("").as_posix() for path in SITE.glob("book/**/*.html")
    }
    for page in sorted(wanted - built):
        print(f"{page} is in _toc.yml but was not built.")
    for page in sorted(built - wanted):
        print(f"{page} was built but is not in _toc.yml.")
    if wanted != built:
        return 1
    print(f"{len(built)} pages. Open {SITE / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
