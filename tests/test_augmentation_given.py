"""Given augmentation: what is hidden, what is mixed, and that labels take the same way."""

import math

import pytest
import torch
from probes import net, weights

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment, beta, cutout, erase, mixup, rectangle
from lsseg_edu.data import IGNORE
from lsseg_edu.networks import Shape
from lsseg_edu.semi.adversarial.discriminator import critic, one_hot
from lsseg_edu.semi.augmentation import (
    AdaMixUp,
    CutMix,
    FeatureSpace,
    Mixup,
    ShiftMixup,
    given,
    majority,
    only,
    partners,
    soft_dice_ce,
    with_crop,
    with_cutout,
    with_erasing,
    with_intensity,
    with_warp,
)
from lsseg_edu.semi.augmentation.adamixup import policy
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=(16, 16), count=4, progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(count, 1, *size), torch.randint(0, 3, (count, *size))
    index = torch.arange(count)
    others = Part(images + 1, torch.full_like(labels, IGNORE), index, index, {})
    return Batch(Part(images, labels, index, index, {}), others, progress)


@pytest.fixture
def augments(monkeypatch, task):
    """The augmentation that each procedure gives to the loop, and its network's first weights."""
    seen = []

    def record(method, task, budget, seed, augment, **kwargs):
        seen.append((augment, weights(method.net), seed))

    monkeypatch.setattr(given, "fit", record)
    return seen


# Hiding


@pytest.mark.parametrize("size", [(40, 64), (24, 32, 32)])
def test_erased_rectangle_has_the_area_and_aspect_that_were_drawn(size):
    images = torch.randn(60, 2, *size, generator=seeded()) + 10
    hidden = (erase(images, seeded(1), p=1.0, noise=False) != images).any(1)
    share = hidden.flatten(1).float().mean(1)
    assert share.min() > 0.015 and share.max() < 0.43 and share.std() > 0.08
    aspects = []
    for mask in hidden:
        sides = [
            mask.any(tuple(a for a in range(mask.ndim) if a != axis)).sum()
            for axis in range(mask.ndim)
        ]
        assert mask.sum() == math.prod(sides), "not a rectangle"
        height, width = (float(n) / s for n, s in zip(sides[-2:], size[-2:], strict=True))
        aspects.append(math.log(height / width))
    assert max(map(abs, aspects)) < -math.log(0.3 * 0.75)
    assert torch.tensor(aspects).std() > 0.3, "the aspect is drawn, too"


def test_erasing_fills_with_the_mean_or_with_noise_of_it():
    images = torch.randn(30, 2, 32, 32, generator=seeded()) + torch.tensor([3.0, -5]).view(2, 1, 1)
    flat, grain = (erase(images, seeded(1), p=1.0, noise=noise) for noise in (False, True))
    hidden = (flat != images).all(1, keepdim=True).expand_as(images)
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    assert torch.allclose(flat[hidden], means[hidden], atol=1e-5)
    assert (grain - means)[hidden].std() == pytest.approx(1, abs=0.1)
    assert torch.equal(grain[~hidden], images[~hidden])


def test_erasing_happens_with_its_probability_and_from_its_seed():
    images = torch.randn(400, 1, 16, 16, generator=seeded())
    once, again = erase(images, seeded(3), p=0.3), erase(images, seeded(3), p=0.3)
    assert torch.equal(once, again) and not torch.equal(once, erase(images, seeded(4), p=0.3))
    changed = (once != images).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.07)
    assert torch.equal(erase(images, seeded(), p=0.0), images)


