"""How general is each layer? Transfer the first n of them, for every n."""

from __future__ import annotations

from lsseg_edu.data import Task
from lsseg_edu.evaluate import evaluate
from lsseg_edu.semi.transfer.finetune import Source, finetune_layers, learn_source
from lsseg_edu.semi.transfer.layers import layers as layers_of
from lsseg_edu.train import Budget, Fitted, Supervised, fit


def layer_transfer(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "brain",
    network: str = "unet",
    layers: int = 5,
    frozen: bool = False,
    **kwargs,
) -> Fitted:
    r"""One point of the curve: the first ``layers`` from the source, the others random.

    .. math:: \theta^0 = (\theta^S_1, \ldots, \theta^S_n,\ \theta^R_{n+1}, \ldots, \theta^R_L)

    Args:
        task: the target, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: see :func:`.learn_source`.
        network: ``"unet"`` (nine layers) or ``"efficient"`` (ten).
        layers: ``n``; 5 is the encoder of the U-Net, 0 the random control.
        frozen: hold these layers still; else they are trained with the others.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Reference: Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural
    networks?", NeurIPS 2014.
    """
    given = learn_source(source, task, network, budget, seed, **kwargs)
    still = layers if frozen and given else 0
    fitted = finetune_layers(given, task, budget, seed, network, layers, still, **kwargs)
    fitted.seconds += given.seconds if given else 0
    return fitted


def transferability(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "brain",
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    bases: tuple[str, ...] = ("source", "self"),
    **kwargs,
) -> list[dict]:
    """The target's score against n: from the source and from itself, frozen and tuned.

    ========== ============================ ======================================
    base       frozen                       tuned
    ========== ============================ ======================================
    ``source`` how general the layer is     what transfer gives in practice
    ``self``   harm done by cutting between what training twice gives without any
               layers that learnt together  transfer
    ========== ============================ ======================================

    ``self`` is Yosinski's control: the first n layers of a network that was trained on the target
    itself. With n = 0 all four are training from scratch, which is run once.

    Args:
        task: the target, with its few labels.
        budget: of every training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: see :func:`.learn_source`; a U-Net.
        layers: the values of n, ascending.
        bases: which rows of the table.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Returns:
        Rows ``{"base", "layers", "frozen", "dice", "fitted"}``, ``dice`` of the *validation*
        subjects: this is a study to choose by.

    Raises:
        ValueError: a base that there is not; no source.

    Reference: Yosinski et al., NeurIPS 2014. Simplified: two tasks instead of halves of ImageNet.
    """
    strangers = set(bases) - {"source", "self"}
    if strangers or source == "random":
        wrong = strangers.pop() if strangers else source
        raise ValueError(f"Nothing can be transferred from {wrong!r}: the bases are source, self.")
    starts = {}
    for base in bases:
        starts[base] = (
            learn_source(source, task, "unet", budget, seed, **kwargs)
            if base == "source"
            else _own(task, budget, seed, **kwargs)
        )
    rows = []
    for n in layers:
        for base, start in starts.items():
            for frozen in (True, False):
                if n > 0 or not rows:
                    still = n if frozen else 0
                    run = finetune_layers(start, task, budget, seed, "unet", n, still, **kwargs)
                    rows.append(_row(base if n else "scratch", n, frozen and n > 0, run, task))
    return rows


def _own(task, budget, seed, **kwargs) -> Source:
    """The target's own network, of other weights and draws than the trainings that follow."""
    other = seed + 1000
    base = fit(Supervised.for_task(task, other), task, budget, other, **kwargs)
    net = base.method.net
    return Source(net, len(layers_of(net)), base.seconds)


def _row(base, n, frozen, run, task) -> dict:
    dice = evaluate(run, task.valid, surfaces=False).mean_dice
    return {"base": base, "layers": n, "frozen": frozen, "dice": dice, "fitted": run}
