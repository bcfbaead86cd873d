"""Class scores of a network -> labels, the likeliest first.

A network with one output says how likely the first of two labels is; the second has the rest.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import DecodeError


class Label(NamedTuple):
    """What a picture may show."""

    name: str
    score: float
    """0..1; those of all labels add up to 1."""


def rank(scores: NDArray[np.float32], labels: Sequence[str]) -> tuple[Label, ...]:
    """Return every label with its score, the highest first; of equal ones the first stays first.

    Args:
        scores: ``(label,)`` after softmax, or ``(1,)`` after a sigmoid.
        labels: Their names.

    Raises:
        DecodeError: other scores than labels, or one that is not a number.
    """
    values = np.asarray(scores, np.float32).ravel()
    if len(values) == 1 and len(labels) == 2:
        values = np.array([values[0], 1 - values[0]])
    if len(values) != len(labels):
        raise DecodeError(f"the network gives {len(values)} scores for {len(labels)} labels")
    if not np.isfinite(values).all():
        raise DecodeError("the network gives scores that are no numbers")
    return tuple(
        Label(labels[index], float(values[index])) for index in np.argsort(-values, kind="stable")
    )


def read_labels(text: str) -> tuple[str, ...]:
    """Read a JSON list of names, or an object from number to name.

    Raises:
        DecodeError: it is neither.
    """
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(number)] for number in range(len(found))]
        if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
    except (ValueError, KeyError):
        pass
    raise DecodeError(
        "the labels are neither a JSON list of names nor an object {number: name} from 0",
        hint="pull the network again",
    )
