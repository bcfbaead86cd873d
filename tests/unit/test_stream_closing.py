"""Closing: the handle is released once, and never under a read."""

import threading
import time

from agents.streams.closing import Closing
from agents.streams.pacing import HOLE_S, LATE_S, Pacer

WAIT_S = 10


class Handle:
    def __init__(self):
        self.released = 0
        self.in_use = False
        self.was_released_in_use = False

    def release(self):
        self.released += 1
        self.was_released_in_use |= self.in_use


def test_closing_releases_once():
    handle = Handle()
    closing = Closing(handle.release)
    assert not closing.is_closed
    closing.close()
    closing.close()
    assert closing.is_closed
    assert handle.released == 1
    with closing.reading() as is_open:
        assert not is_open
    assert handle.released == 1


def test_a_read_that_goes_on_keeps_the_handle_until_it_returns():
    handle, interrupts = Handle(), []
    closing = Closing(handle.release, lambda: interrupts.append(1))
    with closing.reading() as is_open:
        assert is_open
        closing.close()
        assert interrupts == [1]
        assert handle.released == 0
    assert handle.released == 1


def test_a_read_that_breaks_releases_too():
    handle = Handle()
    closing = Closing(handle.release)
    try:
        with closing.reading():
            closing.close()
            raise ValueError
    except ValueError:
        pass
    assert handle.released == 1


def test_closing_races_reading():
    for _ in range(200):
        handle = Handle()
        closing = Closing(handle.release)

        def read(handle=handle, closing=closing):
            is_open = True
            while is_open:
                with closing.reading() as is_open:
                    handle.in_use = True
                    handle.in_use = False

        threads = [threading.Thread(target=each) for each in (read, closing.close, closing.close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        assert handle.released == 1
        assert not handle.was_released_in_use


def test_a_pacer_waits_for_what_is_due_and_close_ends_the_wait():
    closing = Closing(lambda: None)
    pacer = Pacer(closing, is_paced=True)
    began = time.monotonic()
    assert pacer.wait(0.0)
    assert pacer.wait(0.05)
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.02, closing.close).start()
    assert not pacer.wait(1.5)


def test_a_pacer_does_not_sleep_through_holes_nor_race_after_delays():
    pacer = Pacer(Closing(lambda: None), is_paced=True)
    began = time.monotonic()
    assert pacer.wait(1000.0)
    assert pacer.wait(1000.0 + 100 * HOLE_S)
    assert pacer.wait(500.0 - LATE_S)
    assert time.monotonic() - began < 50 * HOLE_S


def test_without_pace_nothing_waits():
    closing = Closing(lambda: None)
    pacer = Pacer(closing, is_paced=False)
    assert all(pacer.wait(offset) for offset in (0.0, 1e6, 2e6))
    closing.close()
    assert not pacer.wait(0.0)
