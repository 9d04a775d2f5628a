"""Two scanners: what is translated, what must not move, and which masks come along."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.semi.adversarial import ShapeCycleGAN, Translator, critic, scanner_shift, shift
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}


def net(dims=2, seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh(), conv(4, 3, 1))


def make(dims=2, moved=True, **options):
    """The method on tiny networks; ``moved``: the translators no longer are the identity."""
    shape = networks.Shape(channels=1, classes=3, dims=dims)
    torch.manual_seed(2)
    translators = [Translator(1, dims, width=4, blocks=1) for _ in range(2)]
    if moved:
        for translator in translators:
            nn.init.normal_(translator.tail.weight, std=0.1)
    critics = [critic(shape, "images", seed) for seed in (0, 1)]
    return ShapeCycleGAN(net(dims), net(dims, seed=1), translators, critics, **options)


def batch(dims=2, progress=1.0, size=16):
    """Annotated images of scanner 0, others of scanner 1."""
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, *[size] * dims), torch.randint(0, 3, (2, *[size] * dims))
    index, nobody = torch.arange(2), torch.full_like(labels, IGNORE)
    source, target = ({"scanner": torch.full((2,), s)} for s in (0, 1))
    other = Part(1 - images.flip(0), nobody, index, index, target)
    return Batch(Part(images, labels, index, index, source), other, progress)


def two_scanners(cohort, **split):
    """Subjects in turn on scanner 0 and, seen darker, on scanner 1, where nobody annotated."""
    scanner = cohort.subjects % 2
    task = Task.split(replace(cohort, extras={"scanner": scanner}), **split)
    other = task.train.extras["scanner"] == 1
    images, labels = task.train.images.clone(), task.train.labels.clone()
    images[other], labels[other] = 0.5 * images[other] - 1, IGNORE
    return replace(task, train=replace(task.train, images=images)).supervise(labels)


@pytest.fixture(scope="module")
def shifted(cohort):
    return two_scanners(cohort, valid=2, test=2)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def gradient(loss, module):
    grads = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return [g for g in grads if g is not None]


class Judge(nn.Module):
    """A critic that says ``verdict`` of everything and keeps what it saw."""

    def __init__(self, verdict=0.0):
        super().__init__()
        self.verdict, self.seen = verdict, []

    def forward(self, seen):
        self.seen.append(seen)
        return self.verdict + 0 * seen


# The translator


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (8, 9, 10)])
def test_translator_starts_as_the_identity_and_can_leave_it(size):
    images = torch.randn(2, 1, *size)
    translator = Translator(1, len(size), width=4, blocks=2)
    assert torch.equal(translator(images), images)
    grads = gradient(translator(images).square().mean(), translator.tail)
    assert all(g.isfinite().all() for g in grads) and grads[0].abs().sum() > 0


def test_at_the_start_the_cycle_is_closed_and_synthetic_images_are_real_ones():
    m, b = make(moved=False), batch()
    assert m.loss(b)["cycle"] == 0
    terms = m.segmenter_loss(b)
    labelled = b.labelled
    by_target = losses.dice_ce(m.net(labelled.images), labelled.labels)
    assert terms["synthetic"].item() == pytest.approx(by_target.item())


# The terms


def test_the_translators_terms_by_hand():
    m, b = make(cycle=3.0, shape=2.0, ramp=0.4), batch(progress=0.2)
    m.critics = nn.ModuleList([Judge(1.0), Judge(-2.0)])
    x, u, y = b.labelled.images, b.unlabelled.images, b.labelled.labels
    to_target, to_source = m.translators
    pseudo = m.net(u).argmax(1)
    cycle = (to_source(to_target(x)) - x).abs().mean() + (to_target(to_source(u)) - u).abs().mean()
    shape = losses.dice_ce(m.net(to_target(x)), y) + losses.dice_ce(m.source(to_source(u)), pseudo)
    softplus = nn.functional.softplus
    fool = softplus(torch.tensor(2.0)) + softplus(torch.tensor(-1.0))  # -log sigmoid(z)
    terms = m.loss(b)
    assert terms["cycle"].item() == pytest.approx(3 * cycle.item(), rel=1e-4)
    assert terms["shape"].item() == pytest.approx(
        2 * sigmoid_rampup(0.2, 0.4) * shape.item(), rel=1e-4
    )
    assert terms["fool"].item() == pytest.approx(fool.item(), rel=1e-4)


def test_shape_consistency_objects_when_organs_move_and_come_back():
    """A pair that shifts the image and shifts it back: no cycle loss, but a shape loss."""

    class Shift(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def forward(self, images):
            return images.roll(self.by, -1)

    class Threshold(nn.Module):
        def forward(self, images):
            return torch.cat([-images, images, torch.full_like(images, -50.0)], 1) * 20

    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 4:8, 4:8] = 1
    images = 2.0 * labels.unsqueeze(1) - 1
    b = batch()
    still = make(moved=False, ramp=0.0)
    still.net, still.source = Threshold(), Threshold()
    moving = copy.deepcopy(still)
    moving.translators = nn.ModuleList([Shift(4), Shift(-4)])
    b = replace(
        b,
        labelled=replace(b.labelled, images=images, labels=labels),
        unlabelled=replace(b.unlabelled, images=images),
    )
    assert moving.loss(b)["cycle"] == still.loss(b)["cycle"] == 0
    assert still.loss(b)["shape"] < 0.1 < 1 < moving.loss(b)["shape"]


def test_shape_of_is_the_mask_and_elsewhere_the_answer_of_the_images_own_segmenter():
    m, b = make(), batch()
    labels = b.labelled.labels.clone()
    labels[:, :4] = IGNORE
    shape = m.shape_of(b.labelled.images, labels, 0)
    assert torch.equal(shape[:, 4:], labels[:, 4:])
    assert torch.equal(shape[:, :4], m.source(b.labelled.images).argmax(1)[:, :4])
    other = m.shape_of(b.unlabelled.images, b.unlabelled.labels, 1)
    assert torch.equal(other, m.net(b.unlabelled.images).argmax(1))


def test_translated_images_teach_the_target_with_the_mask_that_came_along():
    m, b = make(synthetic=0.5), batch()
    x, y = b.labelled.images, b.labelled.labels
    terms = m.segmenter_loss(b)
    fake = m.translators[0](x)
    assert terms["supervised"].item() == pytest.approx(
        losses.dice_ce(m.source(x), y).item(), rel=1e-5
    )
    assert terms["synthetic"].item() == pytest.approx(
        0.5 * losses.dice_ce(m.net(fake), y).item(), rel=1e-5
    )
    assert sum(g.abs().sum() for g in gradient(terms["synthetic"], m.net)) > 0
    off = make(synthetic=0.0)
    assert not any(g.abs().sum() for g in gradient(sum(off.segmenter_loss(b).values()), off.net))


def test_masks_on_both_sides_teach_both_segmenters_both_ways():
    m, b = make(), batch()
    both = {"scanner": torch.tensor([0, 1])}
    b = replace(b, labelled=replace(b.labelled, extras=both))
    (x0, x1), (y0, y1) = b.labelled.images.split(1), b.labelled.labels.split(1)
    there, back = m.translators
    real = losses.dice_ce(m.source(x0), y0) + losses.dice_ce(m.net(x1), y1)
    synthetic = losses.dice_ce(m.net(there(x0)), y0) + losses.dice_ce(m.source(back(x1)), y1)
    terms = m.segmenter_loss(b)
    assert terms["supervised"].item() == pytest.approx(real.item(), rel=1e-5)
    assert terms["synthetic"].item() == pytest.approx(synthetic.item(), rel=1e-5)


def test_each_critic_gets_real_images_of_its_scanner_and_fakes_from_the_other():
    m, b = make(), batch()
    m.critics = nn.ModuleList([Judge(20.0), Judge(20.0)])
    terms = m.critic_loss(b)
    assert terms["fake"].item() == pytest.approx(2 * 20, rel=1e-3)
    assert terms["real"].item() == pytest.approx(2 * 0.1 * 20, rel=1e-3)
    seen = [judge.seen for judge in m.critics]
    assert torch.equal(seen[0][0], b.labelled.images)
    assert torch.equal(seen[1][1], b.unlabelled.images)
    assert torch.allclose(seen[1][0], m.translators[0](b.labelled.images))
    assert torch.allclose(seen[0][1], m.translators[1](b.unlabelled.images))


# Three players


def parts(m):
    return {
        "translators": m.translators,
        "critics": m.critics,
        "segmenters": nn.ModuleList([m.source, m.net]),
    }


def test_three_players_share_no_weight_and_leave_none_out():
    m = make()
    players = m.players()
    assert [p.name for p in players] == list(parts(m))
    assert [p.rate for p in players] == [0.5, 0.5, 1]
    mine = [id(p) for player in players for p in player.parameters]
    assert len(mine) == len(set(mine)) and set(mine) == {id(p) for p in m.parameters()}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_step_moves_its_player_only_on_slices_and_volumes(dims):
    m, b = make(dims), batch(dims)
    for player in m.players():
        before = {name: weights(part) for name, part in parts(m).items()}
        optimiser = torch.optim.SGD(player.parameters, lr=0.1)
        m.zero_grad()
        sum(player.loss(b).values()).backward()
        assert all(p.grad.isfinite().all() for p in player.parameters if p.grad is not None)
        optimiser.step()
        moved = [n for n, part in parts(m).items() if not torch.equal(before[n], weights(part))]
        assert moved == [player.name]


def test_no_graph_leads_from_critics_and_segmenters_to_the_translators():
    m, b = make(), batch()
    for loss in (m.critic_loss, m.segmenter_loss):
        assert not gradient(sum(loss(b).values()), m.translators)
    for term in ("fool", "cycle", "shape"):
        assert sum(g.abs().sum() for g in gradient(m.loss(b)[term], m.translators)) > 0


@pytest.mark.parametrize("dims", [2, 3])
def test_fit_trains_all_and_predicts_with_the_targets_segmenter(dims, cohort, volumes):
    few = {"valid": 2, "test": 2} if dims == 2 else {"valid": 1, "test": 1}
    task = two_scanners(cohort if dims == 2 else volumes, **few)
    m = ShapeCycleGAN.for_task(task) if dims == 2 else make(dims=3)
    before = {name: weights(part) for name, part in parts(m).items()}
    fitted = fit(m, task, Budget("smoke", steps=2, batch=2), **QUIET)
    assert all(not torch.equal(before[n], weights(part)) for n, part in parts(m).items())
    names = {"fool", "cycle", "shape", "real", "fake", "supervised", "synthetic"}
    assert set(fitted.history) == names
    answer = m.net(task.test.images).softmax(1)
    assert torch.allclose(fitted.predict(task.test.images), answer, atol=1e-5)


def test_killed_three_player_training_resumes_to_bitwise_the_same_weights(shifted, tmp_path):
    budget, path = Budget("smoke", steps=4, batch=2), tmp_path / "run.pt"
    whole = fit(make(), shifted, budget, **QUIET)

    class Killed(ShapeCycleGAN):
        def after_step(self, progress):
            if progress == 0.5:
                raise SystemExit

    killed = make()
    killed.__class__ = Killed
    with pytest.raises(SystemExit):
        fit(killed, shifted, budget, checkpoint=path, every=1, **QUIET)
    resumed = fit(make(), shifted, budget, checkpoint=path, every=1, **QUIET)
    first, second = whole.method.state_dict(), resumed.method.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


# The problem


@pytest.fixture
def tiny(monkeypatch):
    """Stands in for the phantoms: 40 subjects of two slices, with instance numbers."""

    def load(name, scanner):
        subjects = torch.arange(80) // 2
        torch.manual_seed(0)
        labels = torch.randint(0, 3, (80, 8, 8))
        extras = {"instances": labels * 7, "scanner": torch.full((80,), "AB".index(scanner))}
        images = labels.unsqueeze(1) + extras["scanner"].view(80, 1, 1, 1).float()
        return Cohort(images, labels, subjects, ("air", "a", "b"), (1, 1), extras=extras)

    monkeypatch.setattr(shift, "load", load)


def test_scanner_shift_hides_every_mask_of_the_target():
    task = scanner_shift(seed=0)
    scanner = task.train.extras["scanner"]
    assert task.train.name == "cardiac" and len(task.train.subjects.unique()) == 70
    assert (task.train.labels[scanner == 1] == IGNORE).all()
    assert (task.train.labels[scanner == 0] != IGNORE).all()
    assert torch.equal(task.labelled, (scanner == 0).nonzero()[:, 0])
    for part in (task.valid, task.test):
        assert (part.extras["scanner"] == 1).all() and (part.labels != IGNORE).all()


def test_no_subject_is_on_both_scanners(tiny):
    task = scanner_shift()
    scanner, subjects = task.train.extras["scanner"], task.train.subjects
    a, b = (subjects[scanner == s].unique() for s in (0, 1))
    assert len(a) == len(b) == 5 and not torch.isin(a, b).any()
    for s, mine in zip("AB", (a, b), strict=True):
        images = shift.load("cardiac", scanner=s).of(mine).images
        assert torch.equal(task.train.images[torch.isin(subjects, mine)], images)


def test_scanner_shift_draws_by_its_seed_and_can_give_target_masks(tiny):
    first, other, upper, two = (
        scanner_shift(0),
        scanner_shift(1),
        scanner_shift(0, None),
        scanner_shift(0, 2),
    )
    assert not torch.equal(other.train.subjects, first.train.subjects)
    assert torch.equal(other.test.subjects, first.test.subjects)
    assert (upper.train.labels != IGNORE).all()
    assert torch.equal(upper.train.images, first.train.images)
    target = two.train.extras["scanner"] == 1
    shown = (two.train.labels != IGNORE).flatten(1).all(1)
    assert len(two.train.subjects[target & shown].unique()) == 2


def test_scanner_shift_hides_what_else_describes_pixels(tiny):
    """Instance numbers of the target would be its masks in another spelling."""
    task = scanner_shift()
    target = task.train.extras["scanner"] == 1
    instances = task.train.extras["instances"]
    assert instances[target].eq(0).all() and instances[~target].ne(0).any()
    assert shift.load("cardiac", scanner="B").extras["instances"].ne(0).any()


# Bad input


def test_more_annotated_subjects_than_there_are(tiny):
    with pytest.raises(ValueError, match="ask for 0 to 5"):
        scanner_shift(labelled_target=6)
    with pytest.raises(ValueError, match="ask for 0 to 5"):
        scanner_shift(labelled_target=-1)


def test_one_scanner_only_is_one_sentence(task, shifted):
    with pytest.raises(ValueError, match="this task has not two"):
        ShapeCycleGAN.for_task(task)
    one = replace(shifted.train, extras={"scanner": torch.ones_like(shifted.train.subjects)})
    with pytest.raises(ValueError, match="this task has not two"):
        ShapeCycleGAN.for_task(replace(shifted, train=one))
    with pytest.raises(ValueError, match="this task has not two"):
        fit(make(), task, Budget("smoke", steps=1, batch=2), **QUIET)


def test_no_unlabelled_image_is_one_sentence(tiny):
    full = scanner_shift(0, labelled_target=None)
    with pytest.raises(ValueError, match="no unlabelled"):
        fit(make(), full, Budget("smoke", steps=1, batch=2), **QUIET)


def test_odd_sizes():
    m, b = make(), batch(size=17)
    terms = [m.loss(b), m.critic_loss(b), m.segmenter_loss(b)]
    assert all(value.isfinite() for term in terms for value in term.values())
