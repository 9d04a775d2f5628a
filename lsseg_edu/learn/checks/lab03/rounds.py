"""The loop of rounds: who labels, who learns, and from where each one starts."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.learn.checks.demand import demand, passed


def rounds(self_train) -> None:
    """Step 3: ``self_train(task, rounds, threshold, seed, train)`` gives all networks in a list."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = _problem()
        spy = Spy(task)
        models = self_train(task, 2, 0.5, 7, spy)
    _count(models, spy)
    _pseudo(task, spy)
    _starts(task, spy)
    passed("rounds of self-training")


class Spy:
    """A ``train`` that writes down what it was given and moves the weights a little."""

    def __init__(self, task):
        self.task, self.calls, self.asked = task, [], []

    def __call__(self, net, task, seed, pseudo=None):
        number, start = len(self.calls), _flat(net)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.01)
        model = SimpleNamespace(method=SimpleNamespace(net=net))
        model.predict = lambda images: self._answer(number, images)
        pseudo = None if pseudo is None else pseudo.clone()
        call = {"net": net, "start": start, "end": _flat(net), "seed": seed, "pseudo": pseudo}
        self.calls.append({**call, "model": model})
        return model

    def _answer(self, number, images):
        self.asked.append((number, images))
        return answer_of(number, len(images))


def answer_of(number: int, n: int) -> torch.Tensor:
    """What network ``number`` of the spy says of ``n`` images; many pixels are below one half."""
    draw = torch.Generator().manual_seed(number)
    return torch.randn(n, 3, 32, 32, generator=draw).softmax(1)


def _count(models, spy):
    demand(
        len(spy.calls) == 3,
        "Two rounds are three trainings: the teacher, and a student a round. You called train "
        f"{len(spy.calls)} times.",
    )
    demand(
        isinstance(models, list) and len(models) == 3,
        "Return the list of all networks, the teacher first: [teacher, student 1, ...].",
    )
    demand(
        all(m is call["model"] for m, call in zip(models, spy.calls, strict=True)),
        "The list must hold what train returned, in the order of the trainings.",
    )
    demand(
        spy.calls[0]["pseudo"] is None,
        "The teacher must learn from the labels alone: call train without pseudo.",
    )


def _pseudo(task, spy):
    images = task.train.images[task.unlabelled]
    demand(
        all(x.shape == images.shape and torch.equal(x, images) for _, x in spy.asked),
        "Ask for the unlabelled training images, all of them and no others: "
        "task.train.images[task.unlabelled].",
    )
    for number in (1, 2):
        pseudo = spy.calls[number]["pseudo"]
        demand(pseudo is not None, f"Student {number} must learn from pseudo-labels: hand them on.")
        expected = [_hard(answer_of(n, len(images)), 0.5) for n in range(number)]
        demand(
            number == 1 or not torch.equal(pseudo, expected[0]),
            "Round 2 must learn the labels of student 1, not the teacher's once more: ask the "
            "network that was trained last.",
        )
        demand(
            torch.equal(pseudo, expected[-1]),
            f"The pseudo-labels of round {number} must be pseudo_labels(answer, threshold) of the "
            "network before, with the threshold that self_train was given.",
        )


def _starts(task, spy):
    calls = spy.calls
    for i, call in enumerate(calls):
        demand(
            not any(call["net"] is c["net"] or _same(call["start"], c["end"]) for c in calls[:i]),
            "A student must be fresh, but one of yours went on from trained weights: its loss on "
            "its own answers is nearly 0. Make a new network each round with networks.unet.",
        )
    starts = [call["start"] for call in calls]
    demand(
        not any(_same(starts[i], starts[j]) for i in range(3) for j in range(i)),
        "Each network must start from weights of its own, so that it does not repeat a mistake "
        "because it began like its teacher: give networks.unet another seed each time.",
    )
    demand(
        len({call["seed"] for call in calls}) == 3,
        "Each training must have batches of its own: give train another seed each time.",
    )
    demand(
        _same(starts[-1], _flat(networks.unet(task, seed=7))) and calls[-1]["seed"] == 7,
        "The last student must start as the baseline of this seed does, weights and batches: "
        "networks.unet(task, seed=seed), and train with seed. Else you cannot pair them.",
    )


def _problem() -> Task:
    """Six subjects of two images; two are labelled, two are left for validation and test."""
    labels = torch.randint(3, (12, 32, 32)).numpy()
    images = torch.randn(12, 32, 32).numpy()
    subjects = torch.arange(12).div(2, rounding_mode="floor").numpy()
    return Task.split(Cohort.from_arrays(images, labels, subjects), labelled=2, valid=1, test=1)


def _hard(probs, threshold):
    confidence, label = probs.max(1)
    return label.where(confidence >= threshold, IGNORE)


def _flat(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def _same(a, b) -> bool:
    return torch.allclose(a, b, atol=1e-7)
