"""Segmenters taught through an atlas: whose labels, how far trusted, in whose space."""

import math

import pytest
import torch
import torch.nn.functional as F
from probes import Fixed, wave
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.augment.smooth import smooth_field
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.semi.priors import Atlas, Registration
from lsseg_edu.semi.priors.atlas import (
    AtlasNet,
    DeepAtlas,
    DeepAtlasPrior,
    DeepRS,
    PriorUNet,
    ShapePrior,
    SoftLabelled,
    atlas_em,
    atlas_net,
    atlas_prior_training,
    by_subject,
    centred_prior,
    chi,
    dap,
    deformable_pseudo_labels,
    ito,
    overlap_loss,
    posterior,
    probability_atlas,
    trust,
    with_soft,
)
from lsseg_edu.semi.priors.atlas.dap import with_atlas
from lsseg_edu.semi.priors.atlas.zotti import centres
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=2)


STILL = torch.zeros(1, 32, 32, 2)


def net(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))


def scene(n=2, seed=3):
    """Pictures of blobs and what they are: three classes by thresholds."""
    images = smooth_field(torch.zeros(n, 1, 32, 32), 1, 5, torch.Generator().manual_seed(seed))
    return images, (images[:, 0] > 0).long() + (images[:, 0] > 0.5)


def part(n=2, seed=3, **extras):
    images, labels = scene(n, seed)
    return Part(images, labels, torch.arange(n), torch.arange(n), extras)


def batch(progress=1.0, **extras):
    return Batch(part(seed=3, **extras), part(seed=4, **extras), progress)


def registration(velocity=STILL):
    return Registration(Fixed(velocity.clone()), Atlas(*scene(), 3))


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def touched(module):
    return any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def watch(module, monkeypatch):
    """Every training that ``module`` starts: (method, first weights, task, steps)."""
    seen, original = [], fit

    def spy(method, task, budget, seed, **kwargs):
        seen.append((method, weights(method.net), task, budget.steps))
        return original(method, task, budget, seed, **kwargs)

    monkeypatch.setattr(module, "fit", spy)
    return seen


# Soft labels


def test_soft_loss_by_hand():
    torch.manual_seed(1)
    soft, belief = torch.randn(2, 3, 32, 32).softmax(1), torch.rand(2, 32, 32)
    bytes_ = {"soft": (255 * soft).round(), "trust": (255 * belief).round()}
    method, b = SoftLabelled(net(), weight=0.5), batch(**bytes_)
    log_p = method.net(b.unlabelled.images).log_softmax(1)
    expected = 0.5 * (belief * -(soft * log_p).sum(1)).sum() / belief.sum()
    assert method.loss(b)["soft"].item() == pytest.approx(expected.item(), rel=1e-2)
    expected = losses.dice_ce(method.net(b.labelled.images), b.labelled.labels)
    assert method.loss(b)["supervised"].item() == pytest.approx(expected.item())
    nothing = batch(soft=bytes_["soft"], trust=torch.zeros(2, 32, 32))
    assert method.loss(nothing)["soft"] == 0


def test_soft_labels_belong_to_the_unlabelled_images_and_move_with_them(task):
    soft = F.one_hot((task.train.images[task.unlabelled, 0] > 1).long(), 3).movedim(-1, 1).float()
    taught = with_soft(task, soft)
    extras = taught.train.extras
    assert torch.equal(extras["soft"][task.unlabelled], (255 * soft).to(torch.uint8))
    assert (extras["soft"][task.labelled] == 0).all() and (
        extras["trust"][task.labelled] == 0
    ).all()
    assert "soft" not in task.train.extras

    class Look(SoftLabelled):
        def loss(self, batch):
            inside = batch.unlabelled.extras["soft"][:, 1] == 255
            self.seen = (batch.unlabelled.images[:, 0], inside)
            return super().loss(batch)

    method = Look(net())
    fit(method, taught, Budget("one", steps=1, batch=4), **QUIET)
    images, inside = method.seen
    assert images[inside].mean() > images[~inside].mean() + 1


def test_soft_labels_that_do_not_fit(task):
    with pytest.raises(ValueError, match="Soft labels must be"):
        with_soft(task, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="with_soft"):
        SoftLabelled(net()).loss(batch())


