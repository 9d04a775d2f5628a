"""The baseline with one augmentation instead of all: what is each of them worth?

Every experiment of this book augments with ``Augment.strong()``, the baseline too. To judge one
augmentation, the baseline is trained with **that one alone**, and compared with none (a strength
of 0) and with all (the row ``supervised``). Network, first weights, steps and labelled subjects
are the baseline's; ``alone=False`` puts the change on top of ``strong()`` instead.
"""

from __future__ import annotations

from dataclasses import fields, replace

from lsseg_edu.augment import Augment, crop, cutout, erase
from lsseg_edu.data import Task
from lsseg_edu.train import Budget, Fitted, Supervised, fit

INTENSITIES = ("bias", "gamma", "contrast", "blur", "noise")


def with_warp(
    task: Task, budget: Budget | None = None, seed: int = 0, strength: float = 1.0, **kwargs
) -> Fitted:
    """Affine and elastic motion alone, image and labels at the same places; nothing repainted.

    Args:
        task: the problem.
        budget: of the training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        strength: times that of ``Augment.strong()``; 0 is no augmentation at all.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Reference: Shorten, Khoshgoftaar, "A survey on Image Data Augmentation for Deep Learning",
    Journal of Big Data 2019; elastic: Simard, Steinkraus, Platt, ICDAR 2003.
    """
    return _train(only("moves", strength), task, budget, seed, **kwargs)


def with_intensity(
    task: Task, budget: Budget | None = None, seed: int = 0, strength: float = 1.0, **kwargs
) -> Fitted:
    """Bias field, gamma, contrast, blur and noise alone; nothing moves, no label changes.

    Arguments as of :func:`with_warp`.
    """
    return _train(only("intensities", strength), task, budget, seed, **kwargs)


def with_crop(task, budget=None, seed=0, share: float = 0.75, alone=True, **kwargs) -> Fitted:
    """Train on random windows, predict on whole images; the window is the same for the labels.

    Args:
        task: the problem.
        budget: of the training.
        seed: of weights and draws.
        share: of each axis that the window keeps. What is left must be larger than 16 pixels
            along one axis at least, so that the U-Net's bottleneck is more than one pixel.
        alone: whether nothing else changes; if not, after ``Augment.strong()``.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share of an axis to keep lies in (0, 1], not {share}.")

    def window(images, labels, generator):
        return crop(images, labels, [round(share * n) for n in images.shape[2:]], generator)

    return _train(_after(window, alone), task, budget, seed, **kwargs)


def with_cutout(task, budget=None, seed=0, side: float = 0.25, alone=True, **kwargs) -> Fitted:
    """:func:`.cutout` of every image, labels kept. Other arguments as in :func:`with_crop`."""

    def hide(images, labels, generator):
        return cutout(images, generator, side), labels

    return _train(_after(hide, alone), task, budget, seed, **kwargs)


def with_erasing(task, budget=None, seed=0, p: float = 0.5, alone=True, **kwargs) -> Fitted:
    """:func:`.erase` with probability ``p``, labels kept. Arguments as in :func:`with_crop`."""

    def hide(images, labels, generator):
        return erase(images, generator, p), labels

    return _train(_after(hide, alone), task, budget, seed, **kwargs)


def only(kind: str, strength: float = 1.0) -> Augment:
    """The ``"moves"`` or the ``"intensities"`` of ``Augment.strong()``, ``strength`` times.

    Raises:
        ValueError: another kind, or a negative strength.
    """
    if kind not in ("moves", "intensities") or strength < 0:
        raise ValueError(f"'moves' or 'intensities', 0 times or more; not {strength} x {kind!r}.")
    names = [f.name for f in fields(Augment) if f.name != "cells"]
    mine = [name for name in names if (name in INTENSITIES) == (kind == "intensities")]
    strong = Augment.strong()
    return replace(Augment.none(), **{name: strength * getattr(strong, name) for name in mine})


def _after(change, alone):
    """``change`` after the rest of the augmentation: none of it, or all."""
    first = Augment.none() if alone else Augment.strong()
    return lambda images, labels, generator: change(*first(images, labels, generator), generator)


def _train(augment, task, budget, seed, **kwargs):
    return fit(Supervised.for_task(task, seed), task, budget, seed, augment=augment, **kwargs)
