"""What pydantic found wrong, said for the person who wrote the file."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from fleet.config.document import Document, KeyPath, Position
from fleet.config.schema import NAME_RULE, FleetConfig

_WRONG_TYPE = {
    "string_type": ("must be a text", "put the value in quotes"),
    "int_type": ("must be a whole number", "write digits only, without quotes"),
    "int_from_float": ("must be a whole number", "write digits only, without quotes"),
    "float_type": ("must be a number", "write it without quotes"),
    "finite_number": ("must be a finite number", "leave the key out for no limit"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "tuple_type": ("must be a list", "start each item on its own line with '- '"),
    "model_type": ("must hold keys of its own", "write them indented below it"),
    "string_too_short": ("must not be empty", "give it a value, or remove the key"),
    "string_pattern_mismatch": (NAME_RULE, "choose another name"),
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(document: Document, detail: ErrorDetails) -> tuple[Position, KeyPath, str, str]:
    """Return position, path, what is wrong and a suggestion."""
    path, models = _resolve(document, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        name = str(detail["loc"][-1])
        position = document.values[path]
        return position, path, f"`{name}` is missing", f"add `{name}: ...`"
    position = document.values[path]
    if kind == "extra_forbidden":
        allowed = {name for model in models for name in model.model_fields}
        used = detail["loc"][-1]
        parent = path[:-1]
        return document.keys[path], parent, f"unknown key `{used}`", suggest(str(used), allowed)
    if detail["input"] is None and kind != "value_error":
        return position, path, "has no value", "give it one, or remove the key"
    return position, path, *_wrong_value(kind, detail, context)


def suggest(given: str, allowed: Iterable[str], label: str = "allowed") -> str:
    """Name the closest of the allowed words, or all of them."""
    words = sorted(allowed)
    close = get_close_matches(given, words, n=1)
    return f"did you mean `{close[0]}`?" if close else f"{label}: {', '.join(words)}"


def _wrong_value(kind: str, detail: ErrorDetails, context: Mapping[str, Any]) -> tuple[str, str]:
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")]
        return _not_allowed(detail["input"], [_yaml(word) for word in allowed])
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {context[key]:g}, not {detail['input']}", "change the value"
    if kind in _WRONG_TYPE:
        return _WRONG_TYPE[kind]
    message = str(context["error"]) if kind == "value_error" else detail["msg"]
    return message, ""


def _not_allowed(given: object, allowed: list[str]) -> tuple[str, str]:
    if not isinstance(given, str | int | float):
        return "must be a single value", f"allowed: {', '.join(allowed)}"
    text = _yaml(str(given))
    if text in allowed and isinstance(given, str):
        return f"must be {text}, not a text", "remove the quotes"
    return f"`{text}` is not a possible value", suggest(text, allowed)


def _yaml(word: str) -> str:
    """The way YAML writes what Python writes as ``True`` or ``False``."""
    return word.lower() if word in ("True", "False") else word


def _resolve(
    document: Document, location: tuple[int | str, ...]
) -> tuple[KeyPath, tuple[type[BaseModel], ...]]:
    """Follow pydantic's location through the document.

    Also returns the models that could stand at the deepest mapping. Parts that are not in the
    document are the tags of unions, which narrow those models, or a key that is missing.
    """
    path: KeyPath = ()
    models: tuple[type[BaseModel], ...] = (FleetConfig,)
    holders = models
    for part in location:
        if (*path, part) in document.values:
            path = (*path, part)
            holders = models
            if isinstance(part, str):
                models = tuple(
                    inner
                    for model in models
                    if part in model.model_fields
                    for inner in _models_in(model.model_fields[part].annotation)
                )
        else:
            models = tuple(model for model in models if model.__name__ == part) or models
    return path, holders


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for inner in get_args(annotation) for model in _models_in(inner))
