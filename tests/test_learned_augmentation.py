"""Learned augmentation: what is moved, what is repainted, and who is paid for it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy import ndimage
from torch import nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task, load
from lsseg_edu.semi.adversarial import critic, shift
from lsseg_edu.semi.augmentation import ea_gan
from lsseg_edu.semi.augmentation.cross_modal import (
    CrossModal,
    cross_modal_augmentation,
    source_bank,
)
from lsseg_edu.semi.augmentation.ea_gan import (
    EaGAN,
    edge_aware_augmentation,
    paired_scanners,
    sobel,
    stacked,
)
from lsseg_edu.semi.augmentation.motion import Motion
from lsseg_edu.semi.augmentation.synthetic import Repainted, WithSynthetic, moved
from lsseg_edu.semi.augmentation.task_driven import FieldNet, TaskDriven
from lsseg_edu.semi.augmentation.zhao import (
    Appearance,
    LearnedTransforms,
    one_shot_augmentation,
    roughness,
)
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}


def part(dims=2, size=16, channels=1, **extras):
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (2, *[size] * dims))
    images = torch.randn(2, channels, *[size] * dims)
    index = torch.arange(2)
    return Part(images, labels, index, index, extras)


def batch(**options):
    one, other = part(**options), part(**options)
    nobody = torch.full_like(other.labels, IGNORE)
    return Batch(one, replace(other, images=1 - other.images.flip(0), labels=nobody), 1.0)


def gradient(loss, module):
    grads = torch.autograd.grad(
        loss, list(module.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(g is None or g.isfinite().all() for g in grads)
    return sum(float(g.abs().sum()) for g in grads if g is not None)


class Judge(nn.Module):
    """A critic that believes everything a little and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen, self.one = [], nn.Parameter(torch.ones(()))

    def forward(self, seen):
        self.seen.append(seen)
        return self.one * seen.mean((1, 2, 3))


class Fixed(nn.Module):
    """A sampler of white images full of class 2."""

    def sample(self, count):
        return torch.ones(count, 1, 32, 32), torch.full((count, 32, 32), 2)


# The mixed batch


def test_without_synthetic_pairs_it_is_the_baseline(task, budget):
    mixed = WithSynthetic(networks.unet(task), Fixed(), fraction=0)
    nets = [fit(m, task, budget, **QUIET).method.net for m in (mixed, Supervised.for_task(task))]
    pairs = zip(*(net.parameters() for net in nets), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_part_of_the_batch_is_synthetic_and_the_rest_real():
    torch.manual_seed(0)
    images, labels = torch.zeros(4, 1, 32, 32), torch.zeros(4, 32, 32, dtype=torch.long)
    mixed = WithSynthetic(nn.Identity(), Fixed(), fraction=0.5)
    mixed_images, mixed_labels = mixed.mix(images, labels)
    assert torch.equal(mixed_images[2:], images[2:]) and (mixed_images[:2] != 0).any()
    assert (mixed_labels[:2] == 2).all() and (mixed_labels[2:] == 0).all()


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="fraction in"):
        WithSynthetic(nn.Identity(), Fixed(), fraction=1.5)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        TaskDriven(nn.Identity(), (None, None), [], fraction=-1)


# Zhao


@pytest.fixture
def atlas_model(task):
    """A registration and an appearance network that already move and repaint."""
    torch.manual_seed(0)
    model = Appearance.for_task(task, registration=Motion.for_task(task))
    for net in (model.registration.net.unet, model.net):
        nn.init.normal_(net.final_conv.weight, std=0.3)
    return model


def test_zhao_combines_the_shape_of_one_image_with_the_look_of_another(task, atlas_model):
    others = task.train.select(task.unlabelled)
    images, sampler = others.images, LearnedTransforms(atlas_model, others)
    shape, look = torch.tensor([0, 1, 4]), torch.tensor([2, 3, 5])
    made, labels = sampler.combine(shape, look)
    source, atlas = sampler.match[shape], atlas_model.atlas
    velocity = atlas_model.registration.net(atlas.images[source], images[shape])
    repainted = atlas.images[source] + sampler.delta[look]
    expected = atlas_model.registration.move(repainted, velocity)
    assert torch.allclose(made, expected, atol=1e-5)
    soft = atlas_model.registration.move(atlas.one_hot(source), velocity)
    agree = (soft.argmax(1) == labels).float().mean()
    assert agree > 0.9 and (labels != atlas.labels[source]).any()
    assert not torch.equal(sampler.delta[look], sampler.delta[shape])


