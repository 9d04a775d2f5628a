"""Labels carried by registration: one atlas, several, both ways, at several levels."""

import math

import numpy as np
import pytest
import torch
from probes import Fixed, wave
from torch import nn

from lsseg_edu import networks
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.augment.smooth import smooth_field
from lsseg_edu.data import Cohort, Task
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.semi.priors.atlas import (
    DeepAtlasNet,
    LTNet,
    MultiAtlas,
    SingleAtlas,
    by_subject,
    local_correlation,
    locally_weighted,
    majority,
    overlap_loss,
    staple,
)
from lsseg_edu.semi.priors.atlas.lt_net import round_trip
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=2)


def scene(n=2, size=32):
    """``n`` pictures of blobs and what they are: two classes by a threshold."""
    images = smooth_field(torch.zeros(n, 1, size, size), 1, 5, torch.Generator().manual_seed(3))
    return images, (images[:, 0] > 0.3).long()


def batch(images, progress=1.0):
    index = torch.arange(len(images))
    part = Part(images, torch.zeros_like(images[:, 0]).long(), index, index, {})
    return Batch(part, part, progress)


def dice(a, b):
    a, b = a > 0.5, b > 0.5
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


# What is shared


def test_local_correlation_is_the_correlation_in_the_window():
    a, b = torch.randn(2, 1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    got = local_correlation(a, 2 * b + 3, window=5)[0]
    for i, j in ((6, 6), (0, 0), (3, 11)):
        window = (slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3))
        expected = np.corrcoef(a[0, 0][window].flatten(), b[0, 0][window].flatten())[0, 1]
        assert got[i, j].item() == pytest.approx(expected, abs=2e-3)
    flat = local_correlation(a, torch.ones_like(a), window=5)
    assert flat.abs().max() < 1e-2 and torch.isfinite(flat).all()


def test_overlap_is_the_dice_of_masks():
    masks = torch.zeros(1, 2, 4, 4)
    masks[:, 0, :2] = masks[:, 1, 2:] = 1
    assert overlap_loss(masks, masks, eps=0.0) == 0
    assert overlap_loss(masks, masks.flip(1), eps=0.0) == 1
    half = masks.roll(1, 2)
    assert overlap_loss(masks, half, eps=0.0).item() == pytest.approx(0.5)


def test_every_labelled_subject_is_an_atlas(task):
    atlases = by_subject(task)
    owners = task.train.subjects[task.labelled]
    assert len(atlases) == len(owners.unique()) == 3
    for atlas, subject in zip(atlases, owners.unique(), strict=True):
        mine = task.labelled[owners == subject]
        assert torch.equal(atlas.images, task.train.images[mine])
        assert torch.equal(atlas.labels, task.train.labels[mine])


def test_an_atlas_needs_a_class_at_every_pixel():
    images, labels = scene()
    with pytest.raises(ValueError, match="0 to 1 at every pixel"):
        Atlas(images, labels * 255, 2)
    with pytest.raises(ValueError, match="0 to 1 at every pixel"):
        Atlas(images, labels + 1, 2)


# One atlas


def moved_scene():
    images, labels = scene(1)
    grid = displaced(integrate(wave(0.2)))
    target = warp(images, grid)
    masks = nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    return Atlas(images, labels, 2), target, warp(masks, grid)[:, 1]


def test_the_labels_go_where_the_image_goes():
    atlas, target, truth = moved_scene()
    still = SingleAtlas(Fixed(torch.zeros(1, 32, 32, 2)), atlas).predict(target)[:, 1]
    exact = SingleAtlas(Fixed(wave(0.2)), atlas).predict(target)[:, 1]
    assert torch.equal(exact, truth)
    method = SingleAtlas(Fixed(torch.zeros(1, 32, 32, 2)), atlas, steps=15, rate=0.02)
    found = method.predict(target).detach()[:, 1]  # no label of the target took part
    assert dice(still, truth) < 0.95
    assert 1 - dice(found, truth) < 0.5 * (1 - dice(still, truth))


