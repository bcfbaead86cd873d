"""What is printed: whole tables in a pipe, clean JSON, nothing that steers the terminal."""

import json

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


def test_progress_on_a_terminal_moves(capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with render.progress("net") as report:
        report("a.bin", 0, None)
        report("a.bin", 2048, 2048)
    assert "net: a.bin" in capsys.readouterr().err


def test_sizes_for_people():
    assert [render.bytes_text(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