def test_zhao_each_transform_can_be_taken_out(task, atlas_model):
    others, index = task.train.select(task.unlabelled), torch.arange(4)
    atlas = atlas_model.atlas
    still = LearnedTransforms(atlas_model, others, spatial=False)
    made, labels = still.combine(index, index)
    assert torch.equal(labels, atlas.labels[still.match[index]])
    assert torch.allclose(made - atlas.images[still.match[index]], still.delta[index], atol=1e-6)
    plain = LearnedTransforms(atlas_model, others, spatial=False, appearance=False)
    assert torch.equal(plain.combine(index, index)[0], atlas.images[plain.match[index]])


def test_zhao_draws_shape_and_look_apart_but_of_the_same_atlas_image(task, atlas_model):
    torch.manual_seed(0)
    sampler = LearnedTransforms(atlas_model, task.train.select(task.unlabelled))
    sampler.match = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    shape = torch.arange(10).repeat(20)
    look = sampler.looks(shape)
    assert torch.equal(sampler.match[look], sampler.match[shape])
    assert (look != shape).any()


def test_zhao_aligned_image_is_moved_by_the_inverse_of_the_atlas_motion(atlas_model):
    x = torch.linspace(-1, 1, 32)
    image = (-(x[:, None] ** 2 + x**2) * 4).exp()[None, None]
    velocity = 0.1 * torch.stack([x[:, None] * x, x[:, None] - x], -1)[None]
    there = atlas_model.registration.move(image, velocity)
    back = atlas_model.registration.move(there, -velocity)
    assert (there - image).abs().max() > 0.05
    assert (back - image)[..., 4:-4, 4:-4].abs().max() < 0.02


def test_zhao_pairs_slices_of_the_same_height(cohort):
    """The look-alike is another slice: by position the atlas serves slice 0 with slice 0."""
    position = torch.arange(len(cohort)) % 2
    images = cohort.images.clone()
    images[position == 1] = images[0].clone()  # resembles slice 0 of the atlas, whatever its height
    known = replace(cohort, images=images, extras={"position": position.double()})
    task = Task.split(known, labelled=1, valid=2, test=2)
    others = task.train.select(task.unlabelled)
    assert torch.equal(Motion.for_task(task).source(others), others.extras["position"].long())
    plain = replace(task, train=replace(task.train, extras={}))
    by_look = Motion.for_task(plain)
    assert torch.equal(by_look.source(others), by_look.atlas.match(others.images))


def test_zhao_change_is_smooth_within_a_structure_and_free_at_its_boundary():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :, 4:] = 1
    step = labels.unsqueeze(1).float()
    assert roughness(step, labels) == 0
    assert roughness(step.roll(2, -1), labels) > 0
    noise = torch.randn(1, 1, 8, 8)
    by_hand = 0.0
    for a, b in (((1, 0), (0, 0)), ((0, 1), (0, 0))):
        rows, columns = 8 - a[0], 8 - a[1]
        total = sum(
            abs(float(noise[0, 0, i + a[0], j + a[1]] - noise[0, 0, i, j]))
            for i in range(rows)
            for j in range(columns)
            if labels[0, i + a[0], j + a[1]] == labels[0, i, j] and b == (0, 0)
        )
        by_hand += total / (rows * columns)
    assert float(roughness(noise, labels)) == pytest.approx(by_hand, rel=1e-5)


def test_zhao_appearance_learns_a_change_of_contrast(cohort):
    task = Task.split(cohort, labelled=1, valid=2, test=2)
    brighter = replace(
        task.train, images=task.train.images + 2.0 * (task.train.labels == IGNORE)[:, None]
    )
    model = Appearance.for_task(replace(task, train=brighter))
    fitted = fit(model, replace(task, train=brighter), Budget("smoke", 25, 4, rate=1e-2), **QUIET)
    assert fitted.history["likeness"][-1] < 0.6 * fitted.history["likeness"][0]
    assert all(not p.requires_grad for p in model.registration.parameters())


