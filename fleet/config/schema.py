"""What a configuration file may say: strict, frozen models of ``configs/*.yaml``.

Relative paths of files are taken from the folder of the configuration file.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from models.catalog import DEFAULT_MODEL

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
NAME_RULE = "may hold letters, digits, '_', '.' and '-', at most 64, the first a letter or digit"
"""What the pattern of ids and namespaces means, in words."""


class _Section(BaseModel):
    """Base of every part of a configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT`` into ``(width, height)`` pixels; ValueError says what is wrong."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise ValueError(f"must be WIDTHxHEIGHT in pixels, for example 257x257, not '{text}'")
    return int(match[1]), int(match[2])


Size = Annotated[
    tuple[int, int],
    BeforeValidator(lambda value: value if isinstance(value, tuple) else parse_size(str(value))),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$"}),
]
"""``(width, height)`` in pixels, written ``WIDTHxHEIGHT``."""


def _check_redis_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme not in ("redis", "rediss") or not separator or not rest:
        raise ValueError("must be redis://HOST..., or rediss://HOST... for TLS")
    return url


class EmbeddedRedis(_Section):
    """The fleet starts a Redis server of its own on this machine."""

    embedded: Literal[True] = True
    """Start a server on the loopback interface, with a generated password."""
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port; 0 takes any free one."""
    max_memory_mb: int = Field(default=256, ge=16)
    """Most memory the server may use for data, in MiB."""
    namespace: str = Field(default="fleet", pattern=_NAME)
    """Prefix of every key; two fleets on one server need two."""


class ExternalRedis(_Section):
    """A Redis server that somebody else runs."""

    url: Annotated[str, AfterValidator(_check_redis_url)] = Field(repr=False)
    """``redis://user:password@host:port/db``, or ``rediss://`` for TLS; ``${NAME}`` is replaced by
    that environment variable."""
    ca_file: str | None = None
    """Certificate authority that signed the server's certificate; only with ``rediss://``."""
    namespace: str = Field(default="fleet", pattern=_NAME)
    """Prefix of every key; two fleets on one server need two."""

    @model_validator(mode="after")
    def _ca_needs_tls(self) -> Self:
        if self.ca_file is not None and not self.url.startswith("rediss://"):
            raise ValueError("ca_file needs a rediss:// url; without TLS it would do nothing")
        return self


def _redis_kind(value: Any) -> str:
    if isinstance(value, ExternalRedis) or (isinstance(value, dict) and "url" in value):
        return "ExternalRedis"
    return "EmbeddedRedis"


Redis = Annotated[
    Annotated[EmbeddedRedis, Tag("EmbeddedRedis")] | Annotated[ExternalRedis, Tag("ExternalRedis")],
    Discriminator(_redis_kind),
]
"""``url`` present means an existing server."""


class AcceleratorConfig(_Section):
    """Accelerators that the fleet uses on this machine, and how."""

    kind: Literal["cpu", "gpu", "npu", "myriad", "edgetpu", "emulated"]
    """The class of accelerator."""
    device: str | None = Field(default=None, min_length=1)
    """One device by its driver's name for it; without it, every device of the kind."""
    precision: Literal["auto", "f32", "f16", "bf16", "int8"] = "auto"
    """What to compute in; ``auto`` takes what the device does best."""
    lanes: int | None = Field(default=None, ge=1, le=64)
    """Requests in flight together; without it the driver chooses."""


def _accelerators_kind(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "auto"


def _not_empty(value: tuple[AcceleratorConfig, ...]) -> tuple[AcceleratorConfig, ...]:
    if not value:
        raise ValueError("an empty list leaves nothing to run on; write auto to use what is there")
    return value


AcceleratorList = Annotated[
    tuple[AcceleratorConfig, ...],
    AfterValidator(_not_empty),
    Field(json_schema_extra={"minItems": 1}),
]
Accelerators = Annotated[
    Annotated[Literal["auto"], Tag("auto")] | Annotated[AcceleratorList, Tag("list")],
    Discriminator(_accelerators_kind),
]
"""``auto`` takes every accelerator that is found."""


class StreamConfig(_Section):
    """A stream that runs from the start."""

    id: str = Field(pattern=_NAME)
    """Its name in commands, keys and reports; unique in the file."""
    url: str = Field(min_length=1, repr=False)
    """Where frames come from, e.g. ``rtsp://camera/path``, a file or ``sample:``; ``${NAME}`` is
    replaced by that environment variable, and a relative path is taken from this file's folder."""
    fps: float | None = Field(default=None, gt=0)
    """Most frames a second to process; without it, what the source delivers."""
    model: str | None = Field(default=None, min_length=1)
    """Network of this stream; without it, the fleet's `model`."""
    track: bool = True
    """Give every person an id that it keeps from frame to frame."""


class RayConfig(_Section):
    """The local Ray that starts the agents."""

    cpus: int | None = Field(default=None, ge=1)
    """Cores that Ray may give away; without it, all of them."""
    object_store_mb: int = Field(default=75, ge=75)
    """Shared memory for objects, in MiB; Ray accepts no less than 75."""


class FleetConfig(_Section):
    """A whole configuration file."""

    version: Literal[1]
    """Version of this file format."""
    redis: Redis = EmbeddedRedis()
    """Where the fleet's state and the poses live."""
    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    """Network of every stream that does not name its own."""
    size: Size | None = None
    """Input size of the networks, ``WIDTHxHEIGHT`` in pixels; without it, each network's own."""
    accelerators: Accelerators = "auto"
    """Which accelerators to use: ``auto``, or a list."""
    streams: tuple[StreamConfig, ...] = ()
    """Streams that run from the start; more can be added while the fleet runs."""
    ray: RayConfig = RayConfig()
    """Limits of the local Ray."""


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration file, for editors and other tools."""
    schema = FleetConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
