"""Ledger and Window: what adds up, and percentiles by nearest rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.telemetry.window import Ledger, Window, nearest_rank

SECONDS = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=300)


@given(SECONDS, st.integers(0, 100))
def test_nearest_rank_is_numpys_inverted_cdf(values, percent):
    ordered = sorted(values)
    expected = np.percentile(ordered, percent, method="inverted_cdf")
    assert nearest_rank(ordered, percent) == expected


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 2), (51, 3), (100, 4)])
def test_nearest_rank_is_always_a_value_that_was_measured(percent, value):
    assert nearest_rank([1.0, 2.0, 3.0, 4.0], percent) == value


@given(SECONDS)
def test_the_window_gives_milliseconds_in_any_order_of_arrival(values):
    window = Window(latencies_s=list(values))
    expected = np.percentile(values, [50, 95, 99], method="inverted_cdf") * 1000
    assert window.percentiles_ms() == pytest.approx(tuple(expected), abs=5.1e-4)
    assert window.latencies_s == values


def test_an_empty_window_claims_nothing():
    window = Window()
    assert window.percentiles_ms() is None
    assert window.mean_people() == 0.0
    assert window.mean_durations_ms() == {}
    assert window.error == ""


def test_a_window_of_late_stages_only_has_no_means():
    window = Window()
    window.add_duration("track", 0.5)
    assert window.mean_durations_ms() == {}


def test_people_and_durations_are_means_over_the_frames_that_came_out_of_a_lane():
    window = Window(captured=50, published=1)
    window.add_frame(3, ("resize", "infer"), (0.001, 0.010))
    window.add_frame(0, ("resize", "infer"), (0.003, 0.030))
    assert window.mean_people() == 1.5
    assert window.mean_durations_ms() == {"resize": 2.0, "infer": 20.0}


def test_every_stage_must_have_its_duration():
    with pytest.raises(ValueError, match="shorter"):
        Window().add_frame(1, ("resize", "infer"), (0.001,))


def test_two_windows_share_nothing():
    first = Window()
    first.latencies_s.append(1.0)
    first.add_frame(1, ("infer",), (0.1,))
    assert Window() == Window()
    assert Window().latencies_s == []


def test_the_ledger_says_where_frames_and_reports_are():
    ledger = Ledger(captured=10, sent=6, published=3)
    ledger.dropped.update(replaced=2, redis_away=1)
    assert ledger.in_flight == 4
    assert ledger.unsettled == 2
    assert "failed" not in ledger.dropped