# Expectation-maximisation


def test_posterior_is_bayes():
    probs, prior = torch.randn(2, 1, 3, 2, 2).softmax(2)
    q = posterior(probs, prior, doubt=0.3)
    by_hand = [
        float(p * (0.7 * a + 0.1))
        for p, a in zip(*(x[0, :, 1, 0] for x in (probs, prior)), strict=True)
    ]
    assert q[0, :, 1, 0].tolist() == pytest.approx([x / sum(by_hand) for x in by_hand])
    assert torch.allclose(posterior(probs, prior, doubt=1.0), probs, atol=1e-6)
    certain = F.one_hot(torch.tensor([[[0, 1], [2, 0]]]), 3).movedim(-1, 1).float()
    assert torch.allclose(posterior(probs, certain, doubt=0.0), certain)
    with pytest.raises(ValueError, match=r"choose one in \[0, 1\]"):
        posterior(probs, prior, doubt=2)
    with pytest.raises(ValueError, match="the target's size and classes"):
        posterior(probs, prior[:, :2])


def test_labels_and_weights_are_updated_in_turn(task, monkeypatch):
    seen = watch(ito, monkeypatch)
    priors = []
    original = ito.posterior
    monkeypatch.setattr(ito, "posterior", lambda *a: priors.append(a) or original(*a))
    atlas_em(task, Budget("smoke", steps=4, batch=2), seed=1, rounds=2, **QUIET)
    assert [steps for *_, steps in seen] == [4, 2, 2]
    first, *rounds = seen
    assert isinstance(first[0], Supervised)
    before = first[0]
    for (method, start, used, _), (probs, prior, doubt) in zip(rounds, priors, strict=True):
        assert torch.equal(start, weights(before.net))  # the M-step goes on
        answer = before.predict(task.train.images[task.unlabelled]).detach()
        assert torch.allclose(probs, answer, atol=1e-5)  # the E-step asks it
        assert torch.equal(prior, priors[0][1])  # the prior stays
        q = (255 * original(probs, prior, doubt)).round()
        assert torch.equal(used.train.extras["soft"][task.unlabelled].float(), q)
        before = method


def test_the_prior_changes_what_is_learnt(task):
    budget = Budget("smoke", steps=3, batch=2)
    with_prior, alone = (
        atlas_em(task, budget, rounds=1, doubt=d, **QUIET).method.net for d in (0.2, 1.0)
    )
    assert not torch.equal(weights(with_prior), weights(alone))
    with pytest.raises(ValueError, match="at least 1 round"):
        atlas_em(task, budget, rounds=0)


# Trust in propagated labels


def test_where_the_images_differ_the_labels_are_not_trusted():
    method = registration()
    images = method.atlas.images[:1].clone()
    images[..., 8:24, :12] = torch.randn(1, 1, 16, 12, generator=torch.Generator().manual_seed(0))
    masks, belief = trust(method, images)
    assert torch.equal(masks.argmax(1), method.atlas.labels[:1])
    assert belief[0, :, 24:].min() > 0.8
    assert belief[0, 12:20, :6].mean() < 0.4
    assert belief.min() >= 0 and belief.max() <= 1


@pytest.mark.parametrize("weighted", [True, False])
def test_the_segmenter_learns_the_moved_labels(task, monkeypatch, weighted):
    seen = watch(chi, monkeypatch)
    result = deformable_pseudo_labels(task, FEW, seed=2, weighted=weighted, **QUIET)
    ((method, start, used, _),) = seen
    assert torch.equal(start, weights(networks.unet(task, seed=2)))
    first = fit(Registration.for_task(task, 2), task, FEW, seed=2, **QUIET).method.eval()
    masks, belief = trust(first, task.train.images[task.unlabelled])
    got = {k: used.train.extras[k][task.unlabelled].float() for k in ("soft", "trust")}
    assert torch.allclose(got["soft"], (255 * masks).round(), atol=1)
    belief = belief if weighted else torch.ones_like(belief)
    assert torch.allclose(got["trust"], (255 * belief).round(), atol=1)
    assert result.method is method and result.seconds > 0


