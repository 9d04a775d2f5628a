"""Figures carry alt text, and move without a kernel."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lsseg_edu import show, study
from lsseg_edu.data import IGNORE
from lsseg_edu.show.style import COLOURS, LINES


@pytest.fixture(scope="module")
def slices():
    """Two grey images and a mask of two classes."""
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[:, 8:24, 8:24], labels[:, 12:20, 12:20] = 1, 2
    return images, labels


def html(output) -> str:
    return output._repr_mimebundle_()["text/html"]


def frames(page) -> list[Image.Image]:
    files = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB") for file in files]


def ramp(size, flip="no"):
    grey = np.arange(size * size).reshape(size, size)
    return grey[::-1] if flip == "yes" else grey


def close(picture, code, tolerance=40) -> int:
    """Pixels of a picture that have nearly this colour."""
    wanted = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(np.asarray(picture.image, int) - wanted).max(-1) < tolerance).sum())


def charts():
    runs = {"supervised": np.random.default_rng(0).random((3, 50)), "mean teacher": np.ones(50)}
    scores = {"supervised": {1: [0.5, 0.6], 3: [0.7]}, "mean teacher": {1: [0.6], 3: [0.8]}}
    yield show.curves(runs, window=5, alt="A & B.")
    yield show.budget(scores, full=0.9, alt="A & B.")
    yield show.bars({"mean teacher": (10, 5, 15), "other": (3, -2, 8)}, alt="A & B.")


def test_every_figure_has_alt_text_and_is_closed(slices):
    import matplotlib.pyplot as plt

    for picture in [*charts(), show.images(*slices, alt="A & B.")]:
        assert 'alt="A &amp; B."' in html(picture)
        assert picture._repr_mimebundle_()["text/plain"] == "Figure: A & B."
    assert plt.get_fignums() == []


def test_a_figure_without_alt_text_is_refused(slices):
    with pytest.raises(ValueError, match="alt text"):
        show.images(*slices, alt=" ")
    with pytest.raises(ValueError, match="alt text"):
        show.explore(ramp, alt="", size=[4])


def test_truth_is_an_area_and_prediction_a_line(slices):
    images, labels = slices
    dark = torch.zeros_like(images)
    line = show.images(dark, predictions=labels, alt="x")
    both = show.images(dark, labels, labels, alt="x")
    area = show.images(dark, labels, fill=True, alt="x")
    colour = "#7F5700"  # class 1 at 55 % over black
    assert close(line, COLOURS[0]) > 100
    assert close(area, colour) > 10 * close(line, colour)
    assert close(both, colour) > 10 * close(line, colour) and close(both, COLOURS[0]) > 100


def test_unannotated_pixels_stay_clear_and_annotated_background_shows(slices):
    dark = torch.zeros_like(slices[0])
    scribble = torch.full_like(slices[1], IGNORE)
    nothing = show.images(dark, scribble, fill=True, alt="x")
    scribble[:, 10:16] = 0
    background = show.images(dark, scribble, fill=True, alt="x")
    hatched = show.images(dark, scribble, fill=True, hatch=True, alt="x")
    assert close(nothing, "#000000") > 1.2 * close(background, "#000000")
    assert close(background, "#D9D9D9", 20) > 1000
    assert close(hatched, "#000000") < close(background, "#000000")


def test_colour_images_of_any_scale(slices):
    rgb = torch.tensor([4.0, -2.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert close(show.images(rgb, alt="x"), "#FF0000") > 1000


@pytest.mark.parametrize(
    "image, label, message",
    [((2, 1, 4, 8, 8), (2, 4, 8, 8), "take a slice"), ((2, 2, 8, 8), (2, 8, 8), "C = 1 or 3")]
    + [((2, 1, 8, 8), (2, 4, 4), "size of its image")],
)
def test_images_refuses_in_a_sentence(image, label, message):
    with pytest.raises(ValueError, match=message):
        show.images(torch.zeros(image), torch.zeros(label), alt="x")


def test_long_titles_do_not_overlap(slices):
    images = slices[0].repeat(4, 1, 1, 1)
    titles = ["mean teacher, the one that gained most"] * 8
    figure = show.images(images, alt="x", titles=titles, columns=4).figure
    FigureCanvasAgg(figure).draw()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    others = [ax.get_window_extent() for ax in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(b) for b in boxes[i + 1 :] + others)


def test_a_band_covers_the_seeds():
    seeds = np.stack([np.zeros(50), np.ones(50)])
    with_band = show.curves({"a": seeds}, alt="x")
    without = show.curves({"a": seeds[:1]}, alt="x")
    pale = "#DDDDDD"
    assert close(with_band, pale, 6) > 5 * close(without, pale, 6) + 5000


def test_a_bar_whose_interval_holds_zero_is_pale():
    sure, unsure = (show.bars({"a": (5, low, 9)}, alt="x") for low in (1, -1))
    assert close(sure, LINES[1], 10) > 1000 > close(unsure, LINES[1], 10)
    with pytest.raises(ValueError, match="no bar"):
        show.bars({}, alt="x")


def test_explore_holds_widgets_and_every_frame():
    drawn = []

    def draw(size, flip):
        drawn.append((size, flip))
        return ramp(size, flip)

    figure = show.explore(
        draw, alt="Grey.", labels={"size": "side"}, size=[2, 4], flip=["no", "yes"]
    )
    bundle = figure._repr_mimebundle_()
    page = bundle["text/html"]
    assert "model_id" in bundle["application/vnd.jupyter.widget-view+json"]
    assert drawn.count((4, "yes")) == 1, "a frame was drawn twice"
    assert len({f.tobytes() for f in frames(page)}) == 4
    assert 'type="range"' in page and "<select" in page and "<noscript>" in page
    assert "Grey. Now: side 2, flip no." in page and "http" not in page


def test_explore_frames_run_in_the_order_of_the_controls():
    order = [(size, flip) for size in (2, 4) for flip in ("no", "yes")]
    page = show.explore(ramp, alt="Grey.", size=[2, 4], flip=["no", "yes"]).html()
    corners = [frame.getpixel((1, 1))[0] for frame in frames(page)]
    assert [corner > 100 for corner in corners] == [flip == "yes" for _, flip in order]


def test_explore_is_deterministic_and_ids_differ():
    def page(alt):
        return show.explore(ramp, alt=alt, size=[2, 4]).html()

    assert page("One.") == page("One.")
    ids = {re.search(r'id="(explore-\w+)"', page(alt)).group(1) for alt in ("One.", "Two.")}
    assert len(ids) == 2


def test_live_controls_redraw():
    widget = show.explore(ramp, alt="Grey.", size=[2, 4], flip=["no", "yes"]).widget()
    slider, menu, screen = widget.children
    before = screen.value
    slider.value = 4
    assert screen.value != before and "size 4, flip no" in screen.value
    menu.value = "yes"
    assert "size 4, flip yes" in screen.value


def test_frames_become_coarser_until_they_fit():
    rng = np.random.default_rng(0)
    noise = {i: rng.integers(0, 255, (100, 360, 3), np.uint8) for i in range(3)}
    page = show.explore(lambda i: noise[i], alt="Noise.", i=list(noise), limit=60_000).html()
    assert len(page) <= 60_000 and frames(page)[0].width < 360
    with pytest.raises(ValueError, match="fewer values"):
        show.explore(lambda i: noise[i], alt="Noise.", i=list(noise), limit=2_000).html()


@pytest.mark.parametrize(
    "choices, message",
    [
        ({}, "at least one choice"),
        ({"size": []}, "has no values"),
        ({"size": list(range(81))}, "81 frames"),
        ({"size": [1], "labels": {"sise": "x"}}, "not among the choices"),
    ],
)
def test_explore_refuses(choices, message):
    with pytest.raises(ValueError, match=message):
        show.explore(ramp, alt="x", **choices)


def test_an_empty_scoreboard_says_so():
    assert "Nothing has been run" in show.scoreboard([]).data


def test_a_scoreboard_says_by_what_it_compares():
    row = {"protocol": "cardiac-3", "options": "", "dice": 0.8, "hd95": 3.0, "seconds": 60.0}
    scores = {"supervised": 0.5, "mean-teacher": 0.25}
    results = [row | {"method": m, "f1": f, "seed": s} for m, f in scores.items() for s in (0, 1)]
    head, _, first, second = show.scoreboard(study.summary(results, "cardiac-3")).data.split("\n")
    assert "test Dice" in head and "HD95" in head and "| 3.0 |" in first
    lines = study.summary(results, "cardiac-3", column="f1")
    head, _, first, second = show.scoreboard(lines).data.split("\n")
    assert "test F1" in head and "HD95" not in head
    assert "| 0.500 [0.500, 0.500] |" in first and "| 0.800 |" in first
    assert "-0.250" in second and "worse" in second