def test_zhao_counts_the_seconds_of_all_trainings(task, budget):
    fitted = one_shot_augmentation(task, budget, **QUIET)
    assert {"unlikeness", "likeness", "supervised"} <= set(fitted.history)
    assert fitted.predict(task.valid.images).shape[1] == task.train.classes
    assert len(fitted.history["supervised"]) == budget.steps


# Chaitanya


def driven(dims=2, **options):
    shape = networks.Shape(1, 3, dims)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh(), conv(4, 3, 1))
    generators = FieldNet(1, dims, dims, 0.2, 2), FieldNet(1, 1, dims, 1.0, 1)
    critics = [critic(shape, "images", s) for s in (0, 1)]
    return TaskDriven(net, generators, critics, **options)


@pytest.mark.parametrize("dims", [2, 3])
def test_chaitanya_generators_are_paid_for_the_task_and_by_the_critics(dims):
    m, b = driven(dims), batch(dims=dims)
    terms = m.generator_loss(b)
    for name in ("task", "fool"):
        assert gradient(terms[name], m.deform) > 0 and gradient(terms[name], m.paint) > 0
    # Through the warped mask alone, too: where the image is constant, motion changes only labels.
    flat = replace(b.labelled, images=torch.zeros_like(b.labelled.images))
    nn.init.zeros_(m.paint.tail.weight), nn.init.zeros_(m.paint.tail.bias)
    assert gradient(m.generator_loss(replace(b, labelled=flat))["task"], m.deform) > 0
    assert driven(adversarial=0.0).generator_loss(batch())["fool"] == 0


def test_chaitanya_large_changes_are_rewarded():
    m, b = driven(large=0.3), batch()
    torch.manual_seed(5)
    before = m.generator_loss(b)["large"]
    torch.manual_seed(5)
    velocity, change = m.fields(b.labelled.images)
    by_hand = -0.3 * (velocity.abs().mean() / 0.2 + change.abs().mean() / 1.0)
    assert before.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert driven(large=0.0).generator_loss(b)["large"].item() == 0


def test_chaitanya_labels_follow_the_motion_and_not_the_change_of_intensity():
    m, b = driven(), batch()
    images, labels = b.labelled.images, b.labelled.labels
    m.deform.tail.weight.data.zero_()
    m.deform.tail.bias.data.zero_()
    made, masks = m.generate(images, labels)
    assert torch.equal(masks, labels) and not torch.allclose(made, images)
    m.deform.tail.bias.data.fill_(3.0)
    made, masks = m.generate(images, labels)
    assert not torch.equal(masks, labels)


def test_chaitanya_the_critics_tell_unlabelled_images_from_deformed_and_repainted_ones():
    m, b = driven(), batch()
    m.critics = nn.ModuleList([Judge(), Judge()])
    m.critic_loss(b)
    others = b.unlabelled.images
    assert all(torch.equal(judge.seen[0], others) for judge in m.critics)
    assert not torch.equal(m.critics[0].seen[1], m.critics[1].seen[1])


def test_chaitanya_every_player_moves_its_own_weights_only(task, budget):
    m = TaskDriven.for_task(task)
    groups = [set(p.parameters) for p in m.players()]
    assert not (groups[0] & groups[1] or groups[1] & groups[2] or groups[0] & groups[2])
    fitted = fit(m, task, budget, **QUIET)
    assert {"real", "fake", "task", "fool", "large", "supervised"} == set(fitted.history)


# Ea-GAN


