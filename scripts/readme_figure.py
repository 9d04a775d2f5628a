"""Draw ``book/_static/readme.png``: one heart of the phantoms under five kinds of supervision.

python scripts/readme_figure.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.patches import Rectangle

from lsseg_edu import show
from lsseg_edu.data import annotate, load

TARGET = Path(__file__).resolve().parent.parent / "book" / "_static" / "readme.png"
ALT = "A heart under five kinds of supervision: a mask, scribbles, points, boxes, a careless mask."


def main() -> None:
    cohort = load("cardiac", size=128, subjects=12)
    whole = (cohort.labels[:, 8:-8, 8:-8] > 0).sum((1, 2)) == (cohort.labels > 0).sum((1, 2))
    heart = (cohort.labels > 0).sum((1, 2)) * whole
    item = cohort.select([heart.argmax().item()])
    image, mask = item.images[0], item.labels
    kinds = {
        "a mask": mask,
        "scribbles": annotate.draw_scribbles(mask, width=2, seed=0),
        "points": annotate.draw_points(mask, where="centre", radius=3, seed=0)[0],
        "boxes": None,
        "a careless mask": annotate.rate(mask, "hasty", seed=1),
    }
    fig, axes = show.subplots(1, len(kinds), width=9, height=2.1)
    for ax, (title, labels) in zip(axes, kinds.items(), strict=True):
        show.overlay(ax, image, None if labels is None else labels[0], fill=True)
        ax.set_title(title)
    for k, top, left, bottom, right in annotate.draw_boxes(mask)[0].tolist():
        corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
        box = Rectangle(corner, *size, fill=False, edgecolor=show.colour(k), linewidth=1.6)
        axes[3].add_patch(box)
    show.figure(fig, alt=ALT).image.quantize(256, dither=0).save(TARGET, optimize=True)
    print(f"{TARGET.name}: {TARGET.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
