"""Figures with controls: live where there is a kernel, precomputed frames where there is none."""

from __future__ import annotations

import hashlib
from functools import partial
from itertools import product
from math import prod
from numbers import Number

from lsseg_edu.show.frames import encode
from lsseg_edu.show.page import page
from lsseg_edu.show.picture import Picture, data_uri, img, png

MOST = 80
"""Most frames of one figure: each is drawn once and stored in the page."""


def explore(draw, *, alt: str, labels: dict | None = None, limit=300_000, **choices) -> Explorer:
    """A figure with a control per choice. Make it the last line of a cell.

    Its output holds live Jupyter widgets, which call ``draw`` again, and a piece of HTML with
    one precomputed frame for every combination of choices, which needs no kernel and no network.

    Args:
        draw: ``draw(**choice)`` returns a Matplotlib figure, a :class:`Picture` or an image
            array. It is called once per combination; keep it quick. Twenty frames of three grainy
            images are sharp, thirty are coarse: noise does not compress.
        alt: alt text of the whole. That of a frame adds the values chosen, unless ``draw``
            returns a :class:`Picture`, which brings its own.
        labels: ``{choice: text of its control}``; by default its name.
        limit: most bytes of the HTML; frames are made coarser until they fit.
        **choices: ``name=[values]``; numbers get a slider, anything else a list.

    Raises:
        ValueError: no choices, an empty one, more than 80 combinations, no alt text,
            frames that do not fit into ``limit``.

    Example:
        >>> import numpy as np
        >>> def draw(size):
        ...     return np.arange(size * size).reshape(size, size)
        >>> figure = explore(draw, alt="A grey ramp.", size=[2, 4, 8])
    """
    return Explorer(draw, alt, labels or {}, limit, choices)


class Explorer:
    """What :func:`explore` returns. See there."""

    def __init__(self, draw, alt, labels, limit, choices):
        _check(alt, labels, choices)
        self.draw, self.alt, self.limit = draw, " ".join(alt.split()), limit
        self.choices = {name: list(values) for name, values in choices.items()}
        self.labels = {name: labels.get(name, name.replace("_", " ")) for name in choices}
        self._html = None

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": self.html(),
            "text/plain": f"Interactive figure: {self.alt}",
        }

    def html(self) -> str:
        """The figure as one piece of HTML. The frames are drawn at the first call."""
        if self._html is None:
            every = [
                dict(zip(self.choices, v, strict=True)) for v in product(*self.choices.values())
            ]
            pictures = [self._picture(choice) for choice in every]
            alts = [picture.alt for picture in pictures]
            controls = [
                (self.labels[name], [_text(v) for v in values], slides(values))
                for name, values in self.choices.items()
            ]
            frame = partial(page, self._id(), controls, pictures[0].width, alts)
            room = self.limit - len(frame([b""] * len(pictures)).encode())
            self._html = frame(encode([picture.image for picture in pictures], room))
        return self._html

    def widget(self):
        """The figure as live Jupyter widgets; only the frame on show is drawn."""
        import ipywidgets

        controls = {name: self._control(name) for name in self.choices}
        screen = ipywidgets.HTML()

        def redraw(_=None):
            choice = {name: control.value for name, control in controls.items()}
            picture = self._picture(choice)
            source = data_uri(png(picture.image))
            screen.value = img(source, picture.alt, picture.width)

        for control in controls.values():
            control.observe(redraw, names="value")
        redraw()
        return ipywidgets.VBox([*controls.values(), screen])

    def _control(self, name):
        import ipywidgets

        values = self.choices[name]
        kind = ipywidgets.SelectionSlider if slides(values) else ipywidgets.Dropdown
        options = [(_text(value), value) for value in values]
        style = {"description_width": "initial"}
        return kind(options=options, description=self.labels[name], style=style)

    def _picture(self, choice) -> Picture:
        drawn = self.draw(**choice)
        return drawn if isinstance(drawn, Picture) else Picture(drawn, self._describe(choice))

    def _describe(self, choice) -> str:
        now = ", ".join(f"{self.labels[name]} {_text(value)}" for name, value in choice.items())
        return f"{self.alt} Now: {now}."

    def _id(self) -> str:
        text = repr((self.alt, self.choices, self.labels))
        return f"explore-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def slides(values) -> bool:
    """Whether the values are numbers, to be chosen with a slider."""
    return all(isinstance(v, Number) and not isinstance(v, bool) for v in values)


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, Number) else str(value)


def _check(alt, labels, choices):
    if not (alt or "").strip():
        raise ValueError("A figure needs alt text: say in a sentence what it shows.")
    if not choices:
        raise ValueError("explore needs at least one choice, e.g. labelled=[1, 3, 10].")
    empty = [name for name, values in choices.items() if len(values) == 0]
    if empty:
        raise ValueError(f"The choice {empty[0]!r} has no values: give a list of them.")
    strangers = set(labels) - set(choices)
    if strangers:
        raise ValueError(f"labels names {strangers.pop()!r}, which is not among the choices.")
    frames = prod(len(values) for values in choices.values())
    if frames > MOST:
        raise ValueError(
            f"These choices make {frames} frames; a page takes {MOST}: give fewer values."
        )
