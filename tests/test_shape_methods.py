"""Segmenting with shapes: each method holds its mechanism, and nothing else moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment, folded, integrate, smooth_field
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.evaluate import Rules
from lsseg_edu.evaluate.plausibility import measure
from lsseg_edu.networks import Shape
from lsseg_edu.semi.priors.shape import (
    ACNN,
    SRSCN,
    AnatomicalWarp,
    BoundaryRefinement,
    ImageAutoencoder,
    PriorUNet,
    Repaired,
    ShapeAutoencoder,
    ShapeProjection,
    ShapeRegularised,
    Tetris,
    acnn_training,
    ambellan_segmentation,
    cascade_training,
    cvae_segmentation,
    medoid,
    one_hot,
    post_dae_segmentation,
    prior_features_training,
    srscn_training,
    ssm_segmentation,
)
from lsseg_edu.semi.priors.shape import post_dae as post_dae_module
from lsseg_edu.train import Batch, Budget, Method, Part, Supervised, fit

ONE = Budget("smoke", steps=2, batch=4)


@pytest.fixture(scope="module")
def rings():
    """A task of 14 subjects: a ring (1) around a core (2), in noise, at known positions."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*[np.arange(32) - 16] * 2, indexing="ij")
    labels = np.zeros((28, 32, 32), np.int64)
    for mask in labels:
        (a, b), radius = rng.integers(-3, 4, 2), rng.uniform(8, 11)
        q = np.hypot((y - a) * rng.uniform(0.9, 1.1), x - b)
        mask[q < radius], mask[q < radius - 4] = 1, 2
    images = np.array([0.0, -1.0, 2.0])[labels] + rng.normal(size=labels.shape)
    extras = {"position": np.tile([0.2, 0.8], 14)}
    names = ["air", "ring", "core"]
    cohort = Cohort.from_arrays(images, labels, np.arange(28) // 2, names, extras=extras)
    return Task.split(cohort, labelled=6, valid=2, test=2)


def batch(task, n=4):
    some = task.train.select(task.labelled[:n])
    extras = {"position": some.extras.get("position", torch.zeros(n))}
    part = Part(some.images, some.labels, torch.arange(n), some.subjects, extras)
    return Batch(part, part, 0.5)


def shape_net(task, seed=0):
    torch.manual_seed(seed)
    return ShapeAutoencoder(task.train.classes, task.train.labels.shape[1:], code=6)


class Answer(Method):
    """A segmenter that gives this mask whatever it sees."""

    def __init__(self, mask, classes):
        super().__init__(nn.Conv2d(1, 1, 1))
        self.mask, self.classes = mask, classes

    def predict(self, images):
        return one_hot(self.mask.expand(len(images), *self.mask.shape), self.classes)


def spoilt(mask):
    mask = mask.clone()
    mask[:3, :3] = 1
    return mask


# --- ssm-pca ---------------------------------------------------------------------------------


def test_ssm_segmentation_answers_with_what_its_model_allows(rings):
    fitted = ssm_segmentation(rings, ONE, seed=0, progress=False)
    assert isinstance(fitted.method, Repaired) and fitted.seconds > 0
    truth = rings.valid.labels[0]
    method = Repaired(Answer(spoilt(truth), 3), fitted.method.repair)
    answer = method.predict(rings.valid.images[:1]).argmax(1)[0]
    assert not answer[:3, :3].any() and (answer == truth).float().mean() > 0.95


def test_the_segmenter_behind_a_repair_is_the_baseline(rings):
    repair = ssm_segmentation(rings, ONE, seed=3, progress=False).method.net
    baseline = fit(Supervised.for_task(rings, 3), rings, ONE, 3, progress=False).method
    pairs = zip(repair.parameters(), baseline.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- ambellan-ssm ----------------------------------------------------------------------------


def refinement(rings, radius=2):
    adjust = ShapeProjection(rings.train.labels[rings.labelled], 3)
    torch.manual_seed(0)
    truth = rings.train.labels[rings.labelled[0]]
    net = networks.unet(Shape(1 + 3, 3, 2), width=4)
    return BoundaryRefinement(net, Answer(spoilt(truth), 3), adjust, radius)


def test_refinement_redraws_the_boundary_only(rings):
    method = refinement(rings)
    images = rings.train.images[rings.labelled[:2]]
    shape = method.adjust(method.first.predict(images).argmax(1))
    band = method.band(shape)
    assert 0.1 < band.float().mean() < 0.6
    answer = method.predict(images).movedim(1, -1)
    assert torch.equal(answer[~band], shape.movedim(1, -1)[~band])
    seen = torch.cat([images, shape], 1)
    assert torch.allclose(answer[band], method.net(seen).softmax(1).movedim(1, -1)[band])


def test_the_band_is_as_wide_as_told(rings):
    shape = one_hot(torch.arange(32).expand(1, 32, 32).clone().ge(16).long(), 3)
    for radius in (1, 3):
        assert (refinement(rings, radius).band(shape).sum(2) == 2 * radius).all()


def test_refinement_learns_nothing_outside_the_band(rings):
    method, seen = refinement(rings), []

    def keep(_, given, out):
        out.retain_grad()
        seen.append((given[0], out))

    method.net.register_forward_hook(keep)
    torch.manual_seed(0)
    method.loss(batch(rings))["boundary"].backward()
    given, logits = seen[0]
    band = method.band(given[:, 1:])
    assert (logits.grad.abs().sum(1)[~band] == 0).all()
    assert (logits.grad.abs().sum(1)[band] > 0).any()
    assert all(p.grad is None for p in method.first.parameters())


def test_ambellan_trains_two_networks(rings):
    fitted = ambellan_segmentation(rings, ONE, progress=False)
    assert set(fitted.history) == {"supervised", "boundary"}
    assert fitted.predict(rings.test.images).shape == (4, 3, 32, 32)


# --- acnn ------------------------------------------------------------------------------------


def test_acnn_is_the_distance_of_codes(rings):
    method, b = ACNN(networks.unet(rings), shape_net(rings), weight=3.0), batch(rings)
    terms = method.loss(b)
    probs = method.net(b.labelled.images).softmax(1)
    codes = [method.shape.encode(m) for m in (probs, one_hot(b.labelled.labels, 3))]
    by_hand = 3 * (codes[0] - codes[1]).detach().square().mean()
    assert float(terms["shape"].detach()) == pytest.approx(float(by_hand), rel=1e-4)


def test_acnn_is_content_with_the_truth(rings):
    method, b = ACNN(networks.unet(rings), shape_net(rings), weight=1.0), batch(rings)
    truth = one_hot(b.labelled.labels, 3)
    assert method.constraint(truth, truth) == 0
    assert method.constraint(truth.roll(6, 2), truth) > 0


@pytest.mark.parametrize("kind", [ACNN, SRSCN, ShapeRegularised])
def test_the_gradient_passes_through_the_shape_net_and_leaves_it(rings, kind):
    original = shape_net(rings)
    method = kind(networks.unet(rings), original, weight=1.0)
    method.loss(batch(rings))["shape"].backward()
    grads = [p.grad for p in method.net.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in grads) and sum(g.abs().sum() for g in grads) > 0
    assert all(p.grad is None for p in method.shape.parameters())
    before = [p.clone() for p in original.parameters()]
    fit(method, rings, ONE, progress=False)
    pairs = zip(before, method.shape.parameters(), strict=True)
    assert all(torch.equal(a, b.cpu()) for a, b in pairs)


def test_unannotated_pixels_cost_nothing(rings):
    method, b = ACNN(networks.unet(rings), shape_net(rings), weight=1.0), batch(rings)
    labels = torch.full_like(b.labelled.labels, IGNORE)
    probs, truth = method.compared(method.net(b.labelled.images), labels)
    assert torch.equal(probs, truth) and not truth.requires_grad


def test_without_weight_acnn_is_the_baseline(rings):
    method = acnn_training(rings, ONE, seed=2, weight=0.0, code=6, progress=False).method
    baseline = fit(Supervised.for_task(rings, 2), rings, ONE, 2, progress=False).method
    pairs = zip(method.net.parameters(), baseline.net.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- srscn -----------------------------------------------------------------------------------


def test_srscn_compares_the_answer_with_its_reconstruction(rings):
    method = SRSCN(networks.unet(rings), shape_net(rings), weight=2.0, spatial=0.5)
    b = batch(rings)
    with torch.no_grad():
        terms = method.loss(b)
        probs = method.net(b.labelled.images).softmax(1)
    change = (probs - method.shape(probs).softmax(1)).square().sum(1).mean()
    assert float(terms["shape"]) == pytest.approx(2 * float(change), rel=1e-4)
    other = replace(b.labelled, labels=b.labelled.labels * 0)  # no truth in the shape term
    assert method.loss(Batch(other, None, 0.5))["shape"] == terms["shape"]


def test_srscn_learns_where_its_slice_lies(rings):
    method = SRSCN(networks.unet(rings), shape_net(rings))
    b = batch(rings)
    bottleneck = method.net.encode(b.labelled.images)[-1].detach()
    error = method.misplaced(bottleneck, b.labelled.extras)
    from lsseg_edu.semi.self_supervision.finetune import pooled

    guess = method.position(pooled(bottleneck))[:, 0]
    by_hand = (
        sum(float((g - z).detach()) ** 2 for g, z in zip(guess, [0.2, 0.8, 0.2, 0.8], strict=True))
        / 4
    )
    assert error.item() == pytest.approx(by_hand, rel=1e-4)
    error.backward()
    assert method.position.weight.grad.abs().sum() > 0
    fitted = srscn_training(rings, ONE, code=2, progress=False)
    assert set(fitted.history) == {"reconstruction", "supervised", "shape", "spatial"}


def test_srscn_without_positions_says_so(task):
    with pytest.raises(ValueError, match="spatial=0"):
        srscn_training(task, ONE, code=2, progress=False)
    fitted = srscn_training(task, ONE, code=2, spatial=0.0, progress=False)
    assert "spatial" not in fitted.history


# --- ravishankar -----------------------------------------------------------------------------


def test_the_cascade_answers_with_the_projection(rings):
    method = ShapeRegularised(networks.unet(rings), shape_net(rings), weight=1.0).eval()
    images = rings.valid.images
    inner = method.net(images).softmax(1)
    assert torch.allclose(method.predict(images), method.shape(inner).softmax(1), atol=1e-6)
    assert not torch.allclose(method.predict(images), inner, atol=1e-2)


def test_the_cascade_is_trained_as_one(rings):
    method, b = ShapeRegularised(networks.unet(rings), shape_net(rings), weight=0.7), batch(rings)
    terms = method.loss(b)
    labels, truth = b.labelled.labels, one_hot(b.labelled.labels, 3)
    probs = method.net(b.labelled.images).softmax(1)
    projected = method.shape(probs)
    assert torch.allclose(terms["cascade"], losses.dice_ce(projected, labels))
    away = (probs - projected.softmax(1)).square().sum(1).mean()
    code = (method.shape.encode(probs) - method.shape.encode(truth)).square().mean()
    assert terms["shape"].item() == pytest.approx(0.7 * float((away + code).detach()), rel=1e-4)
    terms["cascade"].backward()
    assert sum(p.grad.abs().sum() for p in method.net.parameters() if p.grad is not None) > 0


def test_the_cascade_learns_from_spoilt_masks(rings, monkeypatch):
    from lsseg_edu.semi.priors.shape import ravishankar

    calls = []
    monkeypatch.setattr(ravishankar, "corrupt", lambda labels, k: calls.append(k) or labels)
    fitted = cascade_training(rings, ONE, code=2, progress=False)
    assert calls == [3] * 2 * ONE.steps
    assert set(fitted.history) == {"reconstruction", "supervised", "cascade", "shape"}


# --- post-dae --------------------------------------------------------------------------------


@pytest.mark.parametrize("corrupted", [True, False])
def test_post_dae_learns_to_restore_and_never_sees_an_image(rings, monkeypatch, corrupted):
    calls = []
    monkeypatch.setattr(post_dae_module, "corrupt", lambda labels, k: calls.append(k) or labels)
    fitted = post_dae_segmentation(rings, ONE, code=2, corrupted=corrupted, progress=False)
    assert calls == [3] * 2 * ONE.steps * corrupted
    repair, mask = fitted.method.repair, rings.valid.labels[0]
    assert repair.criterion is losses.dice
    method = Repaired(Answer(mask, 3), repair)
    for images in (rings.valid.images, -3 * rings.valid.images):
        assert torch.allclose(method.predict(images)[:1], repair(mask[None]), atol=1e-6)


# --- cvae-warp -------------------------------------------------------------------------------


class Discs(nn.Module):
    """Codes (radius, island): a disc that long, and an island where the second exceeds 1."""

    classes = 2

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)  # a network has parameters, and they have a device
        y, x = torch.meshgrid(*[torch.arange(24.0) - 12] * 2, indexing="ij")
        self.q = (y**2 + x**2).sqrt()

    def encode(self, masks):
        radius = (masks[:, 1, 4:].flatten(1).sum(1) / torch.pi).sqrt()
        return torch.stack([radius, 4.0 * masks[:, 1, 1, 1]], 1)

    def decode(self, codes):
        inside = self.q < codes[:, 0, None, None]
        inside[:, :3, :3] |= codes[:, 1, None, None] > 1
        return 20.0 * torch.stack([~inside, inside], 1).float()


@pytest.fixture(scope="module")
def warp():
    net = Discs()
    codes = torch.stack([torch.linspace(4, 8, 20), torch.zeros(20)], 1)
    shapes = net.decode(codes).argmax(1)
    return AnatomicalWarp(net, shapes, Rules.of(shapes, ("air", "disc")), draws=200, spread=0.2)


def test_the_nearest_valid_shape_replaces_an_invalid_one(warp):
    bad = warp.net.decode(torch.tensor([[6.0, 4.0], [5.0, 4.0]])).argmax(1)
    fixed = warp(bad).argmax(1)
    assert warp.rules.broken(bad).any(1).all() and not warp.rules.broken(fixed).any()
    sizes = [float(m.sum() / torch.pi) ** 0.5 for m in fixed]
    assert sizes == pytest.approx([6.0, 5.0], abs=0.4)  # not just any valid shape


def test_the_search_walks_back_as_far_as_it_may(warp):
    code = torch.tensor([[6.0, 4.0]])
    anchor = warp.valid[torch.cdist(code, warp.valid).argmin(1)]
    found = warp.nearest(code, halvings=8)
    assert not warp.rules.broken(warp.decode(found).argmax(1)).any()
    assert (code - found).norm() < (code - anchor).norm()
    assert float(found[0, 1]) == pytest.approx(1.0, abs=0.05)  # the limit of what is valid


def test_valid_masks_are_not_touched(warp):
    good = warp.net.decode(torch.tensor([[7.0, 0.0]])).argmax(1)
    assert torch.equal(warp(good).argmax(1), good)


def test_only_valid_codes_are_kept(warp):
    assert 0 < len(warp.valid) <= 200
    assert not warp.rules.broken(warp.decode(warp.valid).argmax(1)).any()
    with pytest.raises(ValueError, match="no valid shape"):
        AnatomicalWarp(Discs(), torch.zeros(0, 24, 24).long(), warp.rules)


def test_a_network_that_draws_nothing_valid_gives_a_training_shape(rings):
    shapes = rings.train.labels[rings.labelled]
    net = Hopeless()
    repair = AnatomicalWarp(net, shapes, Rules.of(shapes, rings.train.names), draws=5)
    assert len(repair.valid) == 0
    bad = spoilt(shapes[3])[None]
    assert torch.equal(repair(bad).argmax(1)[0], shapes[3])


class Hopeless(nn.Module):
    """Codes are good, and what is decoded is never a ring."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)

    def encode(self, masks):
        return masks[:, 2].flatten(1)

    def decode(self, codes):
        return one_hot(torch.arange(32).expand(len(codes), 32, 32) % 3, 3)


def test_cvae_segmentation_answers_with_valid_shapes(rings):
    fitted = cvae_segmentation(rings, ONE, code=3, draws=20, progress=False)
    broken = fitted.method.repair.rules.broken
    answer = fitted.predict(rings.valid.images).argmax(1)
    assert not broken(answer).any()  # whatever the segmenter said


# --- tetris ----------------------------------------------------------------------------------


def test_tetris_moves_its_template(rings):
    method = Tetris.for_task(rings)
    images = rings.valid.images
    still = torch.zeros(len(images), 32, 32, 2)
    assert torch.allclose(method.move(still)[0], method.template, atol=1e-5)
    assert torch.allclose(method.predict(images), method.move(method.velocity(images)))
    first = (method.predict(images) - method.template).abs().mean()
    assert first < 0.05  # it starts nearly still


def test_a_moved_template_keeps_its_topology(rings):
    method = Tetris.for_task(rings)
    field = smooth_field(torch.zeros(8, 1, 32, 32), 2, 3, torch.Generator().manual_seed(0))
    velocity = 0.06 * field.movedim(1, -1)
    assert folded(integrate(velocity)) == 0
    moved = measure(method.move(velocity).argmax(1), 3)
    still = measure(method.template.argmax(0)[None], 3)
    for counts, wanted in zip(moved, still, strict=True):
        assert (counts == wanted).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_tetris_learns(rings, volumes, dims):
    cohort = volumes if dims == 3 else rings.train.select(rings.labelled)
    if dims == 3:
        pad = (8,) * 6
        images = nn.functional.pad(cohort.images, pad)
        cohort = replace(cohort, images=images, labels=nn.functional.pad(cohort.labels, pad))
    task = Task.split(cohort, valid=1, test=1)
    steps = Budget("smoke", 12 if dims == 2 else 1, batch=4 if dims == 2 else 1)
    fitted = fit(Tetris.for_task(task), task, steps, augment=Augment.none(), progress=False)
    terms = fitted.history["supervised"]
    assert all(p.isfinite().all() for p in fitted.method.parameters())
    assert dims == 3 or terms[-1] < terms[0]
    probs = fitted.predict(task.valid.images)
    assert torch.allclose(probs.sum(1), torch.ones(probs[:, 0].shape), atol=1e-4)


def test_the_template_is_the_mask_most_like_the_others(rings):
    labels = rings.train.labels[rings.labelled]
    chosen = medoid(labels, 3)
    scores = []
    for a in labels:
        dice = [[2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum())
                 for k in (1, 2)] for b in labels]  # fmt: skip
        scores.append(float(torch.tensor(dice).mean()))
    assert torch.equal(chosen, labels[int(np.argmax(scores))])
    with_lonely = torch.cat([labels.clamp(max=1), labels[:1]])
    assert torch.equal(medoid(with_lonely, 3), labels[0])  # it shows everything


def test_bad_templates_are_refused(rings):
    method = Tetris.for_task(rings)
    with pytest.raises(ValueError, match="resample"):
        method.predict(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match="the task 3"):
        Tetris(method.net, torch.zeros(4, 32, 32), 3)
    with pytest.raises(ValueError, match="has a label 2"):
        Tetris(method.net, rings.train.labels[rings.labelled[0]], 2)


# --- dpa-densebias ---------------------------------------------------------------------------


def test_the_prior_network_starts_as_the_baseline(rings):
    prior = ImageAutoencoder(1, 2)
    net, plain = PriorUNet(networks.unet(rings), prior), networks.unet(rings)
    images = rings.valid.images
    assert torch.allclose(net(images), plain(images), atol=1e-5)
    assert [f.shape[1:] for f in prior.encode(images)] == [
        (8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]  # fmt: skip
    assert prior(images).shape == images.shape


def test_all_scales_of_the_frozen_features_arrive(rings):
    net = PriorUNet(networks.unet(rings), ImageAutoencoder(1, 2))
    net(rings.valid.images).square().mean().backward()
    for mix, own in zip(net.mix, net.net.widths[1:], strict=True):
        assert mix.weight.grad[:, own:].abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in net.prior.parameters())


def test_the_autoencoder_learns_from_unlabelled_images_and_is_frozen(rings):
    blank = replace(rings.train, labels=rings.train.labels.clone())
    fitted = prior_features_training(replace(rings, train=blank), ONE, seed=1, progress=False)
    drawn = prior_features_training(rings, ONE, seed=1, pretrained=False, progress=False)
    assert set(fitted.history) == {"reconstruction", "supervised"}
    assert set(drawn.history) == {"supervised"}
    trained, random = (list(f.method.net.prior.parameters()) for f in (fitted, drawn))
    assert not all(torch.equal(a, b) for a, b in zip(trained, random, strict=True))
    everything = Task.split(rings.valid, valid=0, test=0)
    with pytest.raises(ValueError, match="no unlabelled"):
        prior_features_training(everything, ONE, progress=False)