@pytest.mark.parametrize("size", [(32, 48), (16, 24, 32)])
def test_cutout_zeroes_one_fixed_square_that_may_cross_the_border(size):
    images = torch.ones(300, 2, *size)
    hidden = cutout(images, seeded(), side=0.25) == 0
    whole = math.prod(n // 4 for n in size)
    counts = hidden[:, 0].flatten(1).sum(1)
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert counts.max() == whole and counts.min() < whole
    inner = math.prod(3 / 4 + 1 / n for n in size)  # centres whose square is inside the image
    assert (counts == whole).float().mean() == pytest.approx(inner, abs=0.1)
    covered = hidden[:, 0].float().mean(0)
    assert len(size) == 3 or (covered > 0).all(), "the centre may fall anywhere"


def test_rectangle_by_hand():
    box = rectangle(torch.zeros(1, 1, 4, 5), torch.tensor([[1, -2]]), torch.tensor([[3, 2]]))
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:3, :2] = True
    assert torch.equal(box[0, 0], expected)


def test_hiding_with_bad_numbers():
    images = torch.zeros(1, 1, 16, 16)
    for call in (
        lambda: erase(images, area=(0.4, 0.2)),
        lambda: erase(images, area=(0.0, 0.2)),
        lambda: erase(images, aspect=2.0),
    ):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
            call()
    with pytest.raises(ValueError, match="fraction of the image"):
        cutout(images, side=16)


# One augmentation at a time


def test_only_one_kind_of_change():
    moves, paints, all_ = only("moves"), only("intensities"), Augment.strong()
    assert moves.moves and not paints.moves
    assert (moves.rotation, moves.elastic) == (all_.rotation, all_.elastic) and moves.bias == 0
    assert (paints.bias, paints.noise) == (all_.bias, all_.noise)
    assert only("moves", 0) == Augment.none() == only("intensities", 0)
    assert only("moves", 2).shift == 2 * all_.shift and only("moves", 2).cells == all_.cells
    for kind, strength in (("both", 1), ("moves", -1)):
        with pytest.raises(ValueError, match="'moves' or 'intensities'"):
            only(kind, strength)


def test_warp_alone_moves_labels_with_images_and_repaints_nothing(task, augments):
    with_warp(task, FEW, seed=3)
    labels = torch.zeros(6, 32, 32, dtype=torch.long)
    labels[:, 8:20, 10:24] = 2
    images, moved = augments[0][0](labels[:, None].float(), labels, seeded())
    assert (moved != labels).any() and set(images.unique().tolist()) > {0.0, 2.0}
    assert ((images[:, 0] > 1) == (moved == 2)).float().mean() > 0.98
    again = augments[0][0](labels[:, None].float(), labels, seeded())
    assert torch.equal(moved, again[1]) and torch.equal(images, again[0])


def test_intensity_alone_leaves_labels_and_places(task, augments):
    with_intensity(task, FEW)
    images, labels = batch((32, 32)).labelled.images, batch((32, 32)).labelled.labels
    painted, kept = augments[0][0](images, labels, seeded())
    assert torch.equal(kept, labels) and not torch.equal(painted, images)
    similar = torch.corrcoef(torch.stack([painted.flatten(), images.flatten()]))[0, 1]
    assert similar > 0.7


def test_crop_takes_the_same_window_of_image_and_label(task, augments):
    with_crop(task, FEW, share=0.5)
    images = torch.arange(32 * 40.0).view(1, 1, 32, 40).repeat(8, 1, 1, 1)
    cut, labels = augments[0][0](images, images[:, 0].long() + 1, seeded())
    assert cut.shape == (8, 1, 16, 20) and torch.equal(cut[:, 0].long() + 1, labels)
    assert len(cut[:, 0, 0, 0].unique()) > 4
    with pytest.raises(ValueError, match="share of an axis"):
        with_crop(task, FEW, share=1.5)


@pytest.mark.parametrize("procedure", [with_cutout, with_erasing])
def test_hiding_keeps_every_label(task, augments, procedure):
    procedure(task, FEW, **({"p": 1.0} if procedure is with_erasing else {}))
    images, labels = batch((32, 32)).labelled.images, batch((32, 32)).labelled.labels
    hidden, kept = augments[0][0](images, labels, seeded())
    changed = (hidden != images).float().mean((1, 2, 3))
    assert torch.equal(kept, labels) and (changed > 0).all() and (changed < 0.5).all()


