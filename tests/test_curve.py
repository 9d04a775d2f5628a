"""Learning curves: the area by hand, and the stages they are drawn from."""

import numpy as np
import pytest
import torch
from torch import nn

from lsseg_edu.evaluate import area_under_curve, evaluate, learning_curve
from lsseg_edu.train import Fitted, Supervised


def test_area_is_the_mean_height_over_time():
    assert area_under_curve([0, 1, 2], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert area_under_curve([10, 20], [0.0, 1.0]) == pytest.approx(0.5)
    uneven = (0.5 * (0.2 + 0.4) * 1 + 0.5 * (0.4 + 0.8) * 3) / 4
    assert area_under_curve([5, 6, 9], [0.2, 0.4, 0.8]) == pytest.approx(uneven)
    early, late = [0.3, 0.7, 0.8], [0.3, 0.4, 0.8]
    assert area_under_curve([0, 1, 2], early) > area_under_curve([0, 1, 2], late)
    assert area_under_curve([0, 1, 1], [0.2, 0.4, 0.9]) == pytest.approx(0.3)


@pytest.mark.parametrize("times", [[0, 1], [0, 2, 1], [3, 3, 3], [[0, 1, 2]]])
def test_curves_that_cannot_be(times):
    with pytest.raises(ValueError, match="as many times|must not fall"):
        area_under_curve(times, [0.1, 0.2, 0.3])


def test_a_curve_has_a_point_for_every_stage(task):
    torch.manual_seed(0)
    methods = [Supervised(nn.Conv2d(1, 3, 1)) for _ in range(2)]
    fitted = Fitted(methods[1], stages=[(79.0, methods[0]), (158.0, methods[1])])
    seconds, dice = learning_curve(fitted, task.valid)
    assert seconds.tolist() == [79, 158]
    expected = [evaluate(Fitted(m), task.valid, surfaces=False).mean_dice for m in methods]
    assert np.allclose(dice, expected) and fitted.method is methods[1]
    with pytest.raises(ValueError, match="asked nobody"):
        learning_curve(Fitted(methods[0]), task.valid)
