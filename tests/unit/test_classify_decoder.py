"""Class scores become labels, the likeliest first; wrong ones are refused."""

import numpy as np
import pytest

from models.decoders.classify import rank, read_labels
from models.errors import DecodeError


def test_the_likeliest_comes_first_and_equal_ones_keep_their_order():
    found = rank(np.array([0.25, 0.5, 0.25], np.float32), ("a", "b", "c"))
    assert found == (("b", 0.5), ("a", 0.25), ("c", 0.25))


@pytest.mark.parametrize(
    ("score", "expected"), [(0.75, (("car", 0.75), ("no", 0.25))), (0.0, (("no", 1), ("car", 0)))]
)
def test_one_score_tells_two_labels_apart(score, expected):
    assert rank(np.array([[score]], np.float32), ("car", "no")) == expected


def test_other_scores_than_labels_are_refused():
    with pytest.raises(DecodeError, match="3 scores for 2 labels"):
        rank(np.zeros(3, np.float32), ("a", "b"))
    with pytest.raises(DecodeError, match="no numbers"):
        rank(np.array([np.nan, 1], np.float32), ("a", "b"))


@pytest.mark.parametrize("text", ['["a", "b"]', '{"1": "b", "0": "a"}'])
def test_labels_are_a_list_or_numbered(text):
    assert read_labels(text) == ("a", "b")


@pytest.mark.parametrize("text", ["", "[]", "3", '["a", 1]', '{"0": "a", "2": "b"}', "{}"])
def test_other_labels_are_refused(text):
    with pytest.raises(DecodeError, match="neither a JSON list"):
        read_labels(text)
