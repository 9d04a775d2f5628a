"""The live half of a canvas: ipywidgets, and a handler that says where a picture was clicked."""

from __future__ import annotations

from html import escape

import ipywidgets

from lsseg_edu.show.picture import Picture, data_uri, img, png

BRIDGE = """
const box = this.getBoundingClientRect();
const field = this.closest('.lsseg-canvas').querySelector('.lsseg-canvas-place input');
const place = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
field.value = [...place, event.timeStamp].map(x => x.toFixed(4)).join(' ');
for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}));
"""
"""Writes where the picture was clicked into a text field that the kernel hears of."""


def board(canvas) -> ipywidgets.VBox:
    """Picture, class and status of a :class:`.Canvas`; sliders and buttons for the keyboard."""
    screen, status = ipywidgets.HTML(), ipywidgets.HTML()
    kinds = [(name, k) for k, name in enumerate(canvas.names)]
    kind = ipywidgets.Dropdown(options=kinds, value=1, description="this is")
    row, column = (ipywidgets.IntSlider(n // 2, 0, n - 1) for n in canvas.image.shape[1:])
    row.description, column.description = "row", "column"
    place = ipywidgets.Text(layout={"display": "none"})
    place.add_class("lsseg-canvas-place")

    def show():
        screen.value, status.value = clickable(canvas.picture()), escape(canvas.status)

    def point(_):
        canvas.cursor = (row.value, column.value)
        show()

    def then_show(change):
        def act(event):
            change(event)
            show()

        return act

    buttons = {
        "click here": lambda _: canvas.click(row.value, column.value, kind.value),
        "undo": lambda _: canvas.undo(),
        "start again": lambda _: canvas.clear(),
    }
    made = [ipywidgets.Button(description=name) for name in buttons]
    for button, change in zip(made, buttons.values(), strict=True):
        button.on_click(then_show(change))
    for slider in (row, column):
        slider.observe(point, names="value")
    place.observe(then_show(lambda e: canvas.click(*canvas.place(e.new), kind.value)), "value")
    show()
    rows = [ipywidgets.HBox([row, column]), ipywidgets.HBox(made)]
    box = ipywidgets.VBox([kind, screen, status, *rows, place])
    box.add_class("lsseg-canvas")
    return box


def clickable(picture: Picture) -> str:
    """The picture as an image that tells the kernel where it was clicked."""
    source = img(data_uri(png(picture.image)), picture.alt, picture.width)
    handler = escape(" ".join(BRIDGE.split()))
    return source.replace("<img ", f'<img onclick="{handler}" ', 1).replace(
        'style="', 'style="cursor:crosshair;', 1
    )