def test_on_top_of_everything_else(task, augments):
    with_cutout(task, FEW, side=0.0, alone=False)
    images, labels = batch((32, 32)).labelled.images, batch((32, 32)).labelled.labels
    expected = Augment.strong()(images, labels, seeded(5))
    for got, want in zip(augments[0][0](images, labels, seeded(5)), expected, strict=True):
        assert torch.equal(got, want)


def test_each_starts_as_the_baseline_and_at_strength_zero_nothing_is_augmented(
    task, augments, monkeypatch
):
    for procedure in (with_warp, with_intensity, with_crop, with_cutout, with_erasing):
        procedure(task, FEW, seed=3)
    start = weights(networks.unet(task, seed=3))
    assert all(torch.equal(w, start) and seed == 3 for _, w, seed in augments)
    monkeypatch.setattr(given, "fit", fit)
    none = fit(Supervised.for_task(task, 3), task, FEW, 3, augment=Augment.none(), **QUIET)
    for procedure in (with_warp, with_intensity):
        arm = procedure(task, FEW, 3, strength=0, **QUIET)
        assert torch.equal(weights(arm.method), weights(none.method))


# Soft labels


def test_soft_loss_of_hard_labels_is_the_supervised_loss():
    torch.manual_seed(2)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    labels[0, :3] = IGNORE
    expected = losses.dice_ce(logits, labels)
    assert soft_dice_ce(logits, one_hot(labels, 3)) == pytest.approx(expected.item(), rel=1e-5)
    assert soft_dice_ce(logits, torch.zeros_like(logits)).isfinite()


def test_soft_loss_is_least_at_its_target():
    torch.manual_seed(2)
    target = torch.randn(2, 3, 8, 8).softmax(1)
    logits = target.log().requires_grad_()
    (slope,) = torch.autograd.grad(soft_dice_ce(logits, target), logits)
    assert slope.abs().max() < 1e-5


def test_pixels_that_are_known_in_one_image_only_count_for_nothing():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, 1] = IGNORE
    target = mixup(one_hot(labels, 3), torch.tensor([0.7, 0.2]))
    soft_dice_ce(logits, target).backward()
    assert (logits.grad[:, :, 1] == 0).all() and (logits.grad[:, :, 0] != 0).any()


# Mixing


def test_beta_has_its_distribution():
    images = torch.zeros(4000, 1, 1, 1)
    for alpha in (0.4, 1.0, 5.0):
        share = beta(images, alpha, seeded())
        assert share.min() >= 0 and share.max() <= 1
        assert share.mean() == pytest.approx(0.5, abs=0.02)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    for alpha in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive alpha"):
            beta(images, alpha)


@pytest.mark.parametrize("dims", [2, 3])
def test_image_and_label_are_mixed_with_the_same_weight(dims):
    b = batch((8,) * dims)
    method, seen = Mixup(net(dims)), []
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    torch.manual_seed(5)
    loss = method.loss(b)["mixup"]
    torch.manual_seed(5)
    share = beta(b.labelled.images, method.alpha)
    by_hand = [share[i] * b.labelled.images[i] + (1 - share[i]) * b.labelled.images[(i + 1) % 4]
               for i in range(4)]  # fmt: skip
    assert torch.allclose(seen[0], torch.stack(by_hand), atol=1e-6)
    hard = one_hot(b.labelled.labels, 3)
    target = torch.stack(
        [share[i] * hard[i] + (1 - share[i]) * hard[(i + 1) % 4] for i in range(4)]
    )
    assert loss.item() == pytest.approx(soft_dice_ce(method.net(seen[0]), target).item(), rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in method.parameters())


def test_mixing_needs_two():
    one = batch(count=1)
    for method in (Mixup(net()), CutMix(net())):
        with pytest.raises(ValueError, match="at least two"):
            method.loss(one)


