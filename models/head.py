"""A small head on the features of a frozen network: trained here, in numpy, in seconds.

The head is that of the article 'Car or not a car': 32 sigmoid units, 30 % dropout between them and
one sigmoid output, which says how likely the first of two classes is. Trained with Adam (Kingma &
Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1 with its own constants).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNITS = 32
DROPOUT = 0.3
BATCH = 32
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Head:
    """Two dense layers, each followed by a sigmoid."""

    hidden_weights: Floats
    """``(feature, UNITS)``."""
    hidden_bias: Floats
    weights: Floats
    """``(UNITS, 1)``."""
    bias: Floats
    """``(1,)``."""

    def scores(self, features: Floats) -> Floats:
        """Return how likely each row is of the first class, 0..1; ``(row,)``."""
        hidden = _sigmoid(features @ self.hidden_weights + self.hidden_bias)
        return _sigmoid(hidden @ self.weights + self.bias)[:, 0]


@dataclass(frozen=True, slots=True)
class Training:
    """How to train."""

    epochs: int = 100
    rate: float = 0.003
    """Adam's step; three times its authors' default, for a head that is so small."""
    seed: int = 0


def train(features: Floats, is_first: NDArray[np.bool_], how: Training) -> Head:
    """Train a head; the same inputs give the same head.

    Args:
        features: ``(row, feature)``.
        is_first: ``(row,)``: whether the row is of the first class.
        how: Epochs, step and seed.

    Raises:
        ValueError: there are not two classes, or a feature is not a number.
    """
    if not (is_first.any() and not is_first.all()):
        raise ValueError("training needs rows of both classes")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not a number")
    random = np.random.default_rng(how.seed)
    # Trained on standardized features; the first layer takes that over afterwards.
    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    rows = (features - mean) / spread
    bound = np.sqrt(6 / (rows.shape[1] + UNITS))  # Glorot & Bengio, AISTATS 2010, equation 16.
    layers = [
        random.uniform(-bound, bound, (rows.shape[1], UNITS)), np.zeros(UNITS),
        random.uniform(-0.4, 0.4, (UNITS, 1)), np.zeros(1),
    ]  # fmt: skip
    adam = _Adam(layers, how.rate)
    for _ in range(how.epochs):
        order = random.permutation(len(rows))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            keep = (random.random((len(batch), UNITS)) >= DROPOUT) / (1 - DROPOUT)
            adam.step(_gradients(layers, rows[batch], is_first[batch], keep))
    hidden = layers[0] / spread[:, None]
    return Head(hidden, layers[1] - mean @ hidden, layers[2], layers[3])


def _gradients(
    layers: list[Floats], rows: Floats, is_first: NDArray[np.bool_], keep: Floats
) -> list[Floats]:
    """Return the gradients of the mean cross-entropy by the four arrays of a head."""
    hidden = _sigmoid(rows @ layers[0] + layers[1])
    kept = hidden * keep
    scores = _sigmoid(kept @ layers[2] + layers[3])
    error = (scores - is_first[:, None]) / len(rows)
    back = (error @ layers[2].T) * keep * hidden * (1 - hidden)
    return [rows.T @ back, back.sum(axis=0), kept.T @ error, error.sum(axis=0)]


class _Adam:
    """Changes arrays in place."""

    def __init__(self, arrays: list[Floats], rate: float) -> None:
        self._arrays = arrays
        self._rate = rate
        self._means = [np.zeros_like(each) for each in arrays]
        self._squares = [np.zeros_like(each) for each in arrays]
        self._steps = 0

    def step(self, gradients: list[Floats]) -> None:
        self._steps += 1
        for array, mean, square, gradient in zip(
            self._arrays, self._means, self._squares, gradients, strict=True
        ):
            mean += (1 - _BETA1) * (gradient - mean)
            square += (1 - _BETA2) * (gradient**2 - square)
            corrected = np.sqrt(square / (1 - _BETA2**self._steps)) + _EPSILON
            array -= self._rate * mean / (1 - _BETA1**self._steps) / corrected


def _sigmoid(values: Floats) -> Floats:
    # Beyond +-500 the result is 0 or 1 anyway, and exp would overflow.
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
