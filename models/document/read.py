"""YAML text -> plain values and where each stands; stricter than YAML on purpose.

Refused: a key twice in one mapping, anchors and aliases, tags, keys that are not text, several
documents. A date is a text here, not a date.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from models.document.problems import KeyPath, Position, Report

_SUGGESTIONS = {
    "\\t": "indent with spaces, not tabs",
    "mapping values are not allowed": "put a text that contains ': ' in quotes, "
    "or check the indentation",
    "expected a single document": "keep one document in the file: remove the '---' in the middle",
}

_TEXT_KINDS = ("str", "timestamp", "value", "merge")
"""What is a text here; in full YAML the last three mean more."""
_REFERENCE = "reference"
"""Stands for the tag of a node that has an anchor or is an alias."""


@dataclass(slots=True)
class Document:
    """The values of a YAML file and the position of every key and value."""

    data: Any = None
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    """Where the key of a mapping entry stands."""
    values: dict[KeyPath, Position] = field(default_factory=dict)
    refused: set[KeyPath] = field(default_factory=set)
    """What has a value in the text that was reported instead of read; it is None in `data`."""


def read_document(text: str, report: Report) -> Document | None:
    """Parse one YAML document of JSON-like values; None where the text is not YAML at all."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        _report_yaml_error(error, report)
        return None
    except yaml.reader.ReaderError as error:
        position = _position_of(text, error.position)
        report(position, (), f"not valid YAML: {error.reason}", "remove the character")
        return None
    except RecursionError:
        report((1, 1), (), "nested too deep to be read", "remove some of the brackets")
        return None
    except (ValueError, OverflowError):  # The parser turns any \UXXXXXXXX into a character.
        report((1, 1), (), r"a \U in quotes names no character", "correct the number after it")
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


class _Loader(yaml.SafeLoader):
    """Leaves a mark where an anchor or an alias stands, instead of following it.

    So a small file cannot unfold into a huge or an endless document.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
        else:
            node = super().compose_node(parent, index)
            if event.anchor is None:
                return node
        return yaml.ScalarNode(_REFERENCE, event.anchor, event.start_mark, event.end_mark)


class _Reader:
    """Turns nodes into values."""

    def __init__(self, document: Document, report: Report) -> None:
        self._document = document
        self._report = report
        scalars = SafeConstructor()
        self._convert: dict[str, Callable[[yaml.ScalarNode], Any]] = {
            "null": scalars.construct_yaml_null,
            "bool": scalars.construct_yaml_bool,
            "int": scalars.construct_yaml_int,
            "float": scalars.construct_yaml_float,
        }

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self._document.values[path] = _start(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise AssertionError(f"a node of YAML is one of three kinds, not {node}")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            position = _start(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(position, path, "a key must be a text", "check the brackets")
                continue
            if key_node.tag == _REFERENCE:
                self._refuse_reference(key_node, path)
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

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in _TEXT_KINDS:
            return str(node.value)
        try:
            if kind in self._convert:
                return self._convert[kind](node)
        except (ValueError, KeyError, IndexError):
            message = f"`{node.value}` does not fit its tag"
            self._report(_start(node), path, message, "remove the tag")
        else:
            if kind == _REFERENCE:
                self._refuse_reference(node, path)
            else:
                message = f"the tag {node.tag} is not allowed"
                self._report(_start(node), path, message, "remove the tag")
        self._document.refused.add(path)
        return None

    def _refuse_reference(self, node: yaml.Node, path: KeyPath) -> None:
        self._report(_start(node), path, "anchors and aliases are not allowed", "write it out")


def _start(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1
