"""Work runs on all lanes at once and comes out in the order it went in."""

import threading

import pytest

from fleet.lanes import in_order

WAIT_S = 20


def test_in_the_order_it_went_in_whichever_is_done_first():
    second_is_done = threading.Event()

    def run(piece, lane):
        if piece == 0:
            assert second_is_done.wait(WAIT_S)
        if piece == 1:
            second_is_done.set()
        return piece

    assert list(in_order(range(9), ["a", "b"], run)) == list(range(9))


def test_a_lane_has_one_piece_at_a_time_and_none_is_idle():
    lanes, busy, both = ["a", "b"], set(), threading.Barrier(2)

    def run(piece, lane):
        assert lane not in busy
        busy.add(lane)
        both.wait(WAIT_S)  # passes only while the other lane works as well
        busy.remove(lane)
        return lane

    assert set(in_order(range(6), lanes, run)) == {"a", "b"}


def test_work_is_taken_only_when_it_is_needed():
    taken = []

    def work():
        for piece in range(100):
            taken.append(piece)
            yield piece

    results = in_order(work(), ["a", "b"], lambda piece, _: piece)
    assert next(results) == 0
    assert len(taken) == 3
    results.close()
    assert len(taken) == 3


def test_what_fails_is_raised_in_its_place_and_the_lane_is_free_again():
    def run(piece, lane):
        if piece == 1:
            raise ValueError("one")
        return piece

    results = in_order(range(9), ["a"], run)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)
    assert list(results) == []
    assert list(in_order([], ["a"], run)) == []
