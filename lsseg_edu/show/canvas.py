"""An image to click on: the reader corrects, the model answers, and both can be seen."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.show.picture import Picture
from lsseg_edu.show.slices import rescale
from lsseg_edu.show.style import colour

ZOOM = 6
"""Screen pixels a pixel of the image."""


class Canvas:
    """Click on an image in JupyterLab or Colab, and see the model's next answer.

    Make it the last line of a cell. Choose a class, click where the answer should have shown it:
    on the picture, or with the sliders and the button, which the keyboard reaches. Needs
    ipywidgets alone. Without a kernel it is the picture of the first answer.

    Args:
        method: a method or what ``fit`` returned, with ``predict(images)`` and
            ``interact(images, clicks, previous)``.
        image: one slice ``(C, H, W)``.
        names: the ``K`` class names.
        truth: ``(H, W)`` classes, if the Dice shall be shown.

    Attributes:
        clicks: ``(1, M, 3)`` so far: class, row, column.
        probs: ``(1, K, H, W)``, the answer to them.
        seconds: how long the last answer took.

    Raises:
        ValueError: a volume; a method that does not listen; a click outside or of no class.
    """

    def __init__(self, method, image: Tensor, names, truth: Tensor | None = None):
        self.method = getattr(method, "method", method).eval()
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(
                f"A canvas shows one slice (C, H, W), not {tuple(image.shape)}: of a volume "
                f"take one, e.g. volume[:, depth]."
            )
        if not hasattr(self.method, "interact"):
            raise ValueError(f"{type(self.method).__name__} has no interact: it does not listen.")
        self.image, self.names, self.truth = image, list(names), truth
        self.cursor = None
        self.clear()

    def clear(self) -> None:
        """Back to the answer without clicks."""
        self.clicks, self._before, self.cursor = torch.empty(1, 0, 3, dtype=torch.long), [], None
        self._answer(lambda images: self.method.predict(images))

    def click(self, row: int, column: int, k: int) -> None:
        """Tell the method that the pixel is of class ``k``, and let it answer."""
        new = torch.tensor([[[k, row, column]]])
        clicks = torch.cat([self.clicks, new], 1)
        previous, clicked = self.probs, self.clicks
        device = next(self.method.parameters()).device
        self._answer(
            lambda images: self.method.interact(images, clicks.to(device), previous.to(device))
        )
        self._before.append((clicked, previous))
        self.clicks, self.cursor = clicks, None

    def undo(self) -> None:
        """Take the last click back, and the answer to it."""
        if self._before:
            self.clicks, self.probs = self._before.pop()

    @torch.no_grad()
    def _answer(self, ask) -> None:
        start = time.perf_counter()
        device = next(self.method.parameters()).device
        self.probs = ask(self.image[None].to(device)).cpu()
        self.seconds = time.perf_counter() - start

    @property
    def answer(self) -> Tensor:
        """Classes ``(H, W)``."""
        return self.probs[0].argmax(0)

    @property
    def dice(self) -> float:
        """Mean Dice of the classes that the truth or the answer shows (1 if there is none)."""
        scores = []
        for k in range(1, len(self.names)):
            p, y = self.answer == k, self.truth == k
            if p.any() or y.any():
                scores.append(float(2 * (p & y).sum() / (p.sum() + y.sum())))
        return float(np.mean(scores)) if scores else 1.0

    @property
    def status(self) -> str:
        """One sentence on where things stand."""
        n = self.clicks.shape[1]
        text = f"{n} click{'' if n == 1 else 's'}; answered in {self.seconds:.2f} s"
        return text + ("." if self.truth is None else f"; Dice {self.dice:.3f}.")

    def picture(self) -> Picture:
        """The image, the contours of the answer, the clicks, and the cross of the sliders."""
        from PIL import Image, ImageDraw

        grey = (255 * rescale(self.image.numpy())).astype(np.uint8)
        pixels = np.repeat(np.repeat(grey, ZOOM, 1), ZOOM, 2)
        pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0).copy()
        large = np.repeat(np.repeat(self.answer.numpy(), ZOOM, 0), ZOOM, 1)
        for k in np.unique(large[large > 0]):
            pixels[rim(large == k)] = rgb(int(k))
        drawn = Image.fromarray(pixels)
        pen = ImageDraw.Draw(drawn)
        for k, row, column in self.clicks[0].tolist():
            y, x = (ZOOM * (v + 0.5) for v in (row, column))
            pen.ellipse([x - 6, y - 6, x + 6, y + 6], fill=rgb(k), outline="black", width=2)
        if self.cursor:
            y, x = (ZOOM * (v + 0.5) for v in self.cursor)
            pen.line([x - 9, y, x + 9, y], fill="white", width=2)
            pen.line([x, y - 9, x, y + 9], fill="white", width=2)
        return Picture(np.asarray(drawn), self._alt())

    def _alt(self) -> str:
        shown = [self.names[k] for k in self.answer.unique().tolist() if k > 0]
        told = [f"{self.names[k]} at row {r}, column {c}" for k, r, c in self.clicks[0].tolist()]
        return (
            f"An image with the contours of the answer: {', '.join(shown) or 'nothing found'}. "
            f"Clicks: {'; '.join(told) or 'none'}."
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
        still = self.picture()._repr_mimebundle_()["text/html"]
        rest = (
            "<p>This is the first answer. With a kernel (JupyterLab, Colab) it can be clicked.</p>"
        )
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": still.replace("</figure>", f"{rest}</figure>"),
            "text/plain": f"Canvas: {self._alt()}",
        }

    def widget(self):
        """The live canvas: picture, class, and sliders and buttons for those without a mouse."""
        from lsseg_edu.show.canvas_widget import board

        return board(self)

    def place(self, text: str) -> tuple[int, int]:
        """Row and column of what the browser wrote: fractions of the height and the width."""
        fractions = [float(part) for part in text.split()[:2]]
        return tuple(
            min(int(f * n), n - 1) for f, n in zip(fractions, self.image.shape[1:], strict=True)
        )


def rim(mask: np.ndarray, width: int = 2) -> np.ndarray:
    """The pixels of ``mask (H, W)`` within ``width`` of its outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, iterations=width, border_value=1)


def rgb(k: int) -> tuple[int, int, int]:
    """Colour of a class as three bytes."""
    from PIL import ImageColor

    return ImageColor.getrgb(colour(k))
