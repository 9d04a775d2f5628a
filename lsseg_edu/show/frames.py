"""Frames small enough for a page."""

from __future__ import annotations

import io

from lsseg_edu.show.picture import png

LADDER = (
    *((1, 85), (0.8, 75), (0.7, 65), (0.6, 60)),
    *((0.5, 30), (0.5, 15), (0.4, 15), (0.3, 10)),  # for the noisy pictures of a smoke run
)
"""Scale and WebP quality of the frames, from fine to coarse; the first that fits is taken."""

FEW = 32
"""Colours that suffice for the lines and letters of a chart."""


def encode(images, room: int) -> list[bytes]:
    """Encode Pillow images as files that together take at most ``room`` bytes in base64.

    Sharp PNGs if they fit. Else, frame by frame, the smaller of a PNG of few colours (which a
    chart will be) and a WebP (a photograph, whose classes keep their colours at any size).

    Raises:
        ValueError: even the coarsest frames are too large.
    """
    sharp = [png(image) for image in images]
    if _size(sharp) <= room:
        return sharp
    for scale, quality in LADDER:
        files = [_smaller(image, scale, quality) for image in images]
        if _size(files) <= room:
            return files
    raise ValueError(
        f"{len(images)} frames take {_size(files) // 1000} kB, more than the "
        f"{room // 1000} kB of a figure: give fewer values, or draw a smaller figure."
    )


def _size(files) -> int:
    return sum(4 * -(-len(file) // 3) for file in files)


def _smaller(image, scale, quality) -> bytes:
    small = image.resize([round(scale * side) for side in image.size])
    webp = io.BytesIO()
    small.save(webp, "WEBP", quality=quality)
    return min(webp.getvalue(), png(small, FEW), key=len)
