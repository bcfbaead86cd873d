"""Configuration file -> `FleetConfig`, with file, line, column and a suggestion in every error.

All errors of a file are reported together; only text that is not YAML at all ends at the first.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet.config.schema import NAME_RULE, FleetConfig, parse_size
from fleet.config.urls import anchored_url, check_scheme, is_manifest_path
from fleet.errors import ConfigError, InputError
from models.catalog import DEFAULT_MODEL, load_manifest
from models.document import Document, KeyPath, Problem, Problems, Report, check, read_document
from models.errors import ManifestError

DEFAULT_CONFIG = Path(__file__).with_name("default.yaml")
"""What a bare `fleet up` reads."""

_WORDS = {
    # Every pattern of a configuration is that of names; only a rate can be infinite.
    "string_pattern_mismatch": (NAME_RULE, "choose another name"),
    "finite_number": ("must be a finite number", "leave the key out for no limit"),
}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class InvalidConfigError(ConfigError):
    """The file can be read but not used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        if len(lines) > 1:
            lines.insert(0, f"{self.problems[0].file} has {len(lines)} errors:")
        super().__init__(
            "\n  ".join(lines), hint="`fleet config schema` prints every key and its values"
        )


def load_config(path: Path | None = None) -> FleetConfig:
    """Read and check a configuration file; None reads the packaged default.

    Raises:
        ConfigError: the file cannot be read.
        InvalidConfigError: the file is wrong; every problem is in it.
    """
    path = path or DEFAULT_CONFIG
    return parse_config(_read_text(path), str(path))


def parse_config(text: str, file: str) -> FleetConfig:
    """Check the text of a configuration; ``file`` is its name in errors.

    Raises:
        InvalidConfigError: the text is wrong; every problem is in it.
    """
    problems = Problems(file)
    report = problems.report
    document = read_document(text, report)
    config = None
    if document is not None and not isinstance(document.data, dict):
        report((1, 1), (), "the file holds no keys", "start with `version: 1`")
    elif document is not None:
        _replace_variables(document, report)
        _anchor_paths(document.data, Path(file).parent)
        config = check(document, FleetConfig, report, _WORDS)
        _check_names(document, report)
    found = problems.in_order()
    if found or config is None:
        raise InvalidConfigError(found)
    return config


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration file {path}", hint="check the path, or leave it out for the default"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="give the path of a readable YAML file"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - (error.object.rfind(b"\n", 0, error.start) + 1) + 1
        problem = Problem(str(path), line, column, "", "not UTF-8 text", "save the file as UTF-8")
        raise InvalidConfigError([problem]) from error


def _replace_variables(document: Document, report: Report) -> None:
    """Put environment variables into the URLs, the only values that hold secrets."""
    for holder, path in _url_holders(document.data):
        url = holder["url"]
        missing = [name for name in _VARIABLE.findall(url) if name not in os.environ]
        for name in missing:
            report(
                document.values[path], path, f"environment variable {name} is not set",
                f"export {name}=..., or write the value into the URL",
            )  # fmt: skip
        if not missing:
            holder["url"] = _VARIABLE.sub(lambda match: os.environ[match[1]], url)


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Take relative paths of files from the folder of the configuration, wherever it is read."""
    streams = data.get("streams")
    sections = [data, *(streams if isinstance(streams, list) else ())]
    for section in sections:
        if not isinstance(section, dict):
            continue
        if isinstance(section.get("url"), str):
            section["url"] = anchored_url(section["url"], folder)
        if isinstance(section.get("model"), str) and is_manifest_path(section["model"]):
            section["model"] = str(folder.absolute() / section["model"])
    redis = data.get("redis")
    if isinstance(redis, dict) and isinstance(redis.get("ca_file"), str):
        redis["ca_file"] = str(folder.absolute() / redis["ca_file"])


def _url_holders(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    sections: list[tuple[Any, KeyPath]] = [(data.get("redis"), ("redis", "url"))]
    streams = data.get("streams")
    if isinstance(streams, list):
        sections += [(stream, ("streams", i, "url")) for i, stream in enumerate(streams)]
    for section, path in sections:
        if isinstance(section, dict) and isinstance(section.get("url"), str):
            yield section, path


def _check_names(document: Document, report: Report) -> None:
    """Find ids that are used twice, and networks and schemes that nobody knows."""
    models: list[tuple[Any, KeyPath]] = [(document.data.get("model", DEFAULT_MODEL), ("model",))]
    streams = document.data.get("streams")
    first_line: dict[str, int] = {}
    for index, stream in enumerate(streams if isinstance(streams, list) else ()):
        if not isinstance(stream, dict):
            continue
        models.append((stream.get("model"), ("streams", index, "model")))
        _check_url(stream.get("url"), ("streams", index, "url"), document, report)
        name = stream.get("id")
        if not isinstance(name, str):
            continue
        path: KeyPath = ("streams", index, "id")
        line = document.values[path][0]
        if name in first_line:
            message = f"the id `{name}` is already used in line {first_line[name]}"
            report(document.values[path], path, message, "give each stream an id of its own")
        first_line.setdefault(name, line)
    for model, path in models:
        if isinstance(model, str) and model:
            _check_model(model, path, document, report)


def _check_url(url: Any, path: KeyPath, document: Document, report: Report) -> None:
    try:
        if isinstance(url, str):
            check_scheme(url)
    except InputError as error:
        report(document.values[path], path, str(error), error.hint)


def _check_model(model: str, path: KeyPath, document: Document, report: Report) -> None:
    """Find a network that the catalog does not have, and an input size that it does not take."""
    try:
        manifest = load_manifest(model)
    except ManifestError as error:
        report(document.values.get(path, (1, 1)), path, str(error), error.hint)
        return
    size = document.data.get("size")
    try:
        pixels = parse_size(size) if isinstance(size, str) else None
    except ValueError:
        pixels = None  # The schema has said so.
    try:
        if pixels:
            manifest.input.check_size(*pixels)
    except ManifestError as error:
        report(document.values[("size",)], ("size",), f"{model}: {error}", error.hint)
