"""Generators out of noise and out of masks: the game, the condition, the nodule in its lung."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu.data import Cohort, Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.adversarial import Critic, one_hot
from lsseg_edu.semi.augmentation.conditional_gan import ConditionalGAN, cgan_augmentation
from lsseg_edu.semi.augmentation.costa import RetinaGAN, retina_augmentation
from lsseg_edu.semi.augmentation.gan import GAN, gan_augmentation
from lsseg_edu.semi.augmentation.nodules import NoduleGAN, NoduleSampler, nodule_augmentation
from lsseg_edu.semi.augmentation.noise import Decoder, WholeCritic
from lsseg_edu.semi.augmentation.patches import PATCH, grown, lung, windows
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}


def batch(size=32, dims=2):
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (4, *[size] * dims))
    index = torch.arange(4)
    images = torch.randn(4, 1, *[size] * dims)
    return Batch(Part(images, labels, index, index, {}), None, 1.0)


def gradient(loss, module):
    grads = torch.autograd.grad(
        loss, list(module.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(g is None or g.isfinite().all() for g in grads)
    return sum(float(g.abs().sum()) for g in grads if g is not None)


class Judge(nn.Module):
    """A critic that says ``verdict`` of everything and keeps what it saw."""

    def __init__(self, verdict=0.0):
        super().__init__()
        self.verdict, self.seen, self.none = verdict, [], nn.Parameter(torch.zeros(()))

    def forward(self, seen):
        self.seen.append(seen)
        return self.verdict + self.none * seen.mean()


# GAN


@pytest.mark.parametrize("size", [(32, 32), (16, 32, 16)])
def test_decoder_takes_noise_to_maps(size):
    assert Decoder(8, 3, size, width=2)(torch.randn(2, 8)).shape == (2, 3, *size)
    with pytest.raises(ValueError, match="need 16"):
        Decoder(8, 3, (24, 32))


def test_gan_losses_by_hand(task):
    m, b = GAN.for_task(task), batch()
    m.critic = Judge(-3.0)  # certain of a fake
    critic, generator = m.critic_loss(b), m.loss(b)
    certain = torch.tensor(3.0)
    assert generator["fool"].item() == pytest.approx(float(F.softplus(certain)), rel=1e-5)
    assert critic["fake"].item() == pytest.approx(float(F.softplus(-certain)), rel=1e-5)
    real = 0.9 * F.softplus(certain) + 0.1 * F.softplus(-certain)
    assert critic["real"].item() == pytest.approx(real.item(), rel=1e-5)


def test_gan_loss_does_not_saturate(task):
    """Where the critic is certain, fooling it has a gradient and the opposite of its loss none."""
    verdict = torch.tensor([-8.0], requires_grad=True)
    m = GAN.for_task(task)
    m.judge = lambda seen: verdict
    (fool,) = torch.autograd.grad(m.loss(batch())["fool"], verdict)
    (opposite,) = torch.autograd.grad(-F.softplus(verdict).sum(), verdict)
    assert fool.abs() > 0.9 and opposite.abs() < 1e-3


def test_gan_critic_and_generator_are_stepped_in_turn(task):
    m, b = GAN.for_task(task), batch()
    critic, generator = m.players()
    assert [critic.name, generator.name] == ["critic", "generator"]
    assert not set(critic.parameters) & set(generator.parameters)
    assert gradient(sum(m.critic_loss(b).values()), m.net) == 0
    assert gradient(m.loss(b)["fool"], m.net) > 0
    before = [p.detach().clone() for p in (*m.net.parameters(), *m.critic.parameters())]
    fit(m, task, Budget("smoke", 1, 4), **QUIET)
    after = [*m.net.parameters(), *m.critic.parameters()]
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(before) / 2


def test_gan_samples_come_to_look_like_the_masks(task):
    """All real masks are one mask: after a few steps samples resemble it more than before."""
    half = torch.zeros_like(task.train.labels)
    half[:, :, 16:] = 1
    half[0, 0, 0] = 2
    same = replace(task, train=replace(task.train, labels=half))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        m = GAN(Decoder(8, 3, (32, 32), width=4), WholeCritic(3, (32, 32), width=8), 3, latent=8)
    agree = [(m.sample(16)[1] == half[1]).float().mean()]
    fit(m, same, Budget("smoke", 80, 8), augment=lambda x, y, g: (x, y), **QUIET)
    agree.append((m.sample(16)[1] == half[1]).float().mean())
    assert agree[1] > 0.9 and agree[1] > agree[0] + 0.2


def test_gan_makes_masks_alone_or_pairs_and_segments_nothing(task, budget):
    images, labels = GAN.for_task(task, images=False).sample(2)
    assert images.shape == (2, 0, 32, 32) and labels.max() < 3
    with pytest.raises(NotImplementedError, match="makes training pairs"):
        GAN.for_task(task).predict(images)
    fitted = gan_augmentation(task, budget, **QUIET)
    assert len(fitted.history["supervised"]) == budget.steps
    assert fitted.predict(task.valid.images).shape[1] == 3


# Conditional GAN


def test_cgan_critic_sees_the_condition_beside_the_image(task):
    m, b = ConditionalGAN.for_task(task, veil=0.0), batch()
    m.critic = Judge()
    m.critic_loss(b)
    real, fake = m.critic.seen
    mask = one_hot(b.labelled.labels, 3)
    assert torch.equal(real, torch.cat([mask, b.labelled.images], 1))
    assert torch.equal(fake[:, :3], mask) and not torch.equal(fake[:, 3:], real[:, 3:])


def test_cgan_generator_must_fool_and_reconstruct(task):
    m, b = ConditionalGAN.for_task(task, reconstruction=3.0), batch()
    torch.manual_seed(2)
    terms = m.loss(b)
    torch.manual_seed(2)
    fake = m.paint(b.labelled.images, b.labelled.labels)
    by_hand = 3.0 * (fake - b.labelled.images).abs().mean()
    assert terms["reconstruction"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert gradient(terms["fool"], m.net) > 0


def test_cgan_noise_makes_every_image_another(task):
    m, b = ConditionalGAN.for_task(task), batch()
    a, c = (m.paint(b.labelled.images, b.labelled.labels) for _ in range(2))
    assert not torch.allclose(a, c)


def test_cgan_paints_what_the_mask_says(task):
    """The phantom's disc is bright and its square dark; a mask that is moved moves the paint."""
    m = ConditionalGAN.for_task(task)
    fit(m, task, Budget("smoke", 40, 8, rate=8e-3), augment=lambda x, y, g: (x, y), **QUIET)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, 4:14, 4:14], labels[1, 18:28, 18:28] = 1, 1
    labels[0, 18:28, 18:28], labels[1, 4:14, 4:14] = 2, 2
    with torch.no_grad():
        made = m.paint(None, labels)[:, 0]
    assert all(
        one[mask == 1].mean() > one[mask == 2].mean() + 0.5
        for one, mask in zip(made, labels, strict=True)
    )


