"""Self-supervision: the pretexts ask what they say, and what they teach is handed over."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.self_supervision import (
    CPC,
    Colorization,
    Exemplar,
    Grid,
    Inpainting,
    Jigsaw,
    MultimodalPuzzle,
    Pretext,
    RelativePosition,
    Rotation,
    SelfLoop,
    finetune_colorization,
    finetune_cpc,
    finetune_exemplar,
    finetune_from,
    finetune_inpainting,
    finetune_jigsaw,
    finetune_multimodal_puzzle,
    finetune_relative_position,
    finetune_rotation,
    holes,
    info_nce,
    permutation_set,
    pretrain,
    pretrain_finetune,
    remap,
    rotations,
    sinkhorn,
    standardised,
    surrogate_supervision,
    take,
    transfer,
    triplet,
)
from lsseg_edu.semi.self_supervision.finetune import PARTS
from lsseg_edu.train import Batch, Budget, Method, Part, Supervised, fit

SIZE = (32, 32)
ONE = Budget("smoke", steps=1, batch=2)


def net(channels=1):
    return unet(Shape(channels, 3, 2), width=4)


def batch(channels=1, progress=1.0, n=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, channels, *SIZE, generator=generator)
    labels = torch.randint(0, 3, (n, *SIZE), generator=generator)
    index = torch.arange(n)
    nobody = torch.full_like(labels, IGNORE)
    part = Part(images, nobody, index, index, {})
    return Batch(Part(images, labels, index, index, {}), part, progress)


def grid_image(size=SIZE):
    """One channel for each coordinate: a tile then says where it was cut."""
    axes = torch.meshgrid(*[torch.arange(float(n)) for n in size], indexing="ij")
    return torch.stack(axes)[None]


def weights_of(network, names):
    modules = [getattr(network, name) for name in names]
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


ALL = [
    lambda: RelativePosition(net(), SIZE),
    lambda: Jigsaw(net(), SIZE),
    lambda: Rotation(net()),
    lambda: Inpainting(net()),
    lambda: Colorization(net()),
    lambda: CPC(net(), SIZE),
    lambda: Exemplar(net()),
    lambda: MultimodalPuzzle(net(), SIZE),
]
NAMES = ["position", "jigsaw", "rotation", "inpainting", "colour", "cpc", "exemplar", "puzzle"]


@pytest.mark.parametrize(("make", "name"), list(zip(ALL, NAMES, strict=True)), ids=NAMES)
def test_every_pretext_teaches_the_encoder_and_no_more_than_it_says(make, name):
    torch.manual_seed(0)
    pretext = make()
    loss = pretext.loss(batch())[name]
    assert loss.ndim == 0 and loss > 0
    loss.backward()
    first, decoder = pretext.net.conv_0, pretext.net.upcat_1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    assert any(p.grad.abs().sum() > 0 for p in first.parameters())
    assert pretext.decodes == any(p.grad is not None for p in decoder.parameters())
    assert all(p.grad is None for p in pretext.net.final_conv.parameters())


@pytest.mark.parametrize(("make", "name"), list(zip(ALL, NAMES, strict=True)), ids=NAMES)
def test_every_pretext_can_be_learnt(make, name):
    """Thirty steps on one small batch lower the loss of fresh questions about it."""
    torch.manual_seed(0)
    pretext, b = make(), batch()
    b.unlabelled.images.copy_(F.avg_pool2d(b.unlabelled.images, 5, 1, 2) * 4)
    optimiser = torch.optim.AdamW(pretext.parameters(), lr=4e-3)
    seen = []
    for _ in range(30):
        loss = pretext.loss(b)[name]
        seen.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(seen[-5:]) < sum(seen[:5])


# Tiles


@pytest.mark.parametrize(("size", "count"), [((64, 64), 3), ((32, 32), 4), ((128, 96), 3)])
def test_tiles_stay_in_their_cells_and_leave_a_gap(size, count):
    grid = Grid(size, count)
    images = grid_image(size).expand(200, -1, -1, -1)
    tiles = grid.cut(images)
    assert tiles.shape == (200, count**2, 2, *grid.tile)
    for axis in range(2):
        coordinate = tiles[:, :, axis].unflatten(1, (count, count)).transpose(1, 1 + axis)
        first, last = coordinate.amin((2, 3, 4)), coordinate.amax((2, 3, 4))
        inside = torch.arange(count) * grid.cell[axis]
        assert (first >= inside).all() and (last < inside + grid.cell[axis]).all()
        empty = first[:, 1:] - last[:, :-1] - 1
        assert empty.min() >= grid.gap[axis] >= 1
        starts = tiles[:, :, axis].flatten(2).amin(2) % grid.cell[axis]
        assert set(starts.unique().tolist()) == set(range(grid.slack[axis] + 1))  # jitter


def test_jitter_is_each_tiles_own():
    grid = Grid((64, 64), 3)
    starts = grid.cut(grid_image((64, 64)).expand(50, -1, -1, -1))[:, :, 0].flatten(2).amin(2) % 21
    assert (starts != starts[:, :1]).any()


def test_tiles_are_cut_out_whole_and_as_asked():
    torch.manual_seed(0)
    image, grid = torch.randn(2, 1, 64, 64), Grid((64, 64), 3)
    cells = torch.tensor([[2, 0], [1, 1]])
    where = torch.cat([grid_image((64, 64)).expand(2, -1, -1, -1), image], 1)
    for picture, tiles in zip(image, grid.cut(where, cells), strict=True):
        for cell, tile in zip(cells.tolist(), tiles, strict=True):
            y, x = (int(tile[axis].min()) for axis in range(2))
            assert (y // 21, x // 21) == tuple(cell)
            assert torch.equal(tile[2:], picture[:, y : y + 16, x : x + 16])


def test_brightness_and_contrast_of_a_tile_do_not_give_it_away():
    tiles = torch.randn(2, 4, 1, 8, 8)
    shaded = standardised(3 * tiles + torch.randn(2, 4, 1, 1, 1))
    assert torch.allclose(standardised(tiles), shaded, atol=0.3)
    assert standardised(torch.ones(1, 1, 1, 8, 8)).abs().max() == 0


def test_images_too_small_for_tiles_are_refused():
    with pytest.raises(ValueError, match="too small for 6 tiles"):
        Grid((32, 32), 6)


def test_tiles_go_as_deep_as_two_pixels():
    for size, depth in [(32, 2), (64, 3), (128, 4)]:
        pretext = Jigsaw(net(), (size, size))
        tiles = pretext.cut(torch.randn(1, 1, size, size))
        pretext.embed(tiles).sum().backward()
        downs = [getattr(pretext.net, f"down_{level}") for level in (1, 2, 3, 4)]
        used = [next(down.parameters()).grad is not None for down in downs]
        assert used == [level <= depth for level in (1, 2, 3, 4)] and pretext.depth == depth
        assert tiles.shape[-1] // 2**depth in (2, 3)


# Relative position


def test_eight_directions_are_those_of_the_neighbours():
    pretext = RelativePosition(net(2), (64, 64), count=5)
    seen = []
    pretext.embed = lambda tiles: seen.append(tiles) or torch.zeros(2, 9, pretext.features)
    pretext.cut = pretext.grid.cut
    logits = pretext.directions(grid_image((64, 64)).expand(2, -1, -1, -1))
    assert logits.shape == (2, 8, 8)
    cells = seen[0].flatten(3).amin(3) // 12
    steps = cells[:, 1:] - cells[:, :1]
    assert torch.equal(steps[0], steps[1])
    expected = [[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    assert steps[0].tolist() == expected
    assert set(cells[:, 0].flatten().tolist()) <= {1, 2, 3}


def test_direction_answers_are_the_order_of_the_neighbours():
    pretext = RelativePosition(net(), SIZE)
    pretext.directions = lambda images: 50 * torch.eye(8).expand(len(images), 8, 8)
    assert pretext.loss(batch())["position"] < 1e-6
    pretext.directions = lambda images: 50 * torch.eye(8).roll(1, 0).expand(len(images), 8, 8)
    assert pretext.loss(batch())["position"] > 10


def test_a_direction_needs_both_tiles():
    pretext = RelativePosition(net(), SIZE)
    torch.manual_seed(0)
    features = torch.randn(1, 9, pretext.features)
    pretext.embed = lambda tiles: features
    before = pretext.directions(torch.zeros(1, 1, *SIZE))
    features = torch.cat([features[:, :1] + 1, features[:, 1:]], 1)
    assert not torch.allclose(before, pretext.directions(torch.zeros(1, 1, *SIZE)))


def test_centre_needs_all_its_neighbours():
    with pytest.raises(ValueError, match="use 3 or more"):
        RelativePosition(net(), SIZE, count=2)


# Jigsaw


def distances(permutations):
    d = (permutations[:, None] != permutations).sum(2)
    return d[~torch.eye(len(d), dtype=torch.bool)]


def test_permutations_are_further_apart_than_random_ones():
    chosen = permutation_set(24, 9)
    assert torch.equal(chosen.sort(1).values, torch.arange(9).expand(24, 9))
    random = [torch.rand(24, 9, generator=torch.Generator().manual_seed(s)) for s in range(50)]
    best = max(int(distances(r.argsort(1)).min()) for r in random)
    assert distances(chosen).min() > best
    assert torch.equal(chosen, permutation_set(24, 9))


def test_more_permutations_than_there_are_is_refused():
    assert len(permutation_set(6, 3)) == 6
    with pytest.raises(ValueError, match="no 7 permutations of 3 pieces"):
        permutation_set(7, 3)


def test_shuffling_features_is_shuffling_tiles():
    torch.manual_seed(0)
    pretext = Jigsaw(net(), SIZE)
    tiles, order = pretext.cut(batch().unlabelled.images), pretext.permutations[:3]
    features = take(pretext.tile(pretext.embed(tiles)), order)
    whole = pretext.solve(take(tiles, order))
    assert torch.allclose(pretext.head(features.flatten(1)), whole, atol=1e-4)


def test_jigsaw_loss_is_that_of_every_image_in_every_order():
    torch.manual_seed(0)
    pretext, b = Jigsaw(net(), SIZE, number=5), batch()
    with torch.no_grad():
        pretext.head.weight.mul_(20)  # a head that minds the order
    torch.manual_seed(3)
    loss = pretext.loss(b)["jigsaw"]
    torch.manual_seed(3)
    tiles = pretext.cut(b.unlabelled.images)
    terms = [
        F.cross_entropy(pretext.solve(tiles[:, order]), torch.full((3,), which))
        for which, order in enumerate(pretext.permutations)
    ]
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-3)
    unmoved = [F.cross_entropy(pretext.solve(tiles), torch.full((3,), which)) for which in range(5)]
    assert loss.item() != pytest.approx(torch.stack(unmoved).mean().item(), rel=1e-2)


# Rotation


def test_four_turns_are_all_different_and_turn_back():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    turned = rotations(image)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 4
    assert all(torch.equal(t.rot90(-k, (-2, -1)), image) for k, t in enumerate(turned))


def test_the_middle_square_is_turned():
    images = torch.arange(24.0).view(1, 1, 6, 4)
    assert torch.equal(rotations(images)[0], images[:, :, 1:5])


def test_every_image_is_seen_in_every_turn_with_its_answer():
    pretext, seen = Rotation(net()), []
    logits = 50 * torch.eye(4).repeat_interleave(3, 0)  # turn 0 of all images, turn 1 of all, ...
    pretext.embed = lambda images: seen.append(images) or logits
    pretext.head = torch.nn.Identity()
    b = batch()
    assert pretext.loss(b)["rotation"] < 1e-6
    expected = torch.cat([b.unlabelled.images.rot90(k, (-2, -1)) for k in range(4)])
    assert torch.equal(seen[0], expected)


# Inpainting and colourisation


def test_holes_have_the_size_that_was_asked_for():
    torch.manual_seed(0)
    mask = holes(torch.zeros(400, 2, 32, 32), number=1)
    assert mask.shape == (400, 1, 32, 32) and (mask.sum((1, 2, 3)) == 64).all()
    seen = mask.any(0)[0]
    assert seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any()
    assert holes(torch.zeros(20, 1, 32, 32), number=4).sum((1, 2, 3)).float().mean() > 128


def test_inpainting_sees_no_hole_and_is_judged_in_the_holes_only(monkeypatch):
    torch.manual_seed(0)
    pretext, b = Inpainting(net(2)), batch(channels=2)
    images, mask = b.unlabelled.images, holes(b.unlabelled.images)
    changed = images + 5 * mask
    assert torch.equal(pretext.restore(images, mask), pretext.restore(changed, mask))
    module = "lsseg_edu.semi.self_supervision.inpainting.holes"
    monkeypatch.setattr(module, lambda *_: mask)
    answer = torch.randn_like(images)
    pretext.restore = lambda *_: answer
    error = (answer - images).square()
    by_hand = error[mask.expand_as(error)].mean().item()
    assert pretext.loss(b)["inpainting"].item() == pytest.approx(by_hand, rel=1e-5)


def test_colour_is_not_in_the_question():
    question, answer = Colorization(net(3)).pose(batch(channels=3).unlabelled.images)
    assert torch.equal(question, question[:, :1].expand(-1, 3, -1, -1))
    assert torch.allclose(question + answer, batch(channels=3).unlabelled.images, atol=1e-6)
    assert answer.mean(1).abs().max() < 1e-6  # what is left has no luminance


def test_grey_images_lose_their_contrast_instead():
    torch.manual_seed(0)
    images = batch().unlabelled.images
    question, answer = Colorization(net()).pose(images)
    assert torch.equal(answer, images)
    values, order = images.flatten(1).sort(1)
    curve = question.flatten(1).gather(1, order).diff(dim=1)
    assert (curve > 1e-4).any() and (curve < -1e-4).any()  # not monotone: grey values are lost
    assert not torch.allclose(question, remap(images))  # another curve every time


def test_a_remapped_image_is_a_function_of_its_grey_value():
    image = torch.tensor([0.0, 1.0, 2.0, 1.0, 4.0, 2.0]).view(1, 1, 2, 3)
    new = remap(image).flatten()
    assert new[1] == new[3] and new[2] == new[5]
    assert abs(float(new.mean())) < 1e-5


# CPC and exemplars


def test_info_nce_is_the_sum_written_out():
    torch.manual_seed(0)
    q, k = torch.randn(5, 7), torch.randn(5, 7)
    by_hand = 0.0
    for n in range(5):
        score = [F.cosine_similarity(q[n], k[m], dim=0) / 0.1 for m in range(5)]
        by_hand -= (score[n].exp() / sum(s.exp() for s in score)).log() / 5
    assert info_nce(q, k).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert info_nce(k, k) < info_nce(q, k)


def test_context_is_of_the_rows_above_only():
    torch.manual_seed(0)
    pretext = CPC(net(), SIZE)
    rows = torch.randn(2, 4, 4, pretext.features)
    before = pretext.summarise(rows)
    assert before.shape == (2, 4, 4, 64)
    later = rows.clone()
    later[:, 2] += 1
    after = pretext.summarise(later)
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert not torch.allclose(before[:, 2], after[:, 2])
    other = rows.clone()
    other[:, 0, 3] += 1  # another column of the first row is part of every column's context
    assert not torch.allclose(before[:, 0, 0], pretext.summarise(other)[:, 0, 0])


def test_cpc_asks_for_the_tile_k_rows_below_in_the_same_column(monkeypatch):
    torch.manual_seed(0)
    pretext, asked = CPC(net(), SIZE, ahead=2), []
    rows = torch.arange(32.0).view(2, 4, 4, 1)
    pretext.rows = lambda images: rows
    pretext.summarise = lambda rows: rows
    pretext.ahead = torch.nn.ModuleList([torch.nn.Identity()] * 2)
    module = "lsseg_edu.semi.self_supervision.cpc.info_nce"
    monkeypatch.setattr(module, lambda q, k: asked.append((k - q).flatten()) or q.mean())
    pretext.loss(batch())
    assert [len(a) for a in asked] == [24, 16]  # 2 images, 4 columns, 3 or 2 rows
    assert (asked[0] == 4).all() and (asked[1] == 8).all()  # 4 tiles a row


def test_triplet_is_the_mean_over_all_pairs():
    torch.manual_seed(0)
    a, p = torch.randn(4, 6), torch.randn(4, 6)
    pairs = [(n, m) for n in range(4) for m in range(4) if n != m]
    n, m = torch.tensor(pairs).T
    reference = F.triplet_margin_loss(a[n], p[n], p[m], margin=1.0, eps=0)
    assert triplet(a, p).item() == pytest.approx(reference.item(), rel=1e-4)
    far = 100 * torch.eye(4)
    assert triplet(far, far) == 0


def test_exemplar_views_are_two_augmentations_of_the_same_images():
    torch.manual_seed(0)
    pretext, seen = Exemplar(net()), []
    pretext.embed = lambda images: seen.append(images) or images.flatten(1)[:, :64]
    pretext.head = torch.nn.Identity()
    b = batch()
    original = F.avg_pool2d(b.unlabelled.images, 9, 1, 4) * 9
    b.unlabelled.images.copy_(original)
    pretext.loss(b)
    first, second = seen
    assert not torch.allclose(first, second) and not torch.allclose(first, original)
    for n in range(3):
        likeness = [float(F.cosine_similarity(first[n].flatten(), second[m].flatten(), 0))
                    for m in range(3)]  # fmt: skip
        assert max(likeness) == likeness[n]


def test_exemplar_needs_a_negative():
    with pytest.raises(ValueError, match="at least two images"):
        Exemplar(net()).loss(batch(n=1))


# Multimodal puzzles


def test_sinkhorn_gives_a_doubly_stochastic_matrix():
    torch.manual_seed(0)
    scores = 3 * torch.randn(5, 9, 9)
    soft = sinkhorn(scores, 100)
    assert torch.allclose(soft.sum(1), torch.ones(5, 9), atol=1e-3)
    assert torch.allclose(soft.sum(2), torch.ones(5, 9), atol=1e-3)
    once = scores.exp() / scores.exp().sum(2, keepdim=True)
    assert torch.allclose(sinkhorn(scores, 1), once / once.sum(1, keepdim=True), atol=1e-5)


def test_sharp_sinkhorn_is_the_best_permutation():
    from scipy.optimize import linear_sum_assignment

    torch.manual_seed(0)
    scores = torch.randn(6, 6)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    assert torch.equal(sinkhorn(scores / 0.01, 500).argmax(1), torch.tensor(columns))


def test_the_right_permutation_restores_the_image_and_a_wrong_one_does_not(monkeypatch):
    torch.manual_seed(0)
    pretext, b, orders = MultimodalPuzzle(net(), SIZE), batch(), []

    def watched(tiles, order):
        orders.append(order)
        return take(tiles, order)

    monkeypatch.setattr("lsseg_edu.semi.self_supervision.multimodal_puzzle.take", watched)
    pretext.assignment = lambda tiles: F.one_hot(orders[-1], 9).float()
    assert pretext.loss(b)["puzzle"] < 1e-8
    pretext.assignment = lambda tiles: F.one_hot(orders[-1].roll(1, 1), 9).float()
    assert pretext.loss(b)["puzzle"] > 0.5
    assert not torch.equal(orders[0][0], orders[0][1])  # each image has an order of its own


def test_tiles_come_from_several_modalities():
    torch.manual_seed(0)
    pretext = MultimodalPuzzle(net(3), SIZE)
    tone = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) * grid_image()[:, :1] ** 2
    tiles = pretext.mixed((tone + torch.arange(3).view(1, 3, 1, 1)).expand(20, -1, -1, -1))
    assert tiles.shape == (20, 9, 3, 8, 8)
    assert torch.equal(tiles[:, :, 0], tiles[:, :, 1])  # one modality a tile, in all channels
    levels = tiles.std((2, 3, 4)).round(decimals=3)[:, 4]
    assert len(levels.unique()) > 1
    grey = MultimodalPuzzle(net(), SIZE)
    image = batch(n=1).unlabelled.images.expand(40, -1, -1, -1)
    grey.grid = Grid((24, 24), 3)
    raw = {round(float(t.std()), 2) for t in grey.mixed(image)[:, 0]}
    assert len(raw) > 2


# Self-loop


def test_pseudo_label_is_the_mean_over_the_iterations():
    torch.manual_seed(0)
    method, b = SelfLoop(net(), SIZE, loops=3), batch()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    images = b.unlabelled.images
    first, seen = method.net(images).softmax(1), []
    twin = Jigsaw(net(), SIZE)
    twin.load_state_dict(method.puzzle.state_dict())
    torch.manual_seed(5)
    mean = method.pseudo_label(b)
    torch.manual_seed(5)
    optimiser = torch.optim.SGD(twin.parameters(), lr=method.rate)
    for _ in range(3):
        optimiser.zero_grad()
        twin.loss(b)["jigsaw"].backward()
        optimiser.step()
        seen.append(twin.net(images).softmax(1).detach())
    assert torch.allclose(mean, torch.stack(seen).mean(0), atol=1e-5)
    assert not torch.allclose(seen[0], seen[2]) and not torch.allclose(mean, first)
    assert torch.allclose(mean.sum(1), torch.ones(3, *SIZE), atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert not mean.requires_grad


def test_self_loop_terms_move_what_they_should():
    torch.manual_seed(0)
    method = SelfLoop(net(), SIZE)
    terms = method.loss(batch())
    assert set(terms) == {"supervised", "jigsaw", "pseudo"}
    shared, head = method.net.conv_0.conv_0.conv.weight, method.puzzle.head.weight
    for name in terms:
        gradients = torch.autograd.grad(terms[name], [shared, head], retain_graph=True,
                                        allow_unused=True)  # fmt: skip
        assert gradients[0].abs().sum() > 0 and gradients[0].isfinite().all()
        assert (gradients[1] is not None) == (name == "jigsaw")
    early = method.loss(batch(progress=0.0))["pseudo"]
    assert early < 0.1 * terms["pseudo"]  # ramped up


def test_self_loop_trains(task):
    fitted = fit(SelfLoop.for_task(task, 0), task, ONE, progress=False)
    probs = fitted.predict(task.valid.images[:2])
    assert torch.allclose(probs.sum(1), torch.ones_like(probs[:, 0]), atol=1e-5)


# Pre-train, then fine-tune


class Idle(Pretext):
    """Asks nothing of the network."""

    def __init__(self, net):
        super().__init__(net)
        self.head = torch.nn.Parameter(torch.ones(()))

    def loss(self, batch):
        return {"idle": self.head.square()}


class Moved(Idle):
    """The same, but its network is another one from the start."""

    decodes = True

    def __init__(self, net):
        super().__init__(net)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(1.0)


def test_from_an_idle_pretext_fine_tuning_is_the_scratch_control(task, budget):
    """Same schedule, same batches, same first weights: bit by bit the baseline."""
    tuned = pretrain_finetune(task, budget, 3, pretext=Idle, progress=False)
    control = finetune_from(None, task, budget, 3, progress=False)
    baseline = fit(Supervised.for_task(task, 3), task, budget, 3, progress=False)
    for other in (control, baseline):
        pairs = zip(tuned.method.parameters(), other.method.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert set(tuned.history) == {"idle", "supervised"}
    assert len(tuned.history["supervised"]) == budget.steps


@pytest.mark.parametrize("part", ["encoder", "all"])
def test_what_is_transferred_is_that_part_and_no_more(part):
    source, target, fresh = (unet(Shape(1, 3, 2), width=4, seed=s) for s in (1, 2, 2))
    transfer(source, target, part)
    rest = [name for name, _ in target.named_children() if name not in PARTS[part]]
    assert torch.equal(weights_of(target, PARTS[part]), weights_of(source, PARTS[part]))
    assert torch.equal(weights_of(target, rest), weights_of(fresh, rest))
    assert rest == ["final_conv"] if part == "all" else "final_conv" in rest


def test_fine_tuning_starts_where_the_pretext_ended(task):
    frozen = replace(ONE, rate=0.0)
    moved = Moved.for_task(task, 0)
    start = weights_of(moved.net, PARTS["all"])
    tuned = finetune_from(moved, task, frozen, progress=False)
    assert torch.equal(weights_of(tuned.method.net, PARTS["all"]), start)
    half = finetune_from(moved, task, frozen, part="encoder", progress=False)
    assert torch.equal(
        weights_of(half.method.net, PARTS["encoder"]), weights_of(moved.net, PARTS["encoder"])
    )
    assert not torch.equal(weights_of(half.method.net, PARTS["all"]), start)


def test_a_pretext_sees_all_images_and_no_label(task, budget):
    seen = []

    class Curious(Idle):
        def loss(self, batch):
            assert batch.labelled is None and batch.unlabelled.extras == {}
            assert (batch.unlabelled.labels == IGNORE).all()
            seen.extend(batch.unlabelled.index.tolist())
            return super().loss(batch)

    pretrain(Curious, task, replace(budget, batch=16), progress=False)
    assert set(seen) == set(range(len(task.train)))


def test_the_head_is_drawn_by_the_seed(task):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second, other = (Jigsaw.for_task(task, s).head.weight for s in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_parts_are_refused(task):
    with pytest.raises(ValueError, match="no part 'head'"):
        transfer(net(), net(), "head")
    with pytest.raises(ValueError, match="Idle trains no decoder"):
        finetune_from(Idle.for_task(task), task, ONE, part="all", progress=False)


PROCEDURES = [
    finetune_relative_position,
    finetune_jigsaw,
    finetune_rotation,
    finetune_inpainting,
    finetune_colorization,
    finetune_cpc,
    finetune_exemplar,
    finetune_multimodal_puzzle,
    pretrain_finetune,
]


@pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda p: p.__name__)
def test_procedures_run_as_the_scoreboard_calls_them(procedure, task):
    fitted = procedure(task, budget=ONE, seed=0, progress=False)
    assert isinstance(fitted.method, Supervised) and isinstance(fitted.method, Method)
    assert fitted.predict(task.valid.images[:2]).shape == (2, 3, *SIZE)


@pytest.mark.parametrize("size", [(35, 49), (48, 33)])
def test_images_of_any_size(size):
    labels = torch.arange(size[1]).expand(8, *size) // 17
    odd = Cohort.from_arrays(torch.randn(8, 1, *size), labels, torch.arange(8))
    few = Task.split(odd, labelled=2, valid=1, test=1)
    for make in (RelativePosition, Jigsaw, Colorization, Rotation, Inpainting, CPC, Exemplar):
        assert pretrain(make, few, ONE, progress=False).history
    assert fit(SelfLoop.for_task(few), few, ONE, progress=False).history["pseudo"]


def test_a_loop_needs_unlabelled_images(cohort):
    everyone = Task.split(cohort, valid=2, test=2)
    with pytest.raises(ValueError, match="no unlabelled training image"):
        fit(SelfLoop.for_task(everyone), everyone, ONE, progress=False)


def test_surrogate_study_compares_three_starts_with_scratch(cohort, monkeypatch):
    begun, whole = [], Task.split(cohort, valid=2, test=2)

    def spy(start, few, *args, **kwargs):
        begun.append((type(start), len(few.train.labels) - len(few.unlabelled)))
        return finetune_from(start, few, *args, **kwargs)

    monkeypatch.setattr(f"{surrogate_supervision.__module__}.finetune_from", spy)
    rows = surrogate_supervision(whole, ONE, labelled=(1, 3), progress=False)
    starts = ("scratch", "rotation", "reconstruction", "colorization")
    assert [(r["labelled"], r["start"]) for r in rows] == [(n, s) for n in (1, 3) for s in starts]
    assert all(0 <= r["dice"] <= 1 for r in rows)
    pretexts = (type(None), Rotation, Inpainting, Colorization)
    assert begun == [(p, slices) for slices in (2, 6) for p in pretexts]