def test_without_weight_the_segmenter_is_the_baseline(task):
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    control = deformable_pseudo_labels(task, FEW, seed=3, weight=0.0, **QUIET)
    assert torch.equal(weights(control.method.net), weights(baseline.method.net))


# Registration and segmentation together


def test_each_is_taught_by_the_other_and_only_itself_is_moved():
    method = DeepAtlas(net(), registration(wave()))
    players = {player.name: player for player in method.players()}
    players["registration"].loss(batch())["anatomy"].backward()
    assert touched(method.registration) and not touched(method.net)
    method.zero_grad(set_to_none=True)
    players["segmenter"].loss(batch())["warped"].backward()
    assert touched(method.net) and not touched(method.registration)
    mine = {id(p) for player in players.values() for p in player.parameters}
    assert mine == {id(p) for p in method.parameters()}


def test_both_minimise_the_overlap_of_answer_and_moved_labels():
    method, b = DeepAtlas(net(), registration(wave()), anatomy=2.0, weight=0.5), batch()
    images = b.unlabelled.images
    index = method.atlas.match(images)
    moved = warp(method.atlas.one_hot(index), displaced(integrate(wave())).expand(2, -1, -1, -1))
    shared = overlap_loss(moved, method.net(images).softmax(1)).item()
    assert method.registration_loss(b)["anatomy"].item() == pytest.approx(2 * shared, rel=1e-4)
    assert method.loss(b)["warped"].item() == pytest.approx(0.5 * shared, rel=1e-4)
    for progress, factor in ((0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)):
        value = method.loss(batch(progress))["warped"].item()
        assert value == pytest.approx(0.5 * shared * factor, rel=1e-4)


