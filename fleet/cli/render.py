"""What the operator sees: tables, JSON, progress, errors; the only module that prints."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_PIPED_WIDTH = 500
"""Columns of a table that no terminal limits: nothing of ours is wider, so nothing is cut."""


def line(text: str) -> None:
    """Print one line of text."""
    print(_printable(text), flush=True)


def note(text: str) -> None:
    """Print to standard error; output that a program reads stays clean."""
    print(_printable(text), file=sys.stderr, flush=True)


def warning(text: str) -> None:
    """Print a warning to standard error."""
    note(f"warning: {text}")


def error(problem: BaseException) -> None:
    """Print an error and, where it carries one, the next step."""
    note(f"error: {_message(problem)}")
    if hint := getattr(problem, "hint", ""):
        note(f"hint: {hint}")


def document(data: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    print(json.dumps(data, indent=2), flush=True)


def record(data: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    print(json.dumps(data, separators=(",", ":")), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under column names, or the sentence ``empty`` when there are none.

    Numbers are aligned to the right, None is shown as ``-``.
    """
    if not rows:
        line(empty)
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)
    console.print(grid(columns, rows))
    sys.stdout.flush()


def grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> "Table":
    """Make the table that `table` prints, for a picture that is composed of several."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        kinds = {type(row[index]) for row in rows} - {type(None)}
        is_numeric = bool(kinds) and kinds <= {int, float}
        made.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_printable(_cell(value))) for value in row))
    return made


@contextmanager
def progress(title: str = "") -> Iterator[Callable[[str, int, int | None], None]]:
    """Show the progress of bytes while the context lasts, on standard error.

    Yields a function of what is done now, the bytes done and the total, None when it is not known.
    Nothing is shown before its first call and between two things. Where standard error is no
    terminal, each thing that is done gets one plain line.
    """
    prefix = f"{title}: " if title else ""
    if not sys.stderr.isatty():
        said: set[str] = set()

        def say(label: str, _done: int, total: int | None) -> None:
            if label not in said:
                said.add(label)
                size = f" ({bytes_text(total)})" if total else ""
                note(f"{prefix}{label}{size}")

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # Standard output that a program reads must not pass through the bar's terminal.
    to_terminal = sys.stdout.isatty()
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=to_terminal)

    def show(label: str, done: int, total: int | None) -> None:
        description = f"{prefix}{_printable(label)}"
        if not bar.tasks or bar.tasks[-1].description != description:
            for task in bar.task_ids:  # one at a time: what another source has begun is over
                bar.remove_task(task)
            bar.add_task(description, total=total)
            bar.start()
        bar.update(bar.task_ids[-1], completed=done, total=total)
        if bar.finished:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


@contextmanager
def steps(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show the progress of things that are counted while the context lasts, on standard error.

    Yields a function to call for each of ``total``; None when nobody knows how many there are.
    Where standard error is no terminal, nothing is shown.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Standard output that a program reads must not pass through the bar's terminal.
    to_terminal = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=to_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def bytes_text(count: int) -> str:
    """Write a number of bytes for people: ``4.8 MiB``."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _message(problem: BaseException) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        name = f": {problem.filename}" if problem.filename else ""
        return f"{problem.strerror}{name}"
    return str(problem) or type(problem).__name__


def _printable(text: str) -> str:
    """Text from cameras and files must not steer the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
