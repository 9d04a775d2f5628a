"""Sparse slices, whole procedures: what every round is taught, and by whom."""

from dataclasses import replace

import pytest
import torch
from probes import rooms, weights

from lsseg_edu.data import IGNORE, Task, annotate
from lsseg_edu.partial import max_cover, rounds
from lsseg_edu.partial.slices import (
    SparseSlices,
    completed,
    handed_on,
    hybrid_training,
    known_planes,
    mixed_annotation,
    one_slice_training,
    plane_motion,
    propagate,
    propagated_training,
    representative_slices,
    unannotated,
    uncertainty_guided,
)
from lsseg_edu.partial.slices import bai as bai_room
from lsseg_edu.partial.slices import zheng_select as select_room
from lsseg_edu.partial.slices.bai import propagated
from lsseg_edu.partial.slices.zheng_select import choose_planes
from lsseg_edu.train import Budget, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=3, batch=2)


@pytest.fixture(scope="module")
def volumes_task():
    return rooms()


@pytest.fixture
def sparse(volumes_task):
    return annotate.slices(volumes_task, every=5, seed=0)


@pytest.fixture
def one(volumes_task):
    return annotate.slices(volumes_task, count=1, seed=0)


@pytest.fixture
def taught(monkeypatch):
    """The tasks that the rounds train on, one after the other."""
    tasks = []

    def spy(method, task, *args, **kwargs):
        tasks.append(task)
        return fit(method, task, *args, **kwargs)

    monkeypatch.setattr(rounds, "fit", spy)
    return tasks


def answers(fitted, task):
    probs = fitted.predict(task.test.images)
    assert probs.shape == (len(task.test), 3, 16, 32, 16)
    torch.testing.assert_close(probs.sum(1), torch.ones(len(task.test), 16, 32, 16))
    assert all(torch.tensor(v).isfinite().all() for v in fitted.history.values())
    return probs


def test_sparse_slices_trains_like_the_baseline_with_zero_weights(sparse):
    mine = fit(SparseSlices.for_task(sparse, 0), sparse, FEW, **QUIET)
    other = fit(Supervised.for_task(sparse, 0), sparse, FEW, **QUIET)
    pair = (torch.tensor(mine.history["voxels"]), torch.tensor(other.history["supervised"]))
    torch.testing.assert_close(*pair, atol=1e-3, rtol=0)
    answers(mine, sparse)


# Label propagation with an exponential weight


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_weights_decay_exponentially_with_the_distance(one, rate):
    taught = propagated(one, rate)
    index, depth = one.labelled, torch.arange(16)
    for labels, trust, given in zip(
        taught.train.labels[index],
        taught.train.extras["trust"][index],
        one.train.labels[index],
        strict=True,
    ):
        start = int(known_planes(given[None])[0].nonzero())
        expected = torch.exp(-rate * (depth - start).abs())
        torch.testing.assert_close(trust[:, 0, 0] / 255, expected, atol=0.003, rtol=0)
        assert (trust == trust[:, :1, :1]).all()
        assert (labels != IGNORE).all() and (labels[start] == given[start]).all()


def test_with_a_large_rate_nothing_but_sparse_slices_is_left(sparse):
    carried = propagated_training(sparse, FEW, rate=1e3, **QUIET)
    plain = fit(SparseSlices.for_task(sparse, 0), sparse, FEW, **QUIET)
    trusting = propagated_training(sparse, FEW, rate=0.0, **QUIET)
    terms = [torch.tensor(x.history["voxels"]) for x in (carried, plain, trusting)]
    torch.testing.assert_close(terms[0], terms[1], atol=1e-3, rtol=0)
    assert (terms[2] - terms[1]).abs().max() > 0.01
    answers(carried, sparse)


def test_labels_come_by_registration(sparse, monkeypatch):
    seen = []

    def spy(volumes):
        seen.append(plane_motion(volumes, steps=2))
        return seen[-1]

    monkeypatch.setattr(bai_room, "plane_motion", spy)
    taught, index = propagated(sparse, 0.1), sparse.labelled
    soft, _ = propagate(sparse.train.labels[index], 3, seen[0])
    assert seen[0].up.abs().max() > 0
    off = ~known_planes(sparse.train.labels[index])
    assert (taught.train.labels[index] == soft.argmax(1))[off].all()


# One slice


