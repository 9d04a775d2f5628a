"""Frozen protocols: which data, which labels, how many steps. One name fixes all of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lsseg_edu.data import Task, annotate, phantoms
from lsseg_edu.data.annotate import with_annotator
from lsseg_edu.inaccurate.noise.models import corrupt
from lsseg_edu.partial.active.problem import everything_outlined, slices_on_request
from lsseg_edu.partial.points import partial_points
from lsseg_edu.partial.regions import (
    annotated_areas,
    boxes_and_few_masks,
    points_and_rough_masks,
    whole_scribbles,
)
from lsseg_edu.partial.slices import mixed_annotation, unannotated
from lsseg_edu.semi.adversarial.shift import scanner_shift
from lsseg_edu.semi.augmentation.ea_gan import paired_scanners
from lsseg_edu.semi.few_shot.episodes import few_shot_task, few_shot_upper
from lsseg_edu.semi.priors.constraints.size import tagged
from lsseg_edu.study.frozen import Protocol, full_task


def _few(cohort: str) -> Protocol:
    n = phantoms.FEW[cohort]
    return Protocol(f"{cohort}-{n}", cohort, n)


def _with(weaken: Callable[..., Task], **options):
    """What an annotator leaves, with these options and a hand drawn by the seed."""
    return lambda task, seed: weaken(task, seed=seed, **options)


def _expert_scribbles(task: Task, seed: int) -> Task:
    return annotate.expert_scribbles(task)


def _few_centres(task: Task, seed: int) -> Task:
    return partial_points(annotate.points(task, where="centre", seed=seed), 0.25, seed)


def _weak(name: str, words: str, weaken, labelled: int | None = 20, baseline="pce") -> Protocol:
    """Less than a mask of each of these subjects; what those pixels alone teach is the baseline."""
    cohort = name.partition("-")[0]
    return Protocol(name, cohort, labelled, words, weaken, baseline=baseline)


def _volumes(name: str, words: str, weaken, baseline="sparse-slices", **options) -> Protocol:
    """Eight small volumes, of which some planes are outlined."""
    cohort = name.partition("3d-")[0]
    less, size = _with(weaken, **options), {"steps": 300, "batch": 2, "size": 32, "dims": 3}
    return Protocol(name, cohort, 8, words, less, baseline=baseline, **size)


def _shots(n: int) -> Protocol:
    """Novel organs in ``n`` support slices; what the support set alone teaches is the baseline."""
    return Protocol(
        f"abdomen-{n}shot",
        "abdomen",
        None,
        problem=lambda seed: few_shot_task(n, seed=seed),
        reference=lambda seed: few_shot_upper(n, seed=seed),
        baseline="support-only",
    )


def _beside(name: str, cohort: str, words: str, give: Callable[[Task, Tensor], Task]) -> Protocol:
    """Few masks, and something else that an annotator tells of every training image."""
    labelled = phantoms.FEW[cohort]

    def full() -> Task:
        return full_task(cohort, 64, 2)

    return Protocol(
        name,
        cohort,
        labelled,
        words,
        problem=lambda seed: give(full().keep(labelled, seed), full().train.labels),
        reference=lambda seed: full(),
    )


def _noise(kind: str, level: float):
    return lambda task, seed: corrupt(task, kind, level, seed)


_BORDER = "boundaries off by <= 3 px"

PROTOCOLS = {
    p.name: p
    for p in [
        *map(_few, ("cardiac", "brain", "abdomen", "nuclei", "vessels", "lesions")),
        Protocol("brain3d-2", "brain", 2, steps=300, batch=2, size=32, dims=3),
        Protocol("acdc-3", "acdc", 3),
        Protocol("acdc-7", "acdc", 7),
        Protocol("hippocampus-4", "hippocampus", 4, steps=300, batch=2),
        _shots(1),
        _shots(5),
        Protocol(
            "cardiac-shift",
            "cardiac",
            None,
            problem=scanner_shift,
            reference=lambda seed: scanner_shift(seed, labelled_target=None),
        ),
        Protocol(
            "brain-paired",
            "brain",
            None,
            problem=paired_scanners,
            reference=lambda seed: paired_scanners(seed, labelled_target=None),
        ),
        _beside("lesions-active", "lesions", "masks on request", with_annotator),
        _beside("cardiac-tags", "cardiac", "image tags", tagged),
        Protocol(
            "lesions-tags", "lesions", None, "tags and severity", baseline="tang-attention-cl"
        ),
        _weak("lesions-points", "one point a lesion", _with(annotate.points)),
        _weak("cardiac-scribbles", "scribbles", _with(annotate.scribbles)),
        _weak("nuclei-scribbles", "scribbles", _with(annotate.scribbles)),
        _weak("acdc-scribbles", "expert scribbles", _expert_scribbles, None),
        _weak("lesions-contours", "rough lines", _with(annotate.boundary_scribbles)),
        _weak("lesions-areas", "annotated areas", _with(annotated_areas)),
        _weak("nuclei-points", "one point a nucleus", _with(annotate.points, where="centre")),
        _weak("nuclei-partial-points", "points on a quarter of the nuclei", _few_centres),
        _weak("nuclei-boxes", "boxes, masks of two", _with(boxes_and_few_masks), 20, "supervised"),
        _weak(
            "nuclei-rough", "points, rough masks", _with(points_and_rough_masks), 20, "supervised"
        ),
        _weak(
            "cardiac-whole", "whole + tags", _with(whole_scribbles), 20, "ji-scribble-brats:crf=0"
        ),
        _weak(
            "abdomen-organs",
            "one organ a data set",
            _with(annotate.missing_classes, given=1),
            12,
            "supervised",
        ),
        _volumes("brain3d-slices", "every 8th slice", annotate.slices, every=8),
        _volumes("brain3d-hybrid", "mixed slices", mixed_annotation),
        _volumes(
            "brain3d-choose", "slices on request", unannotated, "zheng-select:choose='random'"
        ),
        _volumes("cardiac3d-slice", "one slice a volume", annotate.slices, count=1),
        Protocol(
            "hippocampus-slices",
            "hippocampus",
            8,
            "every 8th slice",
            _with(annotate.slices, every=8),
            steps=300,
            batch=2,
            baseline="sparse-slices",
        ),
        Protocol("cardiac-clicks", "cardiac", 3, "full, and five clicks a test image", clicks=5),
        Protocol(
            "cardiac-active",
            "cardiac",
            2,
            "slices on request",
            problem=slices_on_request,
            reference=everything_outlined,
            baseline="al-random-baseline",
        ),
        _weak("cardiac-pixel", "40 % random flips", _noise("pixel", 0.4), 20, "supervised"),
        _weak("cardiac-boundary", _BORDER, _noise("boundary", 3), 20, "supervised"),
        _weak("acdc-boundary", _BORDER, _noise("boundary", 3), 20, "supervised"),
    ]
}


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none; the sentence lists those there are.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