def test_cgan_in_3d(volumes):
    task = Task.split(volumes, labelled=2, valid=1, test=1)
    net, critic = UNet(4, 1, 3, width=2), Critic(4, 3, width=4)
    m = ConditionalGAN(net, critic, 3)
    images = torch.zeros(1, 1, 32, 32, 32)
    assert m.paint(images, torch.zeros(1, 32, 32, 32, dtype=torch.long)).shape == images.shape
    assert task.train.dims == 3


def test_cgan_training_keeps_the_baselines_steps(task, budget):
    fitted = cgan_augmentation(task, budget, **QUIET)
    assert len(fitted.history["supervised"]) == budget.steps
    assert {"fool", "reconstruction"} <= set(fitted.history)


# Costa


def test_costa_codes_are_made_to_look_like_noise(task):
    m, b = RetinaGAN.for_task(task, latent=8), batch()
    m.critic["code"] = Judge()
    m.critic_loss(b)
    noise, code = m.critic["code"].seen
    assert torch.allclose(code, m.encoder(one_hot(b.labelled.labels, 3)), atol=1e-5)
    assert noise.shape == code.shape and not torch.equal(noise, code)
    m = RetinaGAN.for_task(task, latent=8)
    assert gradient(m.loss(b)["code"], m.encoder) > 0
    assert gradient(m.loss(b)["code"], m.decoder) == 0


def test_costa_is_trained_end_to_end(task):
    m, b = RetinaGAN.for_task(task, latent=8), batch()
    terms = m.loss(b)
    assert gradient(terms["tree"], m.net) == 0
    for name in ("fool", "reconstruction"):
        assert gradient(terms[name], m.encoder) > 0 and gradient(terms[name], m.net) > 0


def test_costa_critic_sees_the_same_tree_beside_true_and_painted_image(task):
    m, b = RetinaGAN.for_task(task, latent=8, veil=0.0), batch()
    m.critic["image"] = Judge()
    m.critic_loss(b)
    real, fake = m.critic["image"].seen
    assert torch.equal(real[:, :3], fake[:, :3])
    assert torch.equal(real[:, 3:], b.labelled.images)


def test_costa_samples_trees_from_noise_and_paints_them(task, budget):
    m = RetinaGAN.for_task(task, latent=8)
    torch.manual_seed(0)
    images, labels = m.sample(3)
    torch.manual_seed(0)
    trees = m.decoder(torch.randn(3, 8)).softmax(1)
    assert torch.equal(labels, trees.argmax(1))
    assert torch.allclose(images, m.paint(trees), atol=1e-5)
    fitted = retina_augmentation(task, budget, **QUIET)
    assert {"tree", "code", "fool", "reconstruction", "supervised"} <= set(fitted.history)


# Qin