def test_registration_and_network_take_turns(one, taught):
    result = one_slice_training(one, FEW, rounds=2, **QUIET)
    index, given = one.labelled, one.train.labels[one.labelled]
    images = one.train.images[index]
    motion = plane_motion(images)
    soft = propagate(given, 3, motion)[0]
    probs = result.rounds[0].predict(images)
    for task, expected in zip(taught, (soft, handed_on(probs, motion)), strict=True):
        labels = completed(given, expected)[0]
        assert (task.train.labels[index] == labels).float().mean() > 0.999
        assert (task.train.labels[index] == given)[given != IGNORE].all()
        assert (task.train.extras["trust"][index] == 255).all()
    answers(result, one)


def test_without_registration_the_network_is_its_own_teacher(one, taught):
    result = one_slice_training(one, FEW, rounds=2, register=False, **QUIET)
    given = one.train.labels[one.labelled]
    probs = result.rounds[0].predict(one.train.images[one.labelled])
    assert torch.equal(taught[1].train.labels[one.labelled], completed(given, probs)[0])


def test_rounds_share_the_budget_and_go_on_with_one_network(one):
    result = one_slice_training(one, replace(FEW, steps=4), rounds=2, **QUIET)
    assert [len(r.history["voxels"]) for r in result.rounds] == [2, 2]
    first, last = (weights(r.method) for r in result.rounds)
    assert 0 < (first - last).abs().max() < 0.1


# Uncertainty-guided


@pytest.mark.parametrize("weighted", [True, False])
def test_pseudo_labels_count_by_the_certainty_of_the_heads(sparse, taught, weighted):
    result = uncertainty_guided(sparse, FEW, rounds=2, heads=2, weighted=weighted, **QUIET)
    index, given = sparse.labelled, sparse.train.labels[sparse.labelled]
    assert torch.equal(taught[0].train.labels, sparse.train.labels)  # first the planes alone
    assert "trust" not in taught[0].train.extras
    each = result.rounds[0].method.eval().net(sparse.train.images[index]).detach().softmax(2)
    mean = each.mean(0)
    certainty = torch.exp((mean * mean.log()).sum(1)) if weighted else torch.ones(given.shape)
    certainty[given != IGNORE] = 1
    trust = taught[1].train.extras["trust"][index].float() / 255
    torch.testing.assert_close(trust, certainty, atol=0.003, rtol=0)
    labels = taught[1].train.labels[index]
    assert torch.equal(labels, given.where(given != IGNORE, mean.argmax(1)))
    answers(result, sparse)


# Choosing planes


@pytest.mark.parametrize("choose", ["cover", "even", "random"])
def test_exactly_the_chosen_planes_are_asked(volumes_task, choose):
    task = unannotated(volumes_task, volumes=3)
    chosen = choose_planes(task, 10, choose, FEW, 0, **QUIET)
    assert len(chosen.unique(dim=0)) == 10
    asked = annotate.ask(task, chosen.unbind(1))
    known = known_planes(asked.train.labels)
    assert known.sum() == 10 and known[chosen[:, 0], chosen[:, 1]].all()
    assert ((asked.train.labels != IGNORE).flatten(2).any(2) == known).all()
    assert asked.seconds >= 10 * annotate.SECONDS["point"]
    if choose == "even":
        assert known.sum(1).sort().values.tolist() == [3, 3, 4]


def test_choice_is_a_cover_of_the_codes_and_looks_at_no_label(volumes_task, monkeypatch):
    coders = []

    def spy(*args, **kwargs):
        coders.append(fit(*args, **kwargs))
        return coders[-1]

    monkeypatch.setattr(select_room, "fit", spy)
    task = unannotated(volumes_task, volumes=3)
    chosen = choose_planes(task, 6, "cover", FEW, 0, **QUIET)
    codes = coders[0].predict(select_room.plane_task(task).train.images)
    assert len(coders[0].history["reconstruction"]) == FEW.steps
    expected = max_cover((codes @ codes.T).clamp(min=0), 6)
    assert torch.equal(16 * chosen[:, 0] + chosen[:, 1], expected)
    mute = task.train.extras["annotator"] * 0
    other = replace(task, train=replace(task.train, extras={"annotator": mute}))
    assert torch.equal(choose_planes(other, 6, "cover", FEW, 0, **QUIET), chosen)


