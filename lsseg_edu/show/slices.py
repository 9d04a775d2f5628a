"""Images with masks: what is true, what was predicted, what nobody annotated."""

from __future__ import annotations

import textwrap

import numpy as np
import torch

from lsseg_edu.data import IGNORE
from lsseg_edu.show.picture import Picture, figure
from lsseg_edu.show.style import WIDTH, colour, subplots


def images(
    images,
    labels=None,
    predictions=None,
    *,
    alt: str,
    titles=None,
    names=None,
    columns: int | None = None,
    fill: bool | None = None,
    hatch: bool = False,
) -> Picture:
    """A grid of images with their masks.

    With both masks the truth is a filled area and the prediction a line, so that they are told
    apart without colour; a single kind of mask is drawn as lines, or filled with ``fill=True``.

    Args:
        images: ``(N, C, H, W)``, ``C`` = 1 (grey) or 3 (RGB), any scale.
        labels: ``(N, H, W)``. Where :data:`~lsseg_edu.data.IGNORE` occurs in a map, what was
            annotated as background is tinted white, to tell it from what was not annotated.
        predictions: ``(N, H, W)`` class numbers.
        alt: the alt text.
        titles: one per image; long ones are broken into lines.
        names: the ``K`` class names, for a legend of the classes that occur.
        columns: images in a row; by default up to five.
        fill: fill the areas of ``labels``.
        hatch: hatch what nobody annotated.

    Raises:
        ValueError: shapes that do not agree, volumes instead of slices.
    """
    images = _array(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be slices (N, C, H, W) with C = 1 or 3, not {images.shape}; "
            f"of volumes (N, C, D, H, W) take a slice, e.g. volumes[:, :, depth]."
        )
    columns = columns or min(len(images), 5)
    rows = -(-len(images) // columns)
    cell = min(WIDTH / columns, 2.6)
    height, width = images.shape[2:]
    titles = [textwrap.fill(str(title), int(12 * cell)) for title in titles or [""] * len(images)]
    lines = max(title.count("\n") + (title != "") for title in titles)
    handles = [] if names is None else _handles(names, labels, predictions, fill)
    across = _fitting(handles, cell * columns)
    high = rows * (cell * height / width + 0.2 * lines) + 0.08 * (lines > 0)
    high += 0.15 + 0.2 * -(-len(handles) // across) if handles else 0
    fig, axes = subplots(rows, columns, squeeze=False, width=cell * columns, height=high)
    for ax in axes.flat:
        ax.axis("off")
        ax.set_anchor("S")  # what height is left over belongs to the titles
    for i, ax in enumerate(axes.flat[: len(images)]):
        label = None if labels is None else labels[i]
        prediction = None if predictions is None else predictions[i]
        overlay(ax, images[i], label, prediction, fill=fill, hatch=hatch)
        ax.set_title(titles[i])
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=across)
    return figure(fig, alt)


def overlay(ax, image, labels=None, prediction=None, *, fill=None, hatch=False) -> None:
    """Draw one image ``(C, H, W)`` and its masks ``(H, W)`` on the axes ``ax``.

    See :func:`images` for the manner; use this one to lay out a figure of your own.
    """
    image = rescale(_array(image))
    ax.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), vmin=0, vmax=1)
    ax.set_xticks([])
    ax.set_yticks([])
    fill = prediction is not None if fill is None else fill
    if labels is not None:
        labels = _check(labels, image)
        _fill(ax, labels) if fill else _contours(ax, labels)
        if hatch and (labels == IGNORE).any():
            _hatch(ax, labels == IGNORE)
    if prediction is not None:
        _contours(ax, _check(prediction, image))


def rescale(image: np.ndarray) -> np.ndarray:
    """The 1st percentile becomes 0 (black), the 99th becomes 1 (white); all channels alike."""
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / max(high - low, 1e-8), 0, 1)


def _array(values) -> np.ndarray:
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    return np.asarray(values)


def _check(labels, image) -> np.ndarray:
    labels = _array(labels)
    if labels.shape != image.shape[1:]:
        raise ValueError(
            f"A mask must have the size of its image, {image.shape[1:]}, not {labels.shape}."
        )
    return labels


def _fill(ax, labels):
    from matplotlib.colors import to_rgba

    partial = IGNORE in labels
    colours = np.zeros((256, 4))
    for k in np.setdiff1d(labels, (IGNORE,) if partial else (0,)):
        colours[k] = to_rgba(colour(int(k)), 0.85 if partial else 0.55)
    ax.imshow(colours[labels])


def _contours(ax, labels):
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke
    from skimage.measure import find_contours

    for k in np.setdiff1d(labels, (0, IGNORE)):
        mask = np.pad(labels == k, 1).astype(float)
        lines = [line[:, ::-1] - 1 for line in find_contours(mask, 0.5)]
        halo = [withStroke(linewidth=2.6, foreground="black")]
        style = {"colors": colour(int(k)), "linewidths": 1.4, "path_effects": halo}
        ax.add_collection(LineCollection(lines, **style), autolim=False)


def _hatch(ax, mask):
    area = ax.contourf(mask.astype(float), [0.5, 2], colors="none", hatches=["///"])
    area.set_edgecolor("#FFFFFF80")


def _handles(names, labels, predictions, fill) -> list:
    """What the legend shows: the classes that occur, and which mask is an area or a line."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    masks = [np.unique(_array(m)) for m in (labels, predictions) if m is not None]
    shown = sorted({int(k) for m in masks for k in m} - {IGNORE})
    partial = labels is not None and IGNORE in masks[0]
    shown = [k for k in shown if k or (partial and fill)]
    edge = {"edgecolor": "#595959", "linewidth": 0.5}
    handles = [Patch(facecolor=colour(k), label=names[k], **edge) for k in shown]
    if labels is not None and predictions is not None:
        handles.append(Patch(facecolor="#BBBBBB", label="area: truth"))
        handles.append(Line2D([], [], color="#333333", label="line: prediction"))
    return handles


def _fitting(handles, width: float) -> int:
    """How many columns of a legend fit into ``width`` inches."""
    inches = [0.65 + 0.07 * len(handle.get_label()) for handle in handles]
    for columns in range(len(handles), 1, -1):
        if sum(max(inches[i::columns]) for i in range(columns)) <= width:
            return columns
    return 1
