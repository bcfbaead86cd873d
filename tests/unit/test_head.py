"""The head learns what can be learned, the same every time, and its gradients are right."""

import numpy as np
import pytest

from models.head import UNITS, Head, Training, _gradients, train


def rings(count, seed):
    """Points inside and outside a circle: no straight line tells them apart."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    return points * (3, 700) + (5, -90), (points**2).sum(axis=1) < 0.5


def test_it_learns_what_no_straight_line_tells_apart():
    points, inside = rings(400, 1)
    head = train(points, inside, Training(epochs=300))
    others, expected = rings(400, 2)
    assert ((head.scores(others) >= 0.5) == expected).mean() >= 0.9  # a line gets .6 right


def test_the_same_seed_gives_the_same_head_and_another_another():
    points, inside = rings(40, 1)
    one, same, other = (train(points, inside, Training(5, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.hidden_weights, same.hidden_weights)
    assert not np.array_equal(one.hidden_weights, other.hidden_weights)


def test_the_gradients_are_those_of_the_cross_entropy():
    random = np.random.default_rng(4)
    layers = [random.normal(size=shape) for shape in ((3, UNITS), (UNITS,), (UNITS, 1), (1,))]
    rows, wanted = random.normal(size=(5, 3)), np.array([1, 0, 1, 1, 0], bool)

    def loss():
        scores = Head(*layers).scores(rows)
        return -np.log(np.where(wanted, scores, 1 - scores)).mean()

    found = _gradients(layers, rows, wanted, np.ones((5, UNITS)))
    for array, gradient in zip(layers, found, strict=True):
        at = tuple(random.integers(0, side) for side in array.shape)
        before, array[at] = array[at], array[at] + 1e-5
        above = loss()
        array[at] = before - 1e-5
        below = loss()
        array[at] = before
        assert gradient[at] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-8)


def test_scores_far_out_are_zero_and_one():
    head = Head(np.full((1, UNITS), 1e4), np.zeros(UNITS), np.ones((UNITS, 1)), np.array([-16.0]))
    assert head.scores(np.array([[-1.0], [1.0]])) == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "classes", "complaint"),
    [([[0.0], [1.0]], [True, True], "both classes"), ([[0.0], [np.nan]], [True, False], "number")],
)
def test_what_cannot_be_learned_is_refused(rows, classes, complaint):
    with pytest.raises(ValueError, match=complaint):
        train(np.array(rows), np.array(classes), Training())
