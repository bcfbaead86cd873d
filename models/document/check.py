"""Values against a pydantic model; what is wrong is said for the person who wrote the file."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from models.document.problems import KeyPath, Position, Report
from models.document.read import Document

Words = Mapping[str, tuple[str, str]]
"""Type of a pydantic error -> what is wrong and a suggestion."""

_WRONG_TYPE: Words = {
    "string_type": ("must be a text", "put the value in quotes"),
    "int_type": ("must be a whole number", "write digits only, without quotes"),
    "int_from_float": ("must be a whole number", "write digits only, without quotes"),
    "float_type": ("must be a number", "write it without quotes"),
    "finite_number": ("must be a finite number", "change the value"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "tuple_type": ("must be a list", "start each item on its own line with '- '"),
    "model_type": ("must hold keys of its own", "write them indented below it"),
    "dict_type": ("must hold keys of its own", "write them indented below it"),
    "string_too_short": ("must not be empty", "give it a value, or remove the key"),
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}

Root = TypeVar("Root", bound=BaseModel)


def check(
    document: Document, root: type[Root], report: Report, words: Words | None = None
) -> Root | None:
    """Make a model of a document; None where that is not possible, and why has been reported.

    Args:
        document: with a mapping at the top.
        root: the model of the whole file.
        report: gets every problem.
        words: how to put errors that the models of this file have words of their own for.
    """
    try:
        # JSON mode: YAML has the types of JSON, where a list is how a tuple is written.
        return root.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        for detail in _innermost(error.errors(include_url=False)):
            path, models = _resolve(document, detail["loc"], root)
            if detail["input"] is not None or path not in document.refused:
                report(*_explain(document, detail, path, models, {**_WRONG_TYPE, **(words or {})}))
        return None


def _innermost(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only says that something inside is wrong, e.g. a list without valid items."""
    inside = {each["loc"][:depth] for each in details for depth in range(len(each["loc"]))}
    return [each for each in details if each["loc"] not in inside]


def _explain(
    document: Document,
    detail: ErrorDetails,
    path: KeyPath,
    models: Iterable[type[BaseModel]],
    words: Words,
) -> tuple[Position, KeyPath, str, str]:
    kind, last = detail["type"], detail["loc"][-1] if detail["loc"] else ""
    position = document.values[path]
    if kind == "missing" and isinstance(last, int):
        return position, path, f"item {last + 1} is missing", "add it to the list"
    if kind == "missing":
        position = document.keys.get(path, position)
        return position, path, f"`{last}` is missing", f"add `{last}: ...`"
    if kind == "extra_forbidden":
        allowed = {name for model in models for name in model.model_fields}
        suggestion = _suggest(str(last), allowed)
        return document.keys[path], path[:-1], f"unknown key `{last}`", suggestion
    if detail["input"] is None and kind != "value_error":
        return position, path, "has no value", "give it one, or remove the key"
    return position, path, *_wrong_value(kind, detail, words)


def _suggest(given: str, allowed: Iterable[str]) -> str:
    """Name the closest of the allowed words, or all of them."""
    words = sorted(allowed)
    close = get_close_matches(given, words, n=1)
    return f"did you mean `{close[0]}`?" if close else f"allowed: {', '.join(words)}"


def _wrong_value(kind: str, detail: ErrorDetails, words: Words) -> tuple[str, str]:
    context = detail.get("ctx", {})
    if kind in words:
        return words[kind]
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")]
        return _not_allowed(detail["input"], [_yaml(word) for word in allowed])
    if kind in _BOUNDS:
        key, relation = _BOUNDS[kind]
        return f"must be {relation} {context[key]:g}, not {detail['input']}", "change the value"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}", "change the value"
    return (str(context["error"]) if kind == "value_error" else detail["msg"]), ""


def _not_allowed(given: object, allowed: list[str]) -> tuple[str, str]:
    if not isinstance(given, str | int | float):
        return "must be a single value", f"allowed: {', '.join(allowed)}"
    text = _yaml(str(given))
    if text in allowed and isinstance(given, str):
        return f"must be {text}, not a text", "remove the quotes"
    return f"`{text}` is not a possible value", _suggest(text, allowed)


def _yaml(word: str) -> str:
    """The way YAML writes what Python writes as ``True`` or ``False``."""
    return word.lower() if word in ("True", "False") else word


def _resolve(
    document: Document, location: tuple[int | str, ...], root: type[BaseModel]
) -> tuple[KeyPath, list[type[BaseModel]]]:
    """Follow pydantic's location through the document.

    Also returns the models that could hold the deepest value. Parts that are not in the document
    are the tags of unions, which are the names of models and narrow these, or a key that is
    missing.
    """
    path: KeyPath = ()
    holders: list[Any] = []
    here: list[Any] = [root]
    for part in location:
        if (*path, part) in document.values:
            path = (*path, part)
            holders = here
            here = [inner for kind in here for inner in _below(kind, part)]
        else:
            here = [kind for kind in here if getattr(kind, "__name__", "") == part] or here
    return path, [kind for kind in holders if _is_model(kind)]


def _below(kind: Any, part: int | str) -> Iterator[Any]:
    """What an annotation allows for a key, or for an item, of its value."""
    if not _is_model(kind):
        inside = get_args(kind)
    elif part in kind.model_fields:
        inside = (kind.model_fields[part].annotation,)
    else:
        inside = ()
    for annotation in inside:
        yield from _alternatives(annotation)


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