def test_a_segmenter_that_knows_mends_the_registration():
    truth, _ = scene(2)
    grid = displaced(integrate(wave(0.2))).expand(2, -1, -1, -1)

    class Knows(nn.Module):
        def forward(self, images):
            return 20 * warp(F.one_hot(scene(2)[1], 3).movedim(-1, 1).float(), grid)

    method = DeepAtlas(Knows(), registration())
    index = torch.arange(2)
    target = Part(warp(truth, grid), scene(2)[1], index, index, {})
    b = Batch(target, target, 1.0)
    optimiser = torch.optim.Adam(method.registration.parameters(), lr=0.01)
    before = float(method.registration_loss(b)["anatomy"].detach())
    for _ in range(15):
        loss = method.registration_loss(b)["anatomy"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.7 * before


# Perturbed registration and a critic


def rs(task, velocity=None, **options):
    method = DeepRS.for_task(task, **options)
    method.registration = registration(wave(0.2) if velocity is None else velocity)
    return method


def test_a_perturbed_image_keeps_its_label(task):
    method, seen, said = rs(task), [], []
    images, labels = scene()
    method.registration.atlas = Atlas(labels.unsqueeze(1).float(), labels, 3)  # its own label map
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    original = losses.dice_ce
    try:
        losses.dice_ce = lambda logits, y: said.append(y) or original(logits, y)
        method.loss(batch())
    finally:
        losses.dice_ce = original
    perturbed, (_, y) = seen[2][:, 0], said
    assert ((perturbed - y).abs() < 0.51).float().mean() > 0.98
    assert not torch.equal(y, labels)


def test_the_factor_is_drawn_for_each_image(task):
    method, velocity = rs(task, reach=1.5), torch.ones(200, 2, 2, 2)
    factors = method.perturbed(velocity)
    assert torch.equal(factors.amax((1, 2, 3)), factors.amin((1, 2, 3)))
    drawn = factors[:, 0, 0, 0]
    assert drawn.min() >= 0 and drawn.max() <= 1.5 and len(drawn.unique()) > 190
    assert drawn.mean().item() == pytest.approx(0.75, abs=0.15)


def test_the_critics_belief_weights_the_labels(task):
    method, b = rs(task, weight=0.5), batch()
    logits = torch.full((2, 1, 32, 32), -30.0)
    logits[..., :16] = 30.0  # believes the left half
    method.judge = lambda moved, images: logits
    images = b.unlabelled.images
    _, masks, velocity = method.register(images)
    arrived = method.registration.move(masks, velocity)
    entropy = -(arrived * method.net(images).log_softmax(1)).sum(1)
    value = method.loss(b)["warped"].item()
    assert value == pytest.approx(0.5 * entropy[..., :16].mean().item(), rel=1e-3)
    method.confident = False
    assert method.loss(b)["warped"].item() == pytest.approx(0.5 * entropy.mean().item(), rel=1e-3)


def test_the_critic_learns_what_is_aligned(task):
    method, b = rs(task, STILL), batch()
    _, optimiser = None, torch.optim.Adam(method.critic.parameters(), lr=0.01)
    for _ in range(25):
        loss = sum(method.critic_loss(b).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    images = b.unlabelled.images
    moved = method.registration.atlas.images[method.registration.atlas.match(images)]
    aligned = method.confidence(images, images).mean()
    assert aligned > method.confidence(moved, images).mean() + 0.2


def test_three_players_each_with_weights_of_its_own(task):
    method = rs(task)
    groups = [{id(p) for p in player.parameters} for player in method.players()]
    assert [player.name for player in method.players()] == ["registration", "segmenter", "critic"]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(list(method.parameters()))
    method.registration_loss(batch())["fooled"].backward()
    assert touched(method.registration)


# A probability atlas in the loss


def test_the_probability_atlas_is_the_mean_of_aligned_masks():
    method = registration(wave())
    atlases = [Atlas(*scene(1, seed), 3) for seed in (3, 5, 6)]
    image = scene(1, 7)[0]
    grid = displaced(integrate(wave()))
    aligned = [warp(a.one_hot(torch.zeros(1).long()), grid) for a in atlases]
    expected = sum(aligned) / 3
    got = probability_atlas(method, atlases, image)
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(got.sum(1), torch.ones(()), atol=1e-5)


def test_no_image_votes_on_itself(task):
    method = Registration(Fixed(STILL.clone()), Atlas.of(task))
    stored = with_atlas(task, method).train.extras["atlas"]
    atlases, index = by_subject(task), task.labelled
    owners = task.train.subjects[index]
    for number, subject in enumerate(owners.unique()):
        others = [a for i, a in enumerate(atlases) if i != number]
        expected = probability_atlas(method, others, atlases[number].images)
        got = stored[index[owners == subject]].float() / 255
        assert torch.allclose(got, expected, atol=2 / 255)
    assert (stored[task.unlabelled] == 0).all()


def prior_batch():
    torch.manual_seed(2)
    expected = torch.randn(2, 3, 32, 32).mul(2).softmax(1)
    return batch(atlas=(255 * expected).round()), (255 * expected).round() / 255


def test_surprise_by_hand(task):
    method = DeepAtlasPrior.for_task(task, prior_weight=2.0, gamma=2.0, floor=0.1)
    b, expected = prior_batch()
    labels = b.labelled.labels.clone()
    labels[:, :4] = IGNORE
    p = method.net(b.labelled.images).softmax(1)
    total = weight = 0.0
    for n, i, j in (labels != IGNORE).nonzero().tolist():
        k = labels[n, i, j]
        w = 0.1 + (1 - float(expected[n, k, i, j])) ** 2
        q = float(p[n, k, i, j].detach())
        total, weight = total + w * (1 - q) ** 2 * -math.log(q), weight + w
    logits = method.net(b.labelled.images)
    assert method.surprise(logits, labels, expected).item() == pytest.approx(
        total / weight, rel=1e-3
    )
    direct = method.surprise(logits, b.labelled.labels, expected).item()
    assert method.loss(b)["prior"].item() == pytest.approx(2 * direct, rel=1e-4)


def test_an_unexpected_pixel_pulls_harder(task):
    method = DeepAtlasPrior.for_task(task)
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    expected = torch.tensor([0.95, 0.05]).view(1, 1, 1, 2)
    expected = torch.cat([expected, 1 - expected], 1)
    method.surprise(logits, torch.zeros(1, 1, 2).long(), expected).backward()
    pull = logits.grad[0, 0, 0].abs()
    assert pull[1] > 5 * pull[0]


def test_unlabelled_answers_must_pass_for_labelled_ones(task):
    method = DeepAtlasPrior.for_task(task)
    b, _ = prior_batch()
    method.loss(b)["adversarial"].backward()
    assert touched(method.net)
    other = Batch(b.labelled, part(seed=9), 1.0)
    before, after = method.loss(b), method.loss(other)
    assert torch.equal(before["supervised"], after["supervised"])
    assert not torch.equal(before["adversarial"], after["adversarial"])
    with pytest.raises(ValueError, match="with_atlas"):
        method.loss(batch())


def test_one_subject_is_no_average(cohort, monkeypatch):
    alone = Task.split(cohort, labelled=1, valid=2, test=2)
    monkeypatch.setattr(dap, "registered", None)  # said before anything is trained
    with pytest.raises(ValueError, match="average over subjects"):
        atlas_prior_training(alone, FEW)


# Common spaces


class Threshold(nn.Module):
    """Segments by intensity, and notes what it sees."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, images):
        self.seen = images
        levels = [-images, 0.5 - (images - 0.25).abs(), images - 0.5]
        return self.scale * torch.cat(levels, 1)


def common(velocity, moving=True):
    atlases = [Atlas(*scene(1, seed), 3) for seed in (3, 5)]
    reg = Registration(Fixed(velocity.clone()), atlases[0])
    return AtlasNet([Threshold(), Threshold()], atlases, reg, moving)


def test_every_network_sees_the_image_in_its_atlas_space():
    method, b = common(wave()), batch()
    terms = method.loss(b)
    assert set(terms) == {"supervised_0", "supervised_1"}
    there = displaced(integrate(-wave())).expand(2, -1, -1, -1)
    for segmenter in method.net:
        assert torch.allclose(segmenter.seen, warp(b.labelled.images, there), atol=1e-5)
    assert terms["supervised_0"] < 1.6  # labels went the same way as the image


def test_answers_come_back_the_way_the_image_went():
    images = scene(2, seed=8)[0]
    moved, still = (common(wave(), m).predict(images) for m in (True, False))
    inner = (..., slice(5, -5), slice(5, -5))
    same = (moved.argmax(1) == still.argmax(1))[inner].float().mean()
    assert same > 0.95
    there = displaced(integrate(-wave())).expand(2, -1, -1, -1)
    unreturned = Threshold()(warp(images, there)).argmax(1)
    assert (unreturned == still.argmax(1))[inner].float().mean() < same - 0.05


def test_answers_are_averaged_and_spaces_may_differ():
    method = common(STILL)
    with torch.no_grad():
        method.net[1].scale.fill_(0.0)
    images = scene(1, seed=8)[0]
    expected = (Threshold()(images).softmax(1) + 1 / 3) / 2
    assert torch.allclose(method.predict(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="1 networks were given for 2 atlases"):
        AtlasNet([Threshold()], list(method.atlases), method.registration)


def test_atlas_net_trains_a_network_a_space_and_leaves_the_registration(task):
    result = atlas_net(task, FEW, seed=2, spaces=2, **QUIET)
    method = result.method
    assert len(method.net) == 2
    assert not torch.equal(weights(method.net[0]), weights(method.net[1]))
    first = fit(Registration.for_task(task, 2), task, FEW, seed=2, **QUIET).method
    assert torch.equal(weights(first.net), weights(method.registration.net))
    with pytest.raises(ValueError, match="at least 1 common space"):
        atlas_net(task, FEW, spaces=0)


# A prior as input


def square(y, x, size=32, side=6):
    labels = torch.zeros(1, size, size, dtype=torch.long)
    labels[:, y : y + side, x : x + side] = 1
    return labels


def test_centres_by_hand():
    labels = torch.cat([square(4, 20), square(13, 13), torch.zeros(1, 32, 32).long()])
    labels[0, 0, 0] = IGNORE
    centre, seen = centres(labels)
    expected = torch.tensor([[(23 * 2) / 32 - 1, (7 * 2) / 32 - 1], [0, 0], [0, 0]])
    assert torch.allclose(centre, expected, atol=1e-5)
    assert seen.tolist() == [1, 1, 0]


def squares(corners):
    labels = torch.cat([square(y, x) for y, x in corners])
    images = labels + 0.1 * torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
    cohort = Cohort.from_arrays(images.numpy(), labels.numpy())
    return Task.split(cohort, valid=1, test=1)


def test_the_prior_is_the_mean_of_centred_labels():
    task = squares([(4, 20), (20, 5), (10, 10), (13, 13), (3, 3)])
    prior = centred_prior(task)
    assert torch.allclose(prior.sum(0), torch.ones(32, 32), atol=1e-5)
    assert torch.allclose(prior[1], square(13, 13)[0].float(), atol=1e-4)


def prior_net(**options):
    torch.manual_seed(0)
    prior = F.one_hot(square(13, 13)[0], 2).movedim(-1, 0).float()
    return PriorUNet(1, 2, 2, 8, prior=prior, **options)


def test_the_prior_is_placed_at_the_centre():
    placed = prior_net().placed(torch.tensor([[0.25, -0.5], [0.0, 0.0]]))
    assert torch.allclose(placed[0, 1], square(13 - 8, 13 + 4)[0].float(), atol=1e-4)
    assert torch.allclose(placed[1, 1], square(13, 13)[0].float(), atol=1e-4)


def test_the_network_reads_the_prior_and_points_at_the_centre():
    network, images = prior_net(), torch.randn(2, 1, 32, 32)
    logits, centre = network.located(images)
    assert logits.shape == (2, 2, 32, 32) and centre.shape == (2, 2) and centre.abs().max() < 1
    network.prior = network.prior.flip(0)
    assert not torch.allclose(network(images), logits)
    logits.square().mean().backward()
    assert network.pointer.weight.grad.abs().max() > 0  # through the place of the prior
    uninformed = prior_net(informed=False)
    assert (uninformed.prior == 0.5).all()
    with pytest.raises(ValueError, match="resample"):
        network(torch.zeros(1, 1, 64, 64))


def test_the_centre_is_learnt_where_there_is_one():
    method = ShapePrior(prior_net(), weight=3.0)
    labels = torch.cat([square(4, 20), torch.zeros(1, 32, 32).long()])
    images = torch.randn(2, 1, 32, 32)
    index = torch.arange(2)
    terms = method.loss(Batch(Part(images, labels, index, index, {}), None, 0.5))
    _, centre = method.net.located(images)
    distance = (centre[0] - centres(labels)[0][0]).square().sum()
    assert terms["centre"].item() == pytest.approx(3 * distance.item(), rel=1e-4)


def test_pointing_gets_better():
    task = squares([(4, 20), (20, 5), (10, 10), (13, 13), (3, 3), (20, 20)])
    history = fit(ShapePrior.for_task(task), task, Budget("t", 25, batch=4), **QUIET).history
    assert sum(history["centre"][-5:]) < 0.5 * sum(history["centre"][:5])


# All of them

KINDS = [
    DeepAtlas,
    DeepRS,
    ShapePrior,
    atlas_em,
    deformable_pseudo_labels,
    atlas_prior_training,
    atlas_net,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [2, 3])
def test_they_train_on_slices_and_volumes(kind, dims, task, blocks):
    task = task if dims == 2 else blocks
    if isinstance(kind, type):
        fitted = fit(kind.for_task(task), task, FEW, **QUIET)
    else:
        fitted = kind(task, FEW, 0, **QUIET)
    assert all(math.isfinite(v) for term in fitted.history.values() for v in term)
    probs = fitted.predict(task.valid.images[:1])
    assert probs.shape == (1, 3, *task.valid.images.shape[2:])
    assert torch.allclose(probs.sum(1), torch.ones(()), atol=1e-4)


@pytest.fixture(scope="module")
def blocks():
    """Two of five small volumes are labelled."""
    draw = torch.Generator().manual_seed(0)
    images = smooth_field(torch.zeros(5, 1, 32, 16, 16), 1, 3, draw)
    labels = (images[:, 0] > 0).long() + (images[:, 0] > 0.4)
    cohort = Cohort.from_arrays(images.numpy(), labels.numpy(), name="blocks")
    return Task.split(cohort, labelled=2, valid=1, test=1)
