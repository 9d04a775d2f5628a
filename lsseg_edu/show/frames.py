"""Frames small enough for a page."""

from __future__ import annotations

import io

from lsseg_edu.show.picture import png

LADDER = (
    *((1, 85), (0.8, 75), (0.7, 65), (0.6, 60)),
    *((0.5, 30), (0.5, 15), (0.4, 15), (0.3, 10)),  # for the noisy pictures of a smoke run
)
"""Scale and WebP quality of the frames, from fine to coarse; the first that fits is taken."""


def encode(images, room: int) -> list[bytes]:
    """Encode Pillow images as files that together take at most ``room`` bytes in base64.

    Sharp PNGs if they fit, else WebP, which keeps the colours of the classes at any size.

    Raises:
        ValueError: even the coarsest frames are too large.
    """
    sharp = [png(image) for image in images]
    if _size(sharp) <= room:
        return sharp
    for scale, quality in LADDER:
        files = [_webp(image, scale, quality) for image in images]
        if _size(files) <= room:
            return files
    raise ValueError(
        f"{len(images)} frames take {_size(files) // 1000} kB, more than the "
        f"{room // 1000} kB of a figure: give fewer values, or draw a smaller figure."
    )


def _size(files) -> int:
    return sum(4 * -(-len(file) // 3) for file in files)


def _webp(image, scale, quality) -> bytes:
    buffer = io.BytesIO()
    small = image.resize([round(scale * side) for side in image.size])
    small.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