@pytest.mark.parametrize("size", [(9, 12), (6, 7, 8)])
def test_eagan_edges_are_those_of_scipy(size):
    images = torch.randn(2, 1, *size)
    for one, edges in zip(images[:, 0], sobel(images)[:, 0], strict=True):
        axes = range(len(size))
        squares = sum(ndimage.sobel(one.numpy(), a, mode="nearest") ** 2 for a in axes)
        assert torch.allclose(edges, torch.from_numpy(squares).sqrt(), atol=2e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_eagan_punishes_wrong_edges_and_shows_them_to_the_critic(dims):
    problem = SimpleNamespace(train=SimpleNamespace(channels=1, classes=3, dims=dims))
    m, b = EaGAN.for_task(problem, edges=2.0, veil=0.0), batch(dims=dims, size=32, channels=2)
    torch.manual_seed(3)
    terms = m.loss(b)
    torch.manual_seed(3)
    source, target = b.unlabelled.images.chunk(2, 1)
    fake = m.make(source)
    by_hand = 2.0 * (sobel(fake) - sobel(target)).abs().mean()
    assert terms["edges"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert gradient(terms["edges"], m.net) > 0
    assert torch.equal(m.beside(source, target), torch.cat([source, target, sobel(target)], 1))
    m.edge_critic = False
    assert (m.beside(source, target)[:, 2] == 0).all()


@pytest.fixture
def pairs(monkeypatch):
    """Eight bodies of the brain phantom, four of them for training."""

    def few(name, scanner="A"):
        return load(name, subjects=8, scanner=scanner)

    for module in (shift, ea_gan):
        monkeypatch.setattr(module, "load", few)
    split = Task.split
    monkeypatch.setattr(Task, "split", lambda cohort: split(cohort, valid=2, test=2))
    return paired_scanners()


def test_eagan_learns_from_the_same_bodies_on_two_scanners(pairs, budget):
    both = stacked(pairs)
    assert both.train.channels == 2 and (both.train.labels == IGNORE).all()
    a, b = both.train.images.chunk(2, 1)
    likeness = nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    assert likeness.min() > 0.7 and not torch.equal(a, b)
    assert (pairs.train.extras["other"][pairs.train.extras["scanner"] == 0] == 0).all()
    fitted = edge_aware_augmentation(pairs, budget, **QUIET)
    assert {"edges", "fool", "reconstruction", "supervised"} <= set(fitted.history)


def test_eagan_needs_pairs(task, budget):
    with pytest.raises(ValueError, match="learns from pairs"):
        edge_aware_augmentation(task, budget, **QUIET)


# Cai


def test_cai_the_segmenter_learns_from_translated_images_with_their_masks(pairs):
    torch.manual_seed(0)
    model = CrossModal.for_task(pairs)
    nn.init.constant_(model.translators[0].tail.bias, 5.0)
    sampler = Repainted(source_bank(pairs), model)
    torch.manual_seed(1)
    made, labels = sampler.sample(2)
    torch.manual_seed(1)
    index = torch.randint(len(sampler.bank.images), (2,))
    images, masks = moved(sampler.bank.images[index], sampler.bank.labels[index])
    assert torch.equal(labels, masks) and torch.allclose(made, images + 5.0, atol=1e-5)
    mixed = WithSynthetic(nn.Identity(), sampler, fraction=1.0).mix(images, masks)
    assert mixed[0].mean() > 3


def test_cai_cycle_and_shape_train_the_translators_and_only_source_images_are_translated(pairs):
    model = CrossModal.for_task(pairs)
    nn.init.normal_(model.translators[0].tail.weight, std=0.1)
    b = batch(size=32)
    b = replace(
        b,
        labelled=replace(b.labelled, extras={"scanner": torch.zeros(2)}),
        unlabelled=replace(b.unlabelled, extras={"scanner": torch.ones(2)}),
    )
    terms = model.loss(b)
    for name in ("cycle", "shape", "fool"):
        assert gradient(terms[name], model.translators) > 0
    assert len(source_bank(pairs).images) == int((pairs.train.extras["scanner"] == 0).sum())


def test_cai_runs_and_needs_two_scanners(pairs, task, budget):
    fitted = cross_modal_augmentation(pairs, Budget("smoke", 2, 2), **QUIET)
    assert {"cycle", "shape", "supervised"} <= set(fitted.history)
    with pytest.raises(ValueError, match="two scanners"):
        cross_modal_augmentation(task, budget, **QUIET)


def test_atlas_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Atlas(torch.zeros(0, 1, 4, 4), torch.zeros(0, 4, 4, dtype=torch.long), 2)