def test_descent_works_where_gradients_are_off_and_changes_no_weight(task):
    fitted = fit(SingleAtlas.for_task(task, steps=3), task, FEW, **QUIET)
    before = [p.clone() for p in fitted.method.parameters()]
    with torch.inference_mode():
        refined = fitted.predict(task.valid.images[:2])
    fitted.method.steps = 0
    assert not torch.equal(refined, fitted.predict(task.valid.images[:2]))
    assert all(torch.equal(a, b) for a, b in zip(before, fitted.method.parameters(), strict=True))


def test_one_subject_is_all_there_is(task):
    method = SingleAtlas.for_task(task)
    first = task.train.subjects[task.labelled].unique()[0]
    assert torch.equal(method.atlas.images, task.train.images[task.train.subjects == first])


def test_a_target_of_another_size():
    atlas, *_ = moved_scene()
    with pytest.raises(ValueError, match="resample"):
        SingleAtlas(Fixed(wave()), atlas).predict(torch.zeros(1, 1, 16, 16))


# Several atlases


def votes(n=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    said = torch.randint(0, 3, (n, 2, 4, 5), generator=draw)
    return nn.functional.one_hot(said, 3).movedim(-1, 2).float()


def test_majority_counts():
    said = votes(4)
    expected = sum(said[n] for n in range(4)) / 4
    assert torch.allclose(majority(said), expected)


def test_local_weights_by_hand():
    said, alike = votes(2), torch.rand(2, 2, 4, 5)
    fused = locally_weighted(said, alike, gain=2.0)
    w = [float(alike[n, 1, 2, 3]) ** 2 for n in range(2)]
    expected = (w[0] * said[0, 1, :, 2, 3] + w[1] * said[1, 1, :, 2, 3]) / sum(w)
    assert torch.allclose(fused[1, :, 2, 3], expected, atol=1e-5)
    assert torch.allclose(locally_weighted(said, alike, gain=0.0), majority(said), atol=1e-6)
    opposed = torch.stack([torch.ones(2, 4, 5), -torch.ones(2, 4, 5)])
    assert torch.allclose(locally_weighted(said, opposed), said[0], atol=1e-6)


def raters(accuracies, pixels=4000, classes=3, seed=0):
    """Raters who are right with their accuracy, and else say another class at random."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, pixels, p=[0.5, 0.3, 0.2])
    said = []
    for accuracy in accuracies:
        other = (truth + rng.integers(1, classes, pixels)) % classes
        said.append(np.where(rng.random(pixels) < accuracy, truth, other))
    one_hot = torch.from_numpy(np.eye(classes, dtype=np.float32)[np.stack(said)])
    return truth, one_hot.movedim(-1, 1)[:, None, :, :, None]  # (N, 1, K, P, 1)


def test_staple_finds_out_whom_to_trust():
    accuracies = (0.95, 0.6, 0.6, 0.55, 0.9)
    truth, said = raters(accuracies)
    fused, found = staple(said, steps=30)
    right = found[:, 0].diagonal(dim1=-2, dim2=-1).mean(-1)
    assert torch.allclose(right, torch.tensor(accuracies), atol=0.04)
    scores = [(f[0].argmax(0)[:, 0].numpy() == truth).mean() for f in (fused, majority(said))]
    assert scores[0] > scores[1] + 0.02
    assert scores[0] > 0.95


def test_staple_is_em():
    _, said = raters((0.9, 0.7, 0.6), pixels=40)
    fused, found = staple(said, steps=3)
    hard = said[:, 0, :, :, 0].argmax(1).numpy()  # (N, P)
    n, p = hard.shape
    pi = [(hard == k).mean() for k in range(3)]
    w = np.array([[(hard[:, i] == k).mean() for k in range(3)] for i in range(p)])
    for _ in range(3):
        theta = np.zeros((n, 3, 3))
        for r in range(n):
            for k in range(3):
                for i in range(p):
                    theta[r, k, hard[r, i]] += w[i, k]
                theta[r, k] /= w[:, k].sum()
        for i in range(p):
            for k in range(3):
                w[i, k] = pi[k] * math.prod(theta[r, k, hard[r, i]] for r in range(n))
            w[i] /= w[i].sum()
    assert np.allclose(found[:, 0], theta, atol=1e-3)
    assert np.allclose(fused[0, :, :, 0].T, w, atol=1e-3)


def test_every_image_of_a_batch_has_raters_of_its_own():
    said = votes(3)
    together, alone = staple(said)[0], staple(said[:, 1:])[0]
    assert torch.allclose(together[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("fusion", ["majority", "local", "staple"])
def test_opinions_of_all_atlases_are_fused(task, fusion):
    method = MultiAtlas.for_task(task, fusion=fusion).eval()
    images = task.valid.images[:2]
    said, alike = method.propagate(images)
    assert said.shape == (3, 2, 3, 32, 32) and alike.shape == (3, 2, 32, 32)
    index = method.atlases[1].match(images)
    moving = method.atlases[1].images[index]
    masks = method.move(method.atlases[1].one_hot(index), method.net(moving, images))
    assert torch.allclose(said[1], masks)
    fuse = {
        "majority": majority,
        "local": lambda v: locally_weighted(v, alike),
        "staple": lambda v: staple(v)[0],
    }[fusion]
    assert torch.allclose(method.predict(images), fuse(said))


def test_training_draws_from_all_atlases(task):
    method, seen = MultiAtlas.for_task(task), []
    method.net.register_forward_pre_hook(lambda _, pair: seen.append(pair[0]))
    torch.manual_seed(0)
    for _ in range(6):
        method.loss(batch(task.valid.images))
    drawn = torch.cat(seen).flatten(1)
    for atlas in method.atlases:
        assert (torch.cdist(drawn, atlas.images.flatten(1)) < 1e-3).any()


def test_atlases_that_do_not_belong_together():
    images, labels = scene()
    net, good = Fixed(wave()), Atlas(images, labels, 2)
    with pytest.raises(ValueError, match="at least one atlas"):
        MultiAtlas(net, [])
    with pytest.raises(ValueError, match="2 classes.*; 3 classes"):
        MultiAtlas(net, [good, Atlas(images, labels, 3)])
    with pytest.raises(ValueError, match="agree in size"):
        MultiAtlas(net, [good, Atlas(images[..., :16], labels[..., :16], 2)])
    with pytest.raises(ValueError, match="choose one of majority, local, staple"):
        MultiAtlas(net, [good], fusion="vote")


# There and back


def test_the_way_home_by_hand():
    right = torch.zeros(1, 32, 32, 2)
    right[..., 0] = 0.25  # 4 pixels of 32
    assert round_trip(right, torch.zeros_like(right)).item() == pytest.approx(16.0)
    assert round_trip(right, -right).item() == pytest.approx(0.0, abs=1e-6)
    both = round_trip(right, right)
    assert both.item() == pytest.approx(64.0)


def lt(back):
    images, labels = scene()
    return LTNet(Fixed(wave()), Fixed(back), Atlas(images, labels, 2)), batch(images)


def test_cycle_terms_ask_that_the_way_back_undoes_the_way_there():
    method, b = lt(-wave())
    home = method.loss(b)
    method, b = lt(wave(seed=1))
    lost = method.loss(b)
    for term in ("cycle_image", "cycle_transform", "cycle_anatomy"):
        assert home[term] < 0.3 * lost[term]


@pytest.mark.parametrize("term", ["cycle_image", "cycle_transform", "cycle_anatomy"])
def test_each_cycle_term_teaches_both_networks(term):
    method, b = lt(wave(seed=1))
    method.loss(b)[term].backward()
    for net in (method.net, method.back):
        assert net.velocity.grad.abs().max() > 0 and torch.isfinite(net.velocity.grad).all()


def test_cycles_bring_the_networks_together():
    method, b = lt(wave(0.05, seed=1))
    optimiser = torch.optim.Adam(method.parameters(), lr=0.005)
    start = float(method.loss(b)["cycle_transform"].detach())
    for _ in range(25):
        terms = method.loss(b)
        optimiser.zero_grad()
        sum(terms[k] for k in terms if k.startswith("cycle")).backward()
        optimiser.step()
    assert terms["cycle_transform"] < 0.3 * start


def test_without_their_weights_there_are_two_strangers():
    images, labels = scene()
    nets, atlas = (Fixed(wave()), Fixed(wave(seed=1))), Atlas(images, labels, 2)
    method = LTNet(*nets, atlas, image=0.0, transform=0.0, anatomy=0.0)
    terms = method.loss(batch(images))
    assert all(terms[k] == 0 for k in terms if k.startswith("cycle"))
    assert terms["unlikeness"] > 0


def test_it_is_the_forward_network_that_labels():
    method, b = lt(wave(seed=1))
    images = b.unlabelled.images
    masks = method.atlas.one_hot(method.atlas.match(images))
    expected = warp(masks, displaced(integrate(wave())).expand(2, -1, -1, -1))
    assert torch.allclose(method.predict(images), expected)


# Levels of features


def light(task, **options):
    return DeepAtlasNet.for_task(task, **options)


def test_features_agree_where_the_images_do(task):
    method, images = light(task), task.valid.images[:2]
    assert method.disagreement(images, images).abs() < 1e-5
    assert method.disagreement(images.roll(5, -1), images) > 0.01


def test_disagreement_is_the_mean_over_levels(task):
    a, b = task.valid.images[:2], task.valid.images[2:4]
    alone = []
    for levels in (1, 2, 3):
        method = light(task, levels=levels)
        assert len(method.features(a, b)) == levels
        alone.append(float(method.disagreement(a, b)) * levels)
    pairs = zip(method.features(a, b), method.features(b, b), strict=True)
    steps = [1 - float(nn.functional.cosine_similarity(x, y, dim=1).mean()) for x, y in pairs]
    assert alone == pytest.approx(np.cumsum(steps).tolist(), abs=1e-4)


def test_agreement_is_reached_by_moving_only(task):
    method = light(task)
    moved = task.valid.images[:2].clone().requires_grad_()
    method.disagreement(moved, task.valid.images[2:4]).backward()
    assert moved.grad.abs().max() > 0
    assert all(p.grad is None for p in method.parameters())
    method.loss(batch(task.valid.images[:2]))["features"].backward()
    assert method.net.unet.final_conv.weight.grad.abs().max() > 0


def test_it_is_light(task):
    small, usual = (
        sum(p.numel() for p in n.parameters())
        for n in (light(task).net, networks.registration(task))
    )
    assert small < 0.3 * usual


def test_levels_that_are_not_there(task):
    for levels in (0, 6):
        with pytest.raises(ValueError, match="levels 1 to 5"):
            light(task, levels=levels)


# All of them


@pytest.mark.parametrize("kind", [SingleAtlas, MultiAtlas, LTNet, DeepAtlasNet])
@pytest.mark.parametrize("dims", [2, 3])
def test_they_train_on_slices_and_volumes(kind, dims, task, blocks):
    task = task if dims == 2 else blocks
    fitted = fit(kind.for_task(task), task, FEW, **QUIET)
    assert all(math.isfinite(v) for term in fitted.history.values() for v in term)
    images = task.valid.images[:1]
    probs = fitted.predict(images)
    assert probs.shape == (1, 3, *images.shape[2:])
    assert torch.allclose(probs.sum(1), torch.ones(()), atol=1e-4)


@pytest.fixture(scope="module")
def blocks():
    """Two of five small volumes are labelled."""
    draw = torch.Generator().manual_seed(0)
    images = smooth_field(torch.zeros(5, 1, 32, 16, 16), 1, 3, draw)
    labels = (images[:, 0] > 0).long() + (images[:, 0] > 0.4)
    cohort = Cohort.from_arrays(images.numpy(), labels.numpy(), name="blocks")
    return Task.split(cohort, labelled=2, valid=1, test=1)
