"""The canvas: what a click on the picture tells the method, without a browser."""

import re

import pytest
import torch
from PIL import Image
from torch import nn

from lsseg_edu import show
from lsseg_edu.partial.interactive.answering import Interactive
from lsseg_edu.show.canvas import ZOOM, rgb
from lsseg_edu.train import Supervised

NAMES = ("ground", "left", "right")


class Painter(Interactive):
    """Paints the quarter of the image that was clicked."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 1))

    def predict(self, images):
        answer = torch.zeros(1, 3, *images.shape[2:])
        answer[:, 0] = 1
        return answer

    def react(self, images, clicks, previous):
        k, row, column = clicks[0, -1].tolist()
        after, half = previous.clone(), images.shape[2] // 2
        rows, columns = (slice(v // half * half, v // half * half + half) for v in (row, column))
        after[0, :, rows, columns] = 0
        after[0, k, rows, columns] = 1
        return after


@pytest.fixture
def canvas():
    truth = torch.zeros(16, 16, dtype=torch.long)
    truth[:8, :8], truth[8:, 8:] = 1, 2
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    return show.Canvas(Painter(), image, NAMES, truth)


def test_a_click_is_answered_and_can_be_taken_back(canvas):
    assert canvas.dice == 0 and (canvas.answer == 0).all()
    canvas.click(2, 3, 1)
    canvas.click(12, 13, 2)
    assert canvas.clicks.tolist() == [[[1, 2, 3], [2, 12, 13]]]
    assert canvas.dice == 1 and canvas.seconds < 1
    assert re.fullmatch(r"2 clicks; answered in \d\.\d\d s; Dice 1\.000\.", canvas.status)
    canvas.undo()
    assert canvas.clicks.shape == (1, 1, 3) and (canvas.answer[8:] == 0).all()
    canvas.clear()
    canvas.undo()
    assert canvas.clicks.shape == (1, 0, 3) and canvas.dice == 0


@pytest.mark.parametrize(
    ("place", "sentence"), [((2, 3, 7), "class 7"), ((16, 3, 1), "outside the image")]
)
def test_an_impossible_click_changes_nothing(canvas, place, sentence):
    with pytest.raises(ValueError, match=sentence):
        canvas.click(*place)
    assert canvas.clicks.shape == (1, 0, 3)


def test_what_cannot_be_clicked_is_refused_in_a_sentence(canvas):
    with pytest.raises(ValueError, match="one slice"):
        show.Canvas(Painter(), torch.zeros(1, 4, 8, 8), NAMES)
    with pytest.raises(ValueError, match="Supervised has no interact"):
        show.Canvas(Supervised(nn.Conv2d(1, 3, 1)), canvas.image, NAMES)


def test_the_picture_shows_contours_and_clicks_and_says_so(canvas):
    canvas.click(4, 4, 1)
    picture = canvas.picture()
    scale = picture.image.width // (16 * ZOOM)
    pixel = picture.image.getpixel
    centre = round(4.5 * ZOOM * scale)
    assert pixel((centre, centre)) == rgb(1)
    assert pixel((0, 8 * ZOOM * scale - 1)) == rgb(1)
    assert "answer: left. Clicks: left at row 4, column 4." in picture.alt


def test_the_board_hears_the_mouse_and_the_keyboard(canvas):
    board = canvas.widget()
    kind, screen, status, sliders, buttons, place = board.children
    assert "lsseg-canvas" in board._dom_classes and "lsseg-canvas-place" in place._dom_classes
    assert "onclick=" in screen.value and "getBoundingClientRect" in screen.value
    kind.value = 2
    place.value = "0.9999 0.5000 17.1"
    assert canvas.clicks.tolist() == [[[2, 15, 8]]] and status.value.startswith("1 click;")
    place.value = "1.0000 1.0000 18.2"
    assert canvas.clicks[0, -1].tolist() == [2, 15, 15]
    row, column = sliders.children
    row.value, column.value = 3, 5
    assert canvas.cursor == (3, 5)
    here, undo, again = buttons.children
    kind.value = 1
    before = screen.value
    here.click()
    assert canvas.clicks[0, -1].tolist() == [1, 3, 5] and screen.value != before
    undo.click()
    assert canvas.clicks.shape[1] == 2
    again.click()
    assert canvas.clicks.shape[1] == 0 and "Clicks: none." in screen.value


def test_without_a_kernel_there_is_a_picture(canvas):
    bundle = canvas._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert 'alt="An image with' in bundle["text/html"] and "With a kernel" in bundle["text/html"]
    assert bundle["text/plain"].startswith("Canvas: An image")


def test_a_colour_image_is_shown_in_colour():
    image = torch.rand(3, 16, 16)
    picture = show.Canvas(Painter3(), image, NAMES).picture()
    assert isinstance(picture.image, Image.Image)
    assert len({*picture.image.getpixel((3, 3))}) > 1


class Painter3(Painter):
    """For three channels."""

    def predict(self, images):
        return super().predict(images[:, :1])
