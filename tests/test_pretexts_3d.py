"""The five pretexts of Taleb et al., and the others, on volumes."""

import pytest
import torch

from lsseg_edu.data import Cohort, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.self_supervision import (
    CPC,
    Colorization,
    Exemplar,
    Grid,
    Inpainting,
    Jigsaw,
    MultimodalPuzzle,
    RelativePosition,
    Rotation,
    holes,
    permutation_set,
    pretexts_3d,
    rotations,
)
from lsseg_edu.semi.self_supervision.surrogate import FIVE
from lsseg_edu.train import Batch, Budget, Part

SIZE = (32, 32, 32)


def net():
    return unet(Shape(1, 3, 3), width=2)


def batch(n=2):
    images = torch.randn(n, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    index = torch.arange(n)
    return Batch(None, Part(images, torch.zeros(n, *SIZE).long(), index, index, {}), 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CPC(net(), SIZE),
        lambda: RelativePosition(net(), SIZE),
        lambda: Jigsaw(net(), SIZE),
        lambda: Rotation(net()),
        lambda: Exemplar(net()),
        lambda: Inpainting(net()),
        lambda: Colorization(net()),
        lambda: MultimodalPuzzle(net(), SIZE),
    ],
)
def test_every_pretext_trains_on_volumes(make):
    torch.manual_seed(0)
    pretext = make()
    (loss,) = pretext.loss(batch()).values()
    loss.backward()
    gradients = [p.grad for p in pretext.net.conv_0.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)


def test_ten_rotations_are_distinct():
    volume = torch.arange(27.0).view(1, 1, 3, 3, 3)
    turned = rotations(volume)
    assert turned.shape == (10, 1, 1, 3, 3, 3)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 10
    assert all(torch.equal(t.flatten().sort().values, volume.flatten()) for t in turned)
    corners = [t[0, 0, ::2, ::2, ::2].flatten().sort().values for t in turned]
    assert all(torch.equal(c, corners[0]) for c in corners)  # turns, not shuffles


def test_turns_of_a_volume_are_balanced():
    pretext = Rotation(net())
    seen = []
    pretext.embed = lambda images: seen.append(len(images)) or torch.zeros(len(images), 1)
    pretext.head = torch.nn.Linear(1, 10)
    pretext.loss(batch())
    assert seen == [20]


def test_twenty_six_directions_are_distinct():
    steps = RelativePosition(net(), SIZE).steps
    assert steps[0].tolist() == [0, 0, 0]
    assert len({tuple(s) for s in steps[1:].tolist()}) == 26
    logits = RelativePosition(net(), SIZE).directions(batch().unlabelled.images)
    assert logits.shape == (2, 26, 26)


def test_27_tiles_are_cut_apart():
    grid = Grid(SIZE, 3)
    axes = torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")
    tiles = grid.cut(torch.stack(axes)[None].expand(20, -1, -1, -1, -1))
    assert tiles.shape == (20, 27, 3, 8, 8, 8)
    low, high = tiles.flatten(3).amin(3), tiles.flatten(3).amax(3)
    assert ((low // 10) == grid.cells).all() and ((high // 10) == grid.cells).all()
    apart = torch.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None])
    different = ~torch.eye(27, dtype=torch.bool)
    assert (apart.amax(3)[:, different] - 1 >= grid.gap[0]).all()


def test_jigsaw_of_27_tiles_has_far_permutations():
    chosen = permutation_set(24, 27)
    assert torch.equal(chosen.sort(1).values, torch.arange(27).expand(24, 27))
    d = (chosen[:, None] != chosen).sum(2)[~torch.eye(24, dtype=torch.bool)]
    random = torch.rand(24, 27, generator=torch.Generator().manual_seed(9)).argsort(1)
    r = (random[:, None] != random).sum(2)[~torch.eye(24, dtype=torch.bool)]
    assert d.min() > r.min()
    assert Jigsaw(net(), SIZE).permutations.shape == (24, 27)


def test_slabs_are_rows():
    pretext = CPC(net(), SIZE)
    assert pretext.rows(batch().unlabelled.images).shape == (2, 3, 9, pretext.features)


def test_holes_are_boxes():
    mask = holes(torch.zeros(3, 1, *SIZE), number=1)
    assert (mask.sum((1, 2, 3, 4)) == 8**3).all()


@pytest.fixture(scope="module")
def volumes_32():
    torch.manual_seed(0)
    labels = (torch.rand(8, *SIZE) > 0.5).long()
    images = labels + torch.randn(8, *SIZE)
    return Task.split(Cohort.from_arrays(images.numpy(), labels.numpy()), 2, valid=1, test=1)


def test_each_of_the_five_asks_its_question_in_three_dimensions():
    assert FIVE["relative position"](net(), SIZE).head[-1].out_features == 3**3 - 1
    assert FIVE["jigsaw"](net(), SIZE).permutations.shape[1] == 3**3
    images = batch().unlabelled.images
    turns, rotation = rotations(images), FIVE["rotation"](net())
    assert len(turns) == rotation.head.out_features == 10
    assert any(not torch.equal(turn.sum((-2, -1)), images.sum((-2, -1))) for turn in turns)
    rows = FIVE["cpc"](net(), SIZE).rows(images)
    assert rows.shape[1:3] == (3, 9)  # slabs of 3 x 3 tiles
    assert FIVE["exemplar"](net()).represent(images).shape == (2, 64)


@pytest.mark.parametrize("pretext", FIVE)
def test_the_five_run_through(volumes_32, pretext):
    budget = Budget("smoke", steps=1, batch=2)
    fitted = pretexts_3d(volumes_32, budget, pretext=pretext, progress=False)
    assert fitted.predict(volumes_32.valid.images).shape == (1, 2, *SIZE)


def test_slices_and_unknown_pretexts_are_refused(task, volumes_32):
    with pytest.raises(ValueError, match="dims=3"):
        pretexts_3d(task)
    with pytest.raises(ValueError, match="Unknown pretext 'sudoku'"):
        pretexts_3d(volumes_32, pretext="sudoku")
