"""YAML text -> plain values and where each stands; stricter than YAML on purpose.

Refused: a key twice in one mapping, anchors and aliases, tags, keys that are not text, several
documents. A date is a text here, not a date.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top to a value."""
Position = tuple[int, int]
"""Line and column, both from 1."""
Report = Callable[[Position, KeyPath, str, str], None]
"""Called with position, path, what is wrong and a suggestion."""

_SUGGESTIONS = {
    "\\t": "indent with spaces, not tabs",
    "mapping values are not allowed": "put a text that contains ': ' in quotes, "
    "or check the indentation",
    "expected a single document": "keep one document in the file: remove the '---' in the middle",
}

_TEXT_KINDS = ("str", "timestamp", "value", "merge")
"""What is a text here; in full YAML the last three mean more."""


@dataclass(slots=True)
class Document:
    """The values of a YAML file and the position of every key and value."""

    data: Any = None
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    """Where the key of a mapping entry stands."""
    values: dict[KeyPath, Position] = field(default_factory=dict)


def read_document(text: str, report: Report) -> Document | None:
    """Parse one YAML document of JSON-like values; None where the text is not YAML at all."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        _report_yaml_error(error, report)
        return None
    except yaml.reader.ReaderError as error:
        position = _position_of(text, error.position)
        report(position, (), f"not valid YAML: {error.reason}", "remove the character")
        return None
    document = Document()
    if node is not None:
        document.data = _Reader(document, report).read(node, ())
    return document


def _report_yaml_error(error: yaml.MarkedYAMLError, report: Report) -> None:
    mark = error.problem_mark or error.context_mark
    position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = f"{error.context or ''} {error.problem or ''}".strip()
    suggestion = next(
        (text for part, text in _SUGGESTIONS.items() if part in problem),
        "check the indentation, colons, brackets and quotes around this line",
    )
    report(position, (), f"not valid YAML: {problem}", suggestion)


def _position_of(text: str, index: int) -> Position:
    before = text[:index]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Reader:
    """Turns nodes into values; remembers the nodes it saw, because an alias is the same node."""

    def __init__(self, document: Document, report: Report) -> None:
        self._document = document
        self._report = report
        self._seen: set[int] = set()
        scalars = SafeConstructor()
        self._convert: dict[str, Callable[[yaml.ScalarNode], Any]] = {
            "null": scalars.construct_yaml_null,
            "bool": scalars.construct_yaml_bool,
            "int": scalars.construct_yaml_int,
            "float": scalars.construct_yaml_float,
        }

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        position = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._document.values[path] = position
        if id(node) in self._seen:
            self._report(position, path, "anchors and aliases are not allowed", "write it out")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, position)
        raise AssertionError(f"a node of YAML is one of three kinds, not {node}")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            position = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(position, path, "a key must be a text", "check the brackets")
                continue
            key = str(key_node.value)
            if key in values:
                first = self._document.keys[(*path, key)][0]
                message = f"`{key}` is already set in line {first}"
                self._report(position, path, message, "remove one of them")
                continue
            self._document.keys[(*path, key)] = position
            values[key] = self.read(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath, position: Position) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in _TEXT_KINDS:
            return str(node.value)
        if kind not in self._convert:
            self._report(position, path, f"the tag {node.tag} is not allowed", "remove the tag")
            return None
        try:
            return self._convert[kind](node)
        except (ValueError, KeyError):
            self._report(position, path, f"`{node.value}` does not fit its tag", "remove the tag")
            return None
