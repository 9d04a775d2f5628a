"""The loop: seeds, fairness, resume, errors."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.consistency import MeanTeacher
from lsseg_edu.train import (
    Budget,
    Method,
    Player,
    Supervised,
    fit,
    load_checkpoint,
    supervised_longer,
)


def small_net(seed=0, classes=3, dims=2, dropout=0.0):
    torch.manual_seed(seed)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(
        conv(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), conv(8, classes, 3, padding=1)
    )


def weights(method):
    return torch.cat([p.detach().flatten() for p in method.state_dict().values()])


def run(method, task, budget, **kwargs):
    return fit(method, task, budget, progress=False, **kwargs)


def test_training_lowers_the_loss(task):
    history = run(Supervised(small_net()), task, Budget("smoke", 40)).history["supervised"]
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


def test_same_seed_same_weights_and_other_seed_other_weights(task, budget):
    a, b, c = (
        run(Supervised(small_net(dropout=0.5)), task, budget, seed=s).method for s in (0, 0, 1)
    )
    assert torch.equal(weights(a), weights(b))
    assert not torch.equal(weights(a), weights(c))


def test_baseline_and_method_see_the_same_labelled_images(task, budget):
    seen = {}

    class Looks(MeanTeacher):
        def loss(self, batch):
            seen.setdefault(self.unlabelled, []).append(batch.labelled.images.clone())
            return (
                super().loss(batch)
                if self.unlabelled
                else {"x": self.net(batch.labelled.images).mean()}
            )

    class LooksAlone(Looks):
        unlabelled = False

    run(Looks(small_net()), task, budget)
    run(LooksAlone(small_net()), task, budget)
    assert all(torch.equal(a, b) for a, b in zip(seen[True], seen[False], strict=True))


def test_labelled_batches_hold_labels_and_unlabelled_batches_hold_none(task, budget):
    class Checks(Method):
        unlabelled = True

        def loss(self, batch):
            assert (batch.labelled.labels != IGNORE).all()
            assert (batch.unlabelled.labels == IGNORE).all()
            assert not set(batch.unlabelled.subject.tolist()) & set(batch.labelled.subject.tolist())
            return {"x": self.net(batch.labelled.images).mean()}

    run(Checks(small_net()), task, budget)


@pytest.mark.parametrize("killed_at", [1, 4, 7])
def test_killed_training_resumes_to_bitwise_the_same_weights(task, tmp_path, killed_at):
    budget, path = Budget("smoke", steps=8, batch=4), tmp_path / "run.pt"
    whole = run(MeanTeacher(small_net(dropout=0.5)), task, budget)

    class Killed(MeanTeacher):
        def after_step(self, progress):
            super().after_step(progress)
            if round(progress * 8) == killed_at:
                raise SystemExit

    with pytest.raises(SystemExit):
        run(Killed(small_net(dropout=0.5)), task, budget, checkpoint=path, every=1)
    torch.manual_seed(99)
    resumed = run(MeanTeacher(small_net(dropout=0.5)), task, budget, checkpoint=path, every=1)
    assert torch.equal(weights(whole.method), weights(resumed.method))
    assert whole.history == resumed.history


def test_control_c_keeps_what_there_is(task, tmp_path):
    class Interrupted(Supervised):
        def after_step(self, progress):
            if progress > 0.4:
                raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    fitted = run(Interrupted(small_net()), task, Budget("smoke", 10), checkpoint=path)
    assert fitted.interrupted and len(fitted.history["supervised"]) == 5
    assert load_checkpoint(path)["step"] == 5


def test_broken_loss_stops_with_its_name_before_the_weights_break(task, budget):
    class Broken(Supervised):
        def loss(self, batch):
            return {
                **super().loss(batch),
                "shape prior": self.net(batch.labelled.images).mean() / 0,
            }

    method = Broken(small_net())
    before = weights(method).clone()
    with pytest.raises(FloatingPointError, match="'shape prior' .* at step 0"):
        run(method, task, budget)
    assert torch.equal(weights(method), before)


def test_two_players_are_stepped_in_turn(task, budget):
    order = []

    class Duel(Method):
        def __init__(self, net):
            super().__init__(net)
            self.judge = small_net(1)

        def players(self):
            def turn(name, net):
                def loss(batch):
                    order.append(name)
                    return {name: net(batch.labelled.images).square().mean()}

                return Player(name, list(net.parameters()), loss, rate=0.5)

            return [turn("segmenter", self.net), turn("judge", self.judge)]

    method = Duel(small_net())
    before = weights(method).clone()
    fitted = run(method, task, budget)
    assert order == ["segmenter", "judge"] * 3
    assert set(fitted.history) == {"segmenter", "judge"}
    assert (weights(method) != before).float().mean() > 0.9


def test_extras_that_are_maps_are_warped_with_the_labels(task, budget):
    copy = task.train.labels.clone()
    extra = task.supervise(copy.clone(), copy=copy, several=torch.stack([copy, copy + 1], 1))

    class Compares(Method):
        def loss(self, batch):
            labels, extras = batch.labelled.labels, batch.labelled.extras
            assert torch.equal(labels, extras["copy"])
            assert torch.equal(torch.stack([labels, labels + 1], 1), extras["several"])
            return {"x": self.net(batch.labelled.images).mean()}

    run(Compares(small_net()), extra, budget, augment=Augment.strong())


def test_three_dimensions(volumes, budget):
    task = Task.split(volumes, labelled=2, valid=1, test=1)
    fitted = run(MeanTeacher(small_net(dims=3)), task, budget)
    assert fitted.predict(task.test.images).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_corrupt_checkpoint_is_one_sentence(task, budget, tmp_path, damage):
    path = tmp_path / "run.pt"
    run(Supervised(small_net()), task, budget, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(ValueError, match="cannot be read .* delete it to train from the start"):
        run(Supervised(small_net()), task, budget, checkpoint=path)
    assert path.exists()


def test_checkpoint_of_another_network_is_one_sentence(task, budget, tmp_path):
    run(Supervised(small_net()), task, budget, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="belongs to another method"):
        run(Supervised(small_net(classes=5)), task, budget, checkpoint=tmp_path / "run.pt")


def test_no_unlabelled_image_is_one_sentence(cohort, budget):
    task = Task.split(cohort, valid=2, test=2)
    with pytest.raises(ValueError, match="no unlabelled training image"):
        run(MeanTeacher(small_net()), task, budget)


def test_cuda_asked_for_and_absent(task, budget, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA was asked for but is not available"):
        run(Supervised(small_net()), task, budget, device="cuda")


def test_budget_by_name(monkeypatch):
    monkeypatch.setenv("LSSEG_EDU_BUDGET", "laptop")
    assert Budget.auto().name == "laptop"
    monkeypatch.setenv("LSSEG_EDU_BUDGET", "huge")
    with pytest.raises(ValueError, match="Unknown budget 'huge': choose one of smoke"):
        Budget.auto()


def test_longer_is_the_baseline_with_more_steps(task, budget):
    longer = supervised_longer(task, budget, seed=1, times=3, progress=False)
    plain = run(Supervised.for_task(task, 1), task, replace(budget, steps=9), seed=1)
    assert len(longer.history["supervised"]) == 9
    assert longer.history == plain.history


def test_a_method_draws_only_the_halves_it_asks_for(task, budget):
    class Pretext(Supervised):
        labelled, unlabelled, weak = False, True, Augment.none()

        def loss(self, batch):
            seen.append(batch)
            return {"mean": self.net(batch.unlabelled.images).square().mean()}

    seen = []
    run(Pretext(small_net()), task, budget)
    run(MeanTeacher(small_net()), task, budget)
    part = seen[0].unlabelled
    assert all(b.labelled is None for b in seen)
    assert torch.equal(part.images, task.train.images[part.index]), "its own augmentation: none"
    assert torch.isin(part.index, task.unlabelled).all()