@pytest.mark.parametrize("size", [(64, 64), (24, 24, 24)])
def test_cutmix_box_has_the_area_that_beta_drew(size):
    images = torch.zeros(200, 1, *size)
    method = CutMix(net(len(size)), alpha=0.6)
    torch.manual_seed(0)
    box = method.box(images)
    torch.manual_seed(0)
    taken = 1 - beta(images, 0.6)
    assert (box.flatten(1).float().mean(1) - taken).abs().max() < 0.04 * len(size)


def test_cutmix_pastes_labels_with_the_mask_of_the_image():
    b, method, seen = batch((16, 16)), CutMix(net()), []
    labels = b.labelled.labels.clone()
    labels[1, :8] = IGNORE
    part = Part(labels[:, None].float(), labels, b.labelled.index, b.labelled.subject, {})
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    torch.manual_seed(3)
    loss = method.loss(Batch(part, None, 1.0))["cutmix"]
    pasted = seen[0][:, 0].long()
    assert (pasted != labels).any() and (pasted[0] == IGNORE).any()
    assert loss.item() == pytest.approx(losses.dice_ce(method.net(seen[0]), pasted).item())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def adamixup(weight=1.0):
    torch.manual_seed(0)
    shape = Shape(1, 3, 2)
    return AdaMixUp(net(), networks.build(policy, shape, 0), critic(shape, "images", 0), weight)


def test_policy_gives_a_range_of_shares():
    method, images = adamixup(), batch((16, 16)).labelled.images
    low, span = method.ranges(images)
    assert torch.allclose(low, torch.full((4,), 1 / 3)) and torch.allclose(span, low)
    with torch.no_grad():
        method.policy[-1].weight.normal_()
    low, span = method.ranges(images)
    assert (low > 0).all() and (low + span < 1).all() and len(low.unique()) == 4
    shares = torch.stack([method.share(images) for _ in range(40)])
    assert (shares >= low).all() and (shares <= low + span + 1e-6).all()


