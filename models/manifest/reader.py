"""Read YAML into a schema; every error names file, line and, where one is near, the key meant."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from models.errors import ManifestError
from models.manifest.fields import Strict

Location = tuple[int | str, ...]
_TAGS = (" source", " output")
"""What pydantic puts into a location for the kind that it took something for."""

Schema = TypeVar("Schema", bound=Strict)


def parse(text: str, schema: type[Schema], origin: str) -> Schema:
    """Parse one YAML document into a schema.

    Args:
        text: the document.
        schema: what it must be, e.g. `ModelManifest`.
        origin: the name of the file, for messages.

    Raises:
        ManifestError: one line an error, each with file, line and, where one is near, the key that
            was probably meant.
    """
    try:
        root = _compose(text)
        # Through JSON: there, and only there, strict pydantic takes a list where a tuple is meant.
        document = json.dumps(yaml.safe_load(text), default=str)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ManifestError(f"{origin}:{line}: {error.problem or 'broken YAML'}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise ManifestError(f"{origin}:1: broken YAML: {cause}") from error
    try:
        return schema.model_validate_json(document)
    except ValidationError as error:
        lines = [
            f"{origin}:{_line(root, found['loc'])}: {_explain(found, schema)}"
            for found in _innermost(error.errors(include_url=False))
        ]
        raise ManifestError("\n".join(lines)) from error


def _compose(text: str) -> yaml.Node:
    """Return the node tree, for its line numbers; aliases and repeated keys are errors.

    Without aliases a small file cannot unfold into a huge or an endless document.
    """
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _marked("aliases are not used here", event)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        raise yaml.YAMLError("the file is empty")
    for node in _nodes(root):
        _refuse_repeated_keys(node)
    return root


def _marked(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _nodes(part)


def _refuse_repeated_keys(node: yaml.Node) -> None:
    seen = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in seen:
            raise _marked(f"key {key.value!r} is given twice", key)
        seen.add(key.value)


def _innermost(errors: Sequence[Any]) -> list[Any]:
    """Leave out what only says that something inside is wrong, e.g. a list without valid items."""
    inside = {each["loc"][:depth] for each in errors for depth in range(len(each["loc"]))}
    return [each for each in errors if each["loc"] not in inside]


def _line(node: yaml.Node, location: Location) -> int:
    """Return the line of the innermost part of a pydantic location that the document has."""
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):  # an item is missing
                break
            node = node.value[part]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line
                    break
    return line + 1


def _explain(found: Any, schema: type[Strict]) -> str:
    location: Location = tuple(part for part in found["loc"] if not str(part).endswith(_TAGS))
    where = ".".join(str(part) for part in location)
    if found["type"] == "missing":
        return f"{where}: this key is missing"
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(
            str(location[-1]), _known_keys(schema.model_json_schema(), location[:-1]), n=1
        )
        return f"{where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _known_keys(schema: Mapping[str, Any], location: Location) -> list[str]:
    """Return the keys that the JSON schema allows at a location."""
    here = [schema]
    for part in location:
        options = [option for node in here for option in _options(node, schema)]
        if isinstance(part, int):
            here = [option["items"] for option in options if "items" in option]
        else:
            below = [option.get("properties", {}).get(part) for option in options]
            below += [option.get("additionalProperties") for option in options]
            here = [node for node in below if isinstance(node, Mapping)]
    return [
        k
        for node in here
        for option in _options(node, schema)
        for k in option.get("properties", ())
    ]


def _options(node: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    alternatives = node.get("oneOf") or node.get("anyOf") or ()
    if not alternatives:
        yield node
    for alternative in alternatives:
        yield from _options(alternative, root)
