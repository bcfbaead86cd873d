"""LatestFrameSlot and FrameRateLimit: the newest frame wins, what is dropped is counted."""

import numpy as np
import pytest

from agents.streams.base import Frame
from agents.streams.slot import FrameRateLimit, LatestFrameSlot


def frame(sequence):
    return Frame(sequence, 0.0, 0.0, (4, 2), lambda _: np.zeros((2, 4, 3), np.uint8))


def granted(limit, times):
    return [time for time in times if limit.grants(time)]


class TestSlot:
    def test_an_empty_slot_gives_nothing(self):
        slot = LatestFrameSlot()
        assert not slot
        assert slot.take() is None
        assert slot.dropped == 0

    def test_a_frame_is_taken_once(self):
        slot, only = LatestFrameSlot(), frame(0)
        assert slot.offer(only) is None
        assert slot
        assert slot.take() is only
        assert slot.take() is None
        assert slot.dropped == 0

    def test_a_newer_frame_replaces_an_older_one_which_is_returned_and_counted(self):
        slot, frames = LatestFrameSlot(), [frame(number) for number in range(5)]
        replaced = [slot.offer(each) for each in frames]
        assert replaced == [None, *frames[:-1]]
        assert slot.dropped == 4
        assert slot.take() is frames[-1]
        assert slot.offer(frames[0]) is None
        assert slot.dropped == 4

    def test_every_offered_frame_is_taken_dropped_or_waiting(self):
        slot, taken = LatestFrameSlot(), 0
        for number in range(100):
            slot.offer(frame(number))
            if number % 7 == 0:
                taken += slot.take() is not None
        assert taken + slot.dropped + bool(slot) == 100


class TestFrameRateLimit:
    def test_without_a_limit_all_is_granted(self):
        limit = FrameRateLimit(None)
        assert all(limit.grants(0.0) for _ in range(10))
        assert limit.skipped == 0

    @pytest.mark.parametrize(("source_hz", "limit_hz"), [(30, 15), (30, 20), (25, 10), (30, 7)])
    def test_the_mean_rate_holds(self, source_hz, limit_hz):
        limit = FrameRateLimit(limit_hz)
        times = [number / source_hz for number in range(source_hz * 20)]
        count = len(granted(limit, times))
        assert count == pytest.approx(limit_hz * 20, abs=2)
        assert count + limit.skipped == len(times)

    @pytest.mark.parametrize("limit_hz", [15.0, 30.0])
    def test_jitter_does_not_lower_the_rate(self, limit_hz):
        jitter = np.random.default_rng(1).uniform(-0.004, 0.004, 600)
        count = len(granted(FrameRateLimit(limit_hz), np.arange(600) / 30 + jitter))
        assert count == pytest.approx(limit_hz * 20, rel=0.03)

    def test_a_slower_source_loses_no_frame(self):
        limit = FrameRateLimit(30.0)
        assert len(granted(limit, np.arange(100) / 25)) == 100
        assert limit.skipped == 0

    def test_a_pause_is_not_made_up_for_by_a_burst(self):
        limit = FrameRateLimit(1.0)
        assert granted(limit, [0.0, 100.0, 100.1, 100.2, 100.5, 101.0]) == [0.0, 100.0, 101.0]
