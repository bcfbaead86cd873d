"""What is wrong in a file, where, and what to do about it."""

from collections.abc import Callable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top to a value."""
Position = tuple[int, int]
"""Line and column, both from 1."""
Report = Callable[[Position, KeyPath, str, str], None]
"""Called with position, path, what is wrong and a suggestion."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    key: str
    """Where in the document, e.g. ``streams[0].url``; empty for the whole."""
    message: str
    suggestion: str

    def to_json(self) -> dict[str, str | int]:
        """Everything but the file, for output that a program reads."""
        return {
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "suggestion": self.suggestion,
        }

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        suggestion = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{suggestion}"


class Problems:
    """Collects what is wrong in one file; a problem that is found twice counts once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[Problem, None] = {}

    def report(self, position: Position, path: KeyPath, message: str, suggestion: str) -> None:
        """Add one; this is a `Report`."""
        self._found[Problem(self._file, *position, _show(path), message, suggestion)] = None

    def in_order(self) -> list[Problem]:
        """Return them in the order of the file."""
        return sorted(self._found, key=lambda each: (each.line, each.column))


def _show(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