def chests(n=8, size=48):
    """A bright frame round a dark lung, with a small bright nodule in it; air outside."""
    torch.manual_seed(0)
    images = torch.full((n, 1, size, size), -3.0)
    images[:, :, 4:-4, 4:-4], images[:, :, 12:-12, 12:-12] = 2.0, -1.0
    labels = torch.zeros(n, size, size, dtype=torch.long)
    for i in range(n - 1):
        labels[i, 16 + i : 20 + i, 22:27] = 1
    images = images + 2.0 * labels.unsqueeze(1) + 0.05 * torch.randn_like(images)
    cohort = Cohort.from_arrays(images.numpy(), labels.numpy(), names=["none", "nodule"])
    return Task.split(cohort, labelled=4, valid=2, test=2)


def test_windows_are_whole_and_around_the_pixel():
    maps = torch.arange(3 * 2 * 40 * 50).reshape(3, 2, 40, 50)
    centre = torch.tensor([0, 20 * 50 + 25, 40 * 50 - 1])
    found = maps[windows(maps, centre)]
    starts = ((0, 0), (20 - PATCH // 2, 25 - PATCH // 2), (40 - PATCH, 50 - PATCH))
    for one, whole, (row, column) in zip(found, maps, starts, strict=True):
        assert torch.equal(one, whole[:, row : row + PATCH, column : column + PATCH])


def test_qin_nodule_fills_its_hole_and_nothing_else(task):
    chest = chests()
    gan = NoduleGAN.for_task(chest)
    images, labels = chest.train.images[:2], chest.train.labels[:2].clone()
    labels[:] = 0
    nodule = torch.zeros(2, PATCH, PATCH, dtype=torch.bool)
    nodule[:, 12:18, 12:18] = True
    with torch.no_grad():
        made, masks = gan.insert(images, labels, nodule, torch.tensor([24 * 48 + 24] * 2))
    changed, expected = (made != images)[:, 0], torch.zeros(2, 48, 48, dtype=torch.bool)
    expected[:, 8:40, 8:40] = grown(nodule[:, None].float())[:, 0] > 0
    assert torch.equal(changed, expected)
    expected[:, 8:40, 8:40] = nodule
    assert torch.equal(masks == 1, expected)
    assert torch.equal(labels, torch.zeros_like(labels))


def test_qin_generator_is_told_mask_and_surroundings_but_not_the_nodule():
    gan = NoduleGAN.for_task(chests())
    patches, nodule = torch.randn(2, 1, PATCH, PATCH), torch.zeros(2, 1, PATCH, PATCH)
    nodule[:, :, 10:14, 10:14] = 1
    condition, filled = gan.fill(patches, nodule)
    assert torch.equal(condition[:, :1], nodule)
    assert (condition[:, 1:] * grown(nodule) == 0).all()
    outside = grown(nodule) == 0
    assert torch.equal(filled[outside], patches[outside])


def test_qin_losses_see_patches_around_nodules():
    chest = chests()
    gan = NoduleGAN.for_task(chest, veil=0.0, reconstruction=4.0)
    held = (chest.train.labels == 1).flatten(1).any(1).nonzero()[:2, 0]
    part = Part(chest.train.images[held], chest.train.labels[held], held, held, {})
    patches, nodule = gan.patches(part)
    assert patches.shape == (2, 1, PATCH, PATCH) and (nodule.sum((1, 2, 3)) == 20).all()
    b = Batch(part, None, 1.0)
    terms = gan.loss(b)
    assert all(gradient(term, gan.net) > 0 for term in terms.values())
    gan.critic = Judge()
    gan.critic_loss(b)
    real, fake = gan.critic.seen
    assert torch.equal(real[:, :2], fake[:, :2]) or real.shape == fake.shape == (2, 3, PATCH, PATCH)


def test_qin_new_nodules_lie_in_the_lung():
    chest = chests()
    room = lung(chest.train.images)
    inner = torch.zeros(48, 48, dtype=torch.bool)
    inner[10:-10, 10:-10] = True
    assert room.any() and not (room & ~inner).any()
    sampler = NoduleSampler(NoduleGAN.for_task(chest), Atlas.of(chest))
    torch.manual_seed(0)
    images, labels = sampler.sample(16)
    before = torch.stack([sampler.bank.labels.flatten(1).sum(1)]).float().mean()
    assert (labels == 1).flatten(1).sum(1).float().mean() > before
    assert images.shape == (16, 1, 48, 48) and not (labels == 1)[:, :6].any()


def test_qin_trains_and_refuses_volumes(volumes, budget):
    fitted = nodule_augmentation(chests(), budget, **QUIET)
    assert {"fool", "reconstruction", "supervised"} <= set(fitted.history)
    with pytest.raises(ValueError, match="drawn into slices"):
        nodule_augmentation(Task.split(volumes, 2, valid=1, test=1), budget, **QUIET)