def test_cover_chooses_one_plane_of_each_kind(volumes_task):
    task = unannotated(volumes_task, volumes=2)
    stripes = torch.zeros(1, 16, 32, 16)
    stripes[:, :6, ::2] = 3
    stripes[:, 6:11, :, ::2] = 3
    stripes[:, 11:] = -3
    images = stripes.expand(2, 1, -1, -1, -1) + 0.1 * torch.randn(2, 1, 16, 32, 16)
    task = replace(task, train=replace(task.train, images=images))
    budget = Budget("smoke", steps=30, batch=2)
    planes = choose_planes(task, 3, "cover", budget, 0, **QUIET)[:, 1]
    kinds = (planes >= 6).int() + (planes >= 11).int()
    assert sorted(kinds.tolist()) == [0, 1, 2]


def test_representative_slices_train_then_label_the_rest(volumes_task, taught):
    task = unannotated(volumes_task, volumes=3)
    result = representative_slices(task, FEW, count=8, **QUIET)
    assert known_planes(taught[0].train.labels).sum() == 8
    assert (taught[1].train.labels != IGNORE).all()
    assert result.planes.shape == (8, 2) and result.annotation_seconds == taught[0].seconds > 0
    assert all("annotator" not in each.train.extras for each in taught)
    given = taught[0].train.labels
    assert (taught[1].train.labels == given)[given != IGNORE].all()
    answers(result, task)


# Hybrid loss


def test_three_kinds_of_annotation(volumes_task):
    task = mixed_annotation(volumes_task, every=5, run=4)
    known = known_planes(task.train.labels[task.labelled])
    whole, sparse, block = known[0::3].sum(1), known[1::3], known[2::3]
    assert (whole == 16).all()
    assert all(set(row.nonzero()[:, 0].diff().tolist()) == {5} for row in sparse)
    assert all(row.nonzero()[:, 0].diff().tolist() == [1, 1, 1] for row in block)
    assert (
        0
        < task.seconds
        < annotate.cost.mask_seconds(volumes_task.train.labels[volumes_task.labelled])
    )


def test_rims_stay_and_classes_are_completed(volumes_task, taught):
    task = mixed_annotation(volumes_task, every=5)
    result = hybrid_training(task, FEW, rounds=2, **QUIET)
    first, second = taught
    assert torch.equal(first.train.labels, task.train.labels)
    index, given = task.labelled, task.train.labels != IGNORE
    assert (second.train.labels[index] != IGNORE).all()
    for one in taught:
        assert torch.equal(one.train.extras["given"].bool(), given)
        assert torch.equal(one.train.extras["rims"], first.train.extras["rims"])
    assert (
        first.train.extras["rims"].any()
        and not first.train.extras["rims"][
            ~given.unsqueeze(1).expand_as(first.train.extras["rims"])
        ].any()
    )
    trust = second.train.extras["trust"][index]
    assert (trust[given[index]] == 255).all() and (trust[~given[index]] < 255).any()
    answers(result, task)


# Bad input


def test_procedures_refuse_what_they_cannot_do(task, sparse, volumes_task):
    for procedure in (propagated_training, one_slice_training, uncertainty_guided):
        with pytest.raises(ValueError, match="load it with dims=3"):
            procedure(task, FEW)
    with pytest.raises(ValueError, match="surer with the distance"):
        propagated_training(sparse, FEW, rate=-1)
    for number in (0, 4):
        with pytest.raises(ValueError, match="cannot be shared"):
            uncertainty_guided(sparse, FEW, rounds=number)
    with pytest.raises(ValueError, match="dims=3"):
        mixed_annotation(task)
    with pytest.raises(ValueError, match="Nobody can be asked"):
        representative_slices(volumes_task, FEW)
    with pytest.raises(ValueError, match="volumes"):
        representative_slices(task, FEW)
    hidden = unannotated(volumes_task, volumes=2)
    with pytest.raises(ValueError, match="Unknown choice"):
        representative_slices(hidden, FEW, choose="best")
    with pytest.raises(ValueError, match="cannot be chosen"):
        representative_slices(hidden, FEW, count=33)
    with pytest.raises(ValueError, match="from whole masks"):
        unannotated(sparse)
    labels = torch.zeros_like(hidden.train.labels)
    with pytest.raises(ValueError, match="this task has some"):
        representative_slices(replace(hidden, train=replace(hidden.train, labels=labels)), FEW)


def test_a_task_without_any_label_names_nobody(volumes_task):
    hidden = unannotated(volumes_task, volumes=2)
    assert len(hidden.labelled) == 0 and hidden.seconds == 0
    assert isinstance(hidden, Task) and len(hidden.train.subjects.unique()) == 2
