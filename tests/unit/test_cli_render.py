"""What is printed: whole tables in a pipe, clean JSON, nothing that steers the terminal."""

import json
import sys
import threading

import pytest

from fleet.cli import render


def test_a_piped_table_is_neither_cut_nor_wrapped(capsys):
    long = "x" * 200
    render.table(("A", "B"), [(long, 1.25), ("short", None)], empty="nothing")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [long, "1.2"]
    assert lines[2].split() == ["short", "-"]


def test_an_empty_table_says_so(capsys):
    render.table(("A",), [], empty="no streams")
    assert capsys.readouterr().out == "no streams\n"


def test_markup_and_control_characters_are_text(capsys):
    render.table(("A",), [("[red]a[/red]\x1b[31m",)], empty="")
    render.line("a\x1b]0;title\x07b")
    out = capsys.readouterr().out
    assert "[red]a[/red]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_record_is_one_line_of_ascii(capsys):
    render.record({"a": "é\n", "b": [1.5, None]})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out) == {"a": "é\n", "b": [1.5, None]}


def test_progress_in_a_pipe_is_a_line_a_thing(capsys):
    with render.progress("net") as report:
        for done in (0, 1024, 2048):
            report("a.bin", done, 2048)
        report("waiting", 0, None)
    captured = capsys.readouterr()
    assert captured.err == "net: a.bin (2.0 KiB)\nnet: waiting\n"
    assert captured.out == ""


@pytest.fixture
def terminal(capsys, monkeypatch):
    """Return a function that lets standard error look like a terminal, and then reads it."""

    def pretend():
        # Inside the test: the stream that is captured during the set-up is another one.
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
        return capsys

    return pretend


def test_progress_on_a_terminal_moves(terminal):
    screen = terminal()
    with render.progress("net") as report:
        report("a.bin", 0, 2048)
        report("a.bin", 2048, 2048)
        report("b.bin", 0, None)
    shown = screen.readouterr().err
    assert "net: a.bin" in shown
    assert "net: b.bin" in shown


def test_progress_is_silent_while_there_is_nothing_to_report(terminal):
    screen = terminal()
    with render.progress("net"):
        pass
    assert screen.readouterr().err == ""


def test_progress_gives_the_terminal_back_when_a_thing_is_done(terminal):
    terminal()
    with render.progress() as report:
        report("a.bin", 0, 10)
        before = _refresh_threads()
        assert before
        report("a.bin", 10, 10)
        for thread in before:
            thread.join(10)
        assert not _refresh_threads()


@pytest.mark.parametrize("shows", [lambda: render.steps("frames", 2), render.progress])
def test_a_moving_bar_leaves_standard_output_to_programs(terminal, shows):
    screen = terminal()
    with shows() as advance:
        if shows is render.progress:
            advance("a.bin", 0, 10)
        render.record({"a": 1})
    captured = screen.readouterr()
    assert captured.out == '{"a":1}\n'
    assert captured.err


def test_steps_count_on_a_terminal(terminal):
    screen = terminal()
    with render.steps("frames", 2) as advance:
        advance()
        advance()
    assert "2/2" in screen.readouterr().err


def test_steps_in_a_pipe_are_silent(capsys):
    with render.steps("frames", None) as advance:
        advance()
    assert capsys.readouterr().err == ""


def _refresh_threads():
    return [thread for thread in threading.enumerate() if "Refresh" in type(thread).__name__]


def test_sizes_for_people():
    assert [render.bytes_text(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
