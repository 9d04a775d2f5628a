"""Views: the same move for an image and its prediction, undone exactly, honest about borders."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu.semi.consistency.transforms import ROTATIONS, AffineView, Chain, Dihedral, Shift


def images(*size, batch=8, channels=2):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def smooth(size=48):
    y, x = torch.meshgrid(*[torch.linspace(0, 3, size)] * 2, indexing="ij")
    return torch.stack([torch.sin(2 * x + y), torch.cos(y - x)])[None].repeat(8, 1, 1, 1)


def symmetric(channels=2):
    """A network that cannot tell directions: 1x1 and rings of equal 3x3 weights, then softmax."""
    torch.manual_seed(0)
    ring = nn.Conv2d(channels, 5, 3, padding=1)
    with torch.no_grad():
        edge, corner, middle = torch.randn(3, 5, channels, 1, 1)
        plus = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
        cross = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
        centre = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
        ring.weight.copy_(edge * plus + corner * cross + middle * centre)
    return nn.Sequential(ring, nn.ReLU(), nn.Conv2d(5, 3, 1), nn.Softmax(1))


def test_the_eight_elements_are_the_turns_and_mirrors_of_the_square():
    x = images(6, 6, batch=1)
    moved = [Dihedral(torch.tensor([e]))(x) for e in range(8)]
    turns = [torch.rot90(x, k, (-2, -1)) for k in range(4)]
    for wanted in [*turns, *(t.flip(-1) for t in turns)]:
        assert sum(torch.equal(wanted, m) for m in moved) == 1
    for wanted in turns:
        assert sum(torch.equal(wanted, moved[e]) for e in ROTATIONS) == 1


@pytest.mark.parametrize("size", [(6, 6), (3, 6, 6)])
def test_dihedral_moves_each_image_by_its_own_element_and_back(size):
    x, view = images(*size), Dihedral(torch.arange(8))
    for e in range(8):
        assert torch.equal(view(x)[e], Dihedral(torch.tensor([e]))(x[e : e + 1])[0])
    assert torch.equal(view.inverse(view(x)), x)
    assert torch.equal(view(view.inverse(x)), x)


def test_draws_follow_their_options():
    x = images(4, 4, batch=200)
    generator = torch.Generator().manual_seed(0)
    assert set(Dihedral.draw(x, generator).elements.tolist()) == set(range(8))
    assert set(Dihedral.draw(x, generator, mirrors=False).elements.tolist()) == set(ROTATIONS)
    assert len(Dihedral.draw(x, generator, together=True).elements.unique()) == 1
    assert set(Dihedral.draw(images(4, 6, batch=99)).elements.tolist()) == {0, 1, 2, 3}
    again = (Dihedral.draw(x, torch.Generator().manual_seed(7)).elements for _ in range(2))
    assert torch.equal(*again)


def test_a_quarter_turn_needs_squares():
    with pytest.raises(ValueError, match="4x6 have no quarter-turn: crop them"):
        Dihedral(torch.tensor([4]))(images(4, 6, batch=1))


def test_a_network_without_directions_is_equivariant_and_another_one_is_not():
    x, net, view = images(16, 16), symmetric(), Dihedral(torch.arange(8))
    assert torch.allclose(net(view(x)), view(net(x)), atol=1e-5)
    assert torch.allclose(view.inverse(net(view(x))), net(x), atol=1e-5)
    with torch.no_grad():
        net[0].weight[..., 0, 1] += 1.0
    assert (net(view(x)) - view(net(x))).abs().max() > 1e-2


def test_shift_is_a_roll_of_each_image():
    x = images(5, 6, 7)
    view = Shift.draw(x, torch.Generator().manual_seed(0), most=3)
    assert view.offsets.abs().max() == 3 and len(view.offsets.unique()) > 3
    for i, offset in enumerate(view.offsets.tolist()):
        assert torch.equal(view(x)[i], torch.roll(x[i], offset, (1, 2, 3)))
    assert torch.equal(view.inverse(view(x)), x)


def test_shift_knows_what_came_in_from_the_other_side():
    view = Shift(torch.tensor([[1, -2]]))
    known = view.inside(images(4, 5, batch=1))
    expected = torch.ones(4, 5, dtype=torch.bool)
    expected[0], expected[:, 3:] = False, False
    assert torch.equal(known[0, 0], expected)


def test_affine_by_a_quarter_turn_is_rot90():
    x = images(16, 16)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0]]).repeat(8, 1, 1)
    turned = AffineView(turn)(x)
    assert torch.allclose(turned, torch.rot90(x, 1, (-2, -1)), atol=1e-4)
    assert torch.allclose(AffineView(turn).inverse(turned), x, atol=1e-4)


def test_affine_is_undone_up_to_interpolation():
    x = smooth()
    generator = torch.Generator().manual_seed(0)
    view = AffineView.draw(x, generator, rotation=30, scale=0.2, shift=0.1)
    there = Chain((view, AffineView(inverse_of(view))))
    known = there.inside(x).expand_as(x)
    assert known.float().mean() > 0.5
    difference = (view.inverse(view(x)) - x)[known].abs()
    assert difference.max() < 0.02 < (view(x) - x)[known].abs().mean()


def inverse_of(view):
    square = torch.cat([view.maps, torch.tensor([[[0.0, 0, 1]]]).expand(8, 1, 3)], 1)
    return torch.linalg.inv(square)[:, :2]


def test_affine_keeps_probabilities_and_commutes_with_a_pixelwise_linear_map():
    x, conv = images(16, 16), nn.Conv2d(2, 3, 1)
    view = AffineView.draw(x, rotation=40, scale=0.3)
    assert torch.allclose(view(x.softmax(1)).sum(1), torch.ones(8, 16, 16), atol=1e-5)
    assert torch.allclose(conv(view(x)), view(conv(x)), atol=1e-5)


def test_inside_is_where_nothing_was_made_up():
    zoom = AffineView(torch.tensor([[[2.0, 0, 0], [0, 2, 0]]]))
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:12, 4:12] = True
    assert torch.equal(zoom.inside(images(16, 16, batch=1))[0, 0], expected)
    x = images(32, 32)
    view = AffineView.draw(x, rotation=45, shift=0.2)
    grid = F.affine_grid(view.maps, [8, 1, 32, 32], align_corners=False)
    full = F.grid_sample(torch.ones(8, 1, 32, 32), grid, padding_mode="zeros", align_corners=False)
    assert torch.equal(view.inside(x), full > 0.9999)
    assert AffineView.draw(x).inside(x).all()


def test_chain_undoes_the_last_move_first():
    x = images(9, 9)
    chain = Chain((Dihedral(torch.arange(8)), Shift.draw(x, most=3)))
    assert torch.equal(chain.inverse(chain(x)), x)
    assert torch.equal(chain(x), chain.views[1](chain.views[0](x)))


def test_chain_carries_the_unknown_along():
    x = images(8, 8, batch=1)
    down, turn = Shift(torch.tensor([[2, 0]])), Dihedral(torch.tensor([4]))
    known = Chain((down, turn)).inside(x)[0, 0]
    assert known[:, 2:].all() and not known[:, :2].any()


def test_turns_in_volumes_leave_the_slices_where_they_are():
    x = images(4, 8, 8, batch=2)
    view = Chain((Dihedral.draw(x), AffineView.draw(x, rotation=180)))
    depth = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(2, 1, 4, 8, 8)
    assert torch.allclose(view(depth), depth, atol=1e-4)
    assert view.inside(x).shape == (2, 1, 4, 8, 8)


def test_scale_is_symmetric_about_one():
    maps = AffineView.draw(images(4, 4, batch=500), scale=math.log(1.2)).maps
    factor = maps[:, 0, 0]
    assert 1 / 1.2 <= factor.min() < 0.85 and 1.15 < factor.max() <= 1.2001
