"""Full training or fine-tuning? How many layers to tune, for how many labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.evaluate import evaluate
from lsseg_edu.semi.transfer.finetune import Source, finetune_layers, learn_source
from lsseg_edu.train import Budget, Fitted


def layerwise_tuning(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "imagenet",
    network: str = "efficient",
    tuned: int = 3,
    **kwargs,
) -> Fitted:
    r"""Transfer all that the source has learnt; tune the last ``tuned`` of these layers.

    .. math:: \theta_{\le n - t} = \theta^S_{\le n - t} \text{ fixed}, \qquad
        \theta_{n - t < l \le n} \text{ from } \theta^S, \qquad \theta_{> n} \text{ from random}

    ``tuned=0`` is a feature extractor ("shallow tuning" of the paper tunes the head alone), all
    of them "deep tuning". Layers that the source has not learnt, and the head, are always trained.

    Args:
        task: the problem, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: see :func:`.learn_source`.
        network: ``"efficient"`` or ``"unet"``.
        tuned: :math:`t`. Of the six encoder layers from ImageNet three by default: the paper
            found that how deep to tune depends on the distance between the tasks.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: nothing to tune, or more than was transferred.

    Reference: Tajbakhsh et al., "Convolutional Neural Networks for Medical Image Analysis: Full
    Training or Fine Tuning?", IEEE TMI 2016.
    """
    given = learn_source(source, task, network, budget, seed, **kwargs)
    known = given.layers if given else 0
    if not 0 <= tuned <= known:
        raise ValueError(f"{tuned} layers cannot be tuned: the source has given {known}.")
    still = known - tuned
    fitted = finetune_layers(given, task, budget, seed, network, frozen=still, **kwargs)
    fitted.seconds += given.seconds if given else 0
    return fitted


class HandCrafted:
    """A random forest on features that people designed: intensity, edges, texture at scales.

    scikit-image's multi-scale features (Gaussian, gradient magnitude and Hessian eigenvalues) of
    each pixel and its place in the image, scikit-learn's forest. No network, no transfer: what
    was there before.

    Args:
        seed: of the pixels drawn and of the forest.
        trees: of the forest.
        pixels: drawn of each labelled image; all of them would teach little more.
    """

    def __init__(self, seed: int = 0, trees: int = 30, pixels: int = 200):
        from sklearn.ensemble import RandomForestClassifier

        self.forest = RandomForestClassifier(trees, max_depth=16, random_state=seed)
        self.pixels, self.random = pixels, np.random.default_rng(seed)

    def fit(self, task: Task) -> HandCrafted:
        """Grow the forest on pixels of the labelled images."""
        x = self.features(task.train.images[task.labelled]).reshape(len(task.labelled), -1, self.f)
        y = task.train.labels[task.labelled].flatten(1).numpy()
        draw = self.random.integers(0, y.shape[1], (len(y), self.pixels))
        x = np.take_along_axis(x, draw[..., None], 1).reshape(-1, self.f)
        y = np.take_along_axis(y, draw, 1).ravel()
        self.forest.fit(x[y != IGNORE], y[y != IGNORE])
        self.classes = task.train.classes
        return self

    def features(self, images: Tensor) -> np.ndarray:
        """Images ``(N, C, *S)`` to ``(N, *S, F)``."""
        from skimage.feature import multiscale_basic_features as basic

        each = [basic(image, sigma_max=8, channel_axis=0) for image in images.cpu().numpy()]
        axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in images.shape[2:]]
        place = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        self.f = each[0].shape[-1] + len(axes)
        return np.stack([np.concatenate([values, place], -1) for values in each])

    def predict(self, images: Tensor, batch: int = 64) -> Tensor:
        """Probabilities ``(N, K, *S)``."""
        out = []
        for part in images.split(batch):
            x = self.features(part)
            probs = np.zeros((*x.shape[:-1], self.classes), np.float32)
            found = self.forest.predict_proba(x.reshape(-1, self.f)).reshape(*x.shape[:-1], -1)
            probs[..., self.forest.classes_] = found
            out.append(torch.from_numpy(probs).movedim(-1, 1))
        return torch.cat(out)


def hand_crafted(task: Task, budget: Budget | None = None, seed: int = 0) -> HandCrafted:
    """The hand-crafted arm, trained; it needs no budget."""
    return HandCrafted(seed).fit(task)


def full_or_fine(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "imagenet",
    network: str = "efficient",
    tuned: tuple[int, ...] = (0, 3, 6),
    labelled: tuple[int, ...] = (1, 3, 10),
    **kwargs,
) -> list[dict]:
    """Depth of tuning x number of labelled subjects, beside scratch and hand-crafted features.

    Args:
        task: with all its labels; they are taken away here.
        budget: of every training; by default :meth:`Budget.auto`.
        seed: of weights, draws and labelled subjects.
        source: learnt once, for all amounts; see :func:`.learn_source`.
        network: ``"efficient"`` or ``"unet"``.
        tuned: numbers of transferred layers to tune.
        labelled: numbers of labelled subjects.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Returns:
        Rows ``{"arm", "labelled", "dice"}`` with the *validation* Dice; the arms are ``scratch``,
        ``hand-crafted`` and ``tuned t``.

    Reference: Tajbakhsh et al., IEEE TMI 2016. Simplified: one application instead of four.
    """
    given = learn_source(source, task, network, budget, seed, **kwargs)
    rows = []
    for number in labelled:
        few = task.keep(number, seed)
        arms = {
            "scratch": finetune_layers(None, few, budget, seed, network, **kwargs),
            "hand-crafted": hand_crafted(few, seed=seed),
        }
        for t in tuned:
            arms[f"tuned {t}"] = layerwise_tuning(few, budget, seed, given, network, t, **kwargs)
        for arm, fitted in arms.items():
            dice = evaluate(fitted, task.valid, surfaces=False).mean_dice
            rows.append({"arm": arm, "labelled": number, "dice": dice})
    return rows
