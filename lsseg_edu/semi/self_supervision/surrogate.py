"""Which pretext to start from? Two comparisons: on volumes, and over amounts of labels."""

from __future__ import annotations

from lsseg_edu.data import Task
from lsseg_edu.evaluate import evaluate
from lsseg_edu.semi.self_supervision.colorization import Colorization
from lsseg_edu.semi.self_supervision.cpc import CPC
from lsseg_edu.semi.self_supervision.exemplar import Exemplar
from lsseg_edu.semi.self_supervision.finetune import (
    finetune_from,
    pretrain,
    pretrain_finetune,
)
from lsseg_edu.semi.self_supervision.inpainting import Inpainting
from lsseg_edu.semi.self_supervision.jigsaw import Jigsaw
from lsseg_edu.semi.self_supervision.relative_position import RelativePosition
from lsseg_edu.semi.self_supervision.rotation import Rotation
from lsseg_edu.train import Budget, Fitted

FIVE = {
    "cpc": CPC,
    "relative position": RelativePosition,
    "jigsaw": Jigsaw,
    "rotation": Rotation,
    "exemplar": Exemplar,
}
"""The pretexts that Taleb et al. brought to volumes."""

THREE = {"rotation": Rotation, "reconstruction": Inpainting, "colorization": Colorization}
"""The surrogate tasks that Tajbakhsh et al. compared."""


def pretexts_3d(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    pretext: str = "relative position",
    **kwargs,
) -> Fitted:
    """Pre-train on whole volumes by one of five pretexts, then fine-tune on the few masks.

    ===================== ================================================================
    ``cpc``               slabs of tiles; a context over the first predicts the later ones
    ``relative position`` 27 cells; 26 directions from the middle one
    ``jigsaw``            27 tiles; a set of far-apart permutations
    ``rotation``          10 turns: none, and three about each axis
    ``exemplar``          two views of a volume against those of the others, as triplets
    ===================== ================================================================

    The classes are those of the slices: each takes the number of axes from its network.

    Reference: Taleb et al., "3D Self-Supervised Methods for Medical Imaging", NeurIPS 2020.
    Simplified: whole small volumes, not patches of large ones; tiles of small volumes reach
    only the upper levels of the encoder.

    Args:
        task: of volumes.
        budget: of each round; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        pretext: a key of the table.
        **kwargs: passed on to :func:`.pretrain_finetune`.

    Raises:
        ValueError: slices, or an unknown pretext.
    """
    if task.train.dims != 3:
        raise ValueError("These pretexts are for volumes: load the cohort with dims=3.")
    if pretext not in FIVE:
        raise ValueError(f"Unknown pretext {pretext!r}: choose one of {', '.join(FIVE)}.")
    return pretrain_finetune(task, budget, seed, pretext=FIVE[pretext], **kwargs)


def surrogate_supervision(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    labelled: tuple[int, ...] = (1, 3, 10),
    **kwargs,
) -> list[dict]:
    """Three pretexts as starting points against scratch, for several amounts of labels.

    Each pretext is trained once, on all images, and fine-tuned for every amount. The scores are
    those of the *validation* subjects: this is a study to choose by.

    Reference: Tajbakhsh et al., "Surrogate Supervision for Medical Image Analysis: Effective Deep
    Learning From Limited Quantities of Labeled Data", ISBI 2019.
    Simplified: the same images for pretext and task; no start from ImageNet; colourisation of
    grey images is its substitute (see :class:`.Colorization`).

    Args:
        task: with all its labels; they are taken away here.
        budget: of every training; by default :meth:`Budget.auto`.
        seed: of weights, draws and labelled subjects.
        labelled: numbers of labelled subjects.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Returns:
        Rows ``{"start", "labelled", "dice"}``, ``start`` being ``scratch`` or a pretext.
    """
    starts = {"scratch": None}
    for name, pretext in THREE.items():
        starts[name] = pretrain(pretext, task, budget, seed, **kwargs).method
    rows = []
    for number in labelled:
        few = task.keep(number, seed)
        for name, start in starts.items():
            fitted = finetune_from(start, few, budget, seed, **kwargs)
            dice = evaluate(fitted, task.valid, surfaces=False).mean_dice
            rows.append({"start": name, "labelled": number, "dice": dice})
    return rows
