"""A finished figure and its alt text, as one output of a cell."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np

DPI = 130
CARD = "margin:0;background:#fff;color:#1a1a1a;padding:.5rem;border-radius:.25rem"


class Picture:
    """A drawn figure with the sentence that stands for it where it cannot be seen.

    The output is an ``<img alt=...>`` in ``text/html``: neither JupyterLab nor Jupyter Book
    takes the alt text of an ``image/png`` output from the notebook, but every page, notebook
    viewer and screen reader knows that tag.

    Attributes:
        image: the rendered figure, a Pillow image.
        alt: the alt text.
        width: width on the page in CSS pixels, at which fonts have their true size.
        figure: the Matplotlib figure, or ``None`` if the picture was made of an array.
    """

    def __init__(self, figure, alt: str | None):
        self.figure = figure if hasattr(figure, "savefig") else None
        self.alt = " ".join((alt or "").split())
        self.image, self.width = _render(figure)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        html = img(data_uri(png(self.image)), self.alt, self.width)
        style = f"{CARD};max-width:fit-content"
        return {
            "text/html": f'<figure class="lsseg-figure" style="{style}">{html}</figure>',
            "text/plain": f"Figure: {self.alt}",
        }


def figure(figure, alt: str) -> Picture:
    """Finish a figure of your own: render it, close it, and give it its alt text.

    Args:
        figure: a Matplotlib figure, or an image array ``(H, W)`` or ``(H, W, 3)``.
        alt: one or two sentences: what is shown and what a reader should see in it.

    Raises:
        ValueError: no alt text.
    """
    if not (alt or "").strip():
        raise ValueError("A figure needs alt text: say in a sentence what it shows.")
    return Picture(figure, alt)


def png(image, colours: int = 256) -> bytes:
    """The image as a PNG with a palette: sharp lines at a third of the size.

    The palette covers all colours that occur, the rare ones too: a small organ keeps its own.
    """
    from PIL.Image import Quantize

    buffer = io.BytesIO()
    palette = image.quantize(colours, method=Quantize.MAXCOVERAGE, dither=0)
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(data: bytes) -> str:
    """The bytes of a PNG or WebP file as an address that needs no file."""
    kind = "webp" if data[:4] == b"RIFF" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def img(source: str, alt: str, width: int) -> str:
    """An ``<img>`` that the dark theme leaves as it is (class ``dark-light``)."""
    style = f"width:{width}px;max-width:100%;height:auto;padding:0"
    return f'<img class="dark-light" src="{source}" alt="{escape(alt)}" style="{style}">'


def _render(figure):
    from PIL import Image

    if not hasattr(figure, "savefig"):
        return _from_array(np.asarray(figure))
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    width = round(figure.get_size_inches()[0] * 100)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"), width


def _from_array(array):
    from PIL import Image

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3):
        raise ValueError(
            f"An image to show must be (H, W) grey or (H, W, 3) RGB, not {array.shape}."
        )
    if array.dtype != np.uint8:
        low, high = np.nanmin(array), np.nanmax(array)
        array = (255 * (array - low) / max(high - low, 1e-8)).astype(np.uint8)
    zoom = max(1, 360 // array.shape[1])
    image = Image.fromarray(array).convert("RGB")
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    return image, image.width