def test_intrusion_discriminator_tells_mixtures_from_images():
    method, b = adamixup(), batch((16, 16))
    torch.manual_seed(4)
    term = method.loss(b)["intrusion"]
    torch.manual_seed(4)
    mixed = mixup(b.labelled.images, method.share(b.labelled.images))
    real, fake = (method.intrusion.whole(x) for x in (b.labelled.images, mixed))
    by_hand = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()) / 2
    assert term.item() == pytest.approx(by_hand.item(), rel=1e-4)
    optimiser = torch.optim.Adam([*method.intrusion.parameters()], 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        method.loss(b)["intrusion"].backward()
        optimiser.step()
    assert method.loss(b)["intrusion"] < 0.5 * term


def test_policy_learns_from_mixing_and_from_intrusion():
    method, b = adamixup(), batch((16, 16))
    for name in ("mixup", "intrusion"):
        method.zero_grad()
        method.loss(b)[name].backward()
        assert method.policy[-1].weight.grad.any(), f"{name} does not reach the policy"
    method.zero_grad()
    sum(method.loss(b).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    (player,) = method.players()
    assert len(player.parameters) == len(list(method.parameters()))


# Another scanner


def shift_mixup(**options):
    return ShiftMixup(net(), critic(Shape(1, 3, 2), "masks", 0), **options)


def test_mixup_alone_is_mixup_and_draws_no_image_of_the_other_scanner():
    method, plain = shift_mixup(), Mixup(net())
    assert not method.unlabelled and [p.name for p in method.players()] == ["segmenter"]
    terms = []
    for one in (method, plain):
        torch.manual_seed(6)
        terms.append(one.loss(batch()))
    assert terms[0]["supervised"] == terms[1]["mixup"] and set(terms[0]) == {"supervised"}


def test_the_four_arms_of_the_study():
    b = batch((32, 32))
    neither = shift_mixup(alpha=0)
    expected = losses.dice_ce(neither.net(b.labelled.images), b.labelled.labels)
    assert neither.loss(b) == {"supervised": expected}
    adapted = shift_mixup(alpha=0, weight=0.1)
    terms = adapted.loss(b)
    assert terms["supervised"] == expected and terms["adversarial"] > 0
    names = [p.name for p in adapted.players()]
    assert names == ["segmenter", "critic"] and adapted.unlabelled
    assert set(adapted.critic_loss(b)) == {"annotated", "unannotated"}
    assert shift_mixup(weight=0.1).loss(b)["supervised"] != expected


# Feature space


def test_partners_are_others_of_the_same_class():
    torch.manual_seed(0)
    classes = torch.randint(-1, 4, (200,))
    classes[7] = 9
    partner = partners(classes)
    assert torch.equal(classes[partner], classes)
    assert torch.equal(partner.sort().values, torch.arange(200)), "each is used once"
    alone = (classes == -1) | (classes == 9)
    assert torch.equal(partner == torch.arange(200), alone)
    assert not torch.equal(partner, partners(classes))


def test_class_of_a_coarse_place_is_the_majority():
    labels = torch.full((1, 4, 4), IGNORE)
    labels[0, :2, :2] = torch.tensor([[1, 1], [1, 2]])
    labels[0, :2, 2:] = torch.tensor([[2, IGNORE], [IGNORE, IGNORE]])
    labels[0, 2:, :2] = 0
    assert majority(labels, (2, 2)).tolist() == [[[1, 2], [0, -1]]]


@pytest.mark.parametrize("extrapolate", [True, False])
def test_vectors_move_along_the_line_to_their_partner(extrapolate):
    method = FeatureSpace(networks.unet(Shape(1, 3, 2)), degree=0.5, extrapolate=extrapolate)
    codes, labels = torch.randn(3, 6, 2, 2), torch.randint(0, 3, (3, 32, 32))
    torch.manual_seed(8)
    new = method.moved(codes, labels)
    torch.manual_seed(8)
    partner = partners(majority(labels, (2, 2)).flatten())
    old, moved = (x.permute(0, 2, 3, 1).reshape(12, 6) for x in (codes, new))
    for j in range(12):
        step = old[j] - old[partner[j]]
        assert torch.allclose(moved[j], old[j] + (0.5 if extrapolate else -0.5) * step, atol=1e-6)


def test_new_vectors_teach_the_decoder_and_not_the_encoder():
    method = FeatureSpace(networks.unet(Shape(1, 3, 2), width=4))
    method.loss(batch((32, 32)))["features"].backward()
    reached = {n.split(".")[0] for n, p in method.net.named_parameters() if p.grad is not None}
    assert reached == {"upcat_4", "upcat_3", "upcat_2", "upcat_1", "final_conv"}
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())
    still = FeatureSpace(method.net, degree=0.0).loss(batch((32, 32)))
    assert still["features"].item() == pytest.approx(still["supervised"].item(), rel=1e-5)
    with pytest.raises(ValueError, match="encode and decode"):
        FeatureSpace(net())


# Whole trainings


@pytest.mark.parametrize("kind", [Mixup, CutMix, AdaMixUp, FeatureSpace, ShiftMixup])
def test_the_scoreboard_can_train_it(task, kind):
    fitted = fit(kind.for_task(task, 3), task, FEW, 3, **QUIET)
    assert fitted.predict(task.test.images).isfinite().all()
    assert torch.equal(weights(kind.for_task(task, 3).net), weights(networks.unet(task, seed=3)))


def test_volumes(volumes):
    from lsseg_edu.data import Task

    task = Task.split(volumes, labelled=2, valid=1, test=1)
    for method in (Mixup(net(3)), CutMix(net(3))):
        assert fit(method, task, Budget("smoke", 1, batch=2), **QUIET).history
    labels = torch.randint(0, 3, (2, 32, 32, 32))
    method = FeatureSpace(networks.unet(Shape(1, 3, 3), width=4))
    assert method.moved(torch.randn(2, 6, 2, 2, 2), labels).shape == (2, 6, 2, 2, 2)
