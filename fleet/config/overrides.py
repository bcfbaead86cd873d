"""What the command line says on top of a configuration file."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from fleet.config.schema import ExternalRedis, FleetConfig, StreamConfig
from fleet.config.urls import absolute_url, check_scheme, network_name, stream_id
from fleet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Overrides:
    """The options of ``fleet up``; empty ones change nothing."""

    streams: Sequence[str] = ()
    """URLs of streams to run."""
    model: str = ""
    redis: str = ""
    """URL of an existing Redis."""
    track: bool | None = None
    """Whether the persons of every stream get track ids; None leaves it to each stream."""


def override(config: FleetConfig, given: Overrides, *, replace_streams: bool) -> FleetConfig:
    """Return the configuration with the command line's wishes.

    Args:
        config: what the file says.
        given: what the command line says.
        replace_streams: its streams take the place of the file's, instead of joining them.

    Raises:
        ConfigError: the Redis URL is none.
        InputError: the scheme of a stream's URL is unknown, or its file is not there.
        ManifestError: there is no such network.
    """
    streams = [] if given.streams and replace_streams else list(config.streams)
    for url in given.streams:
        check_scheme(url)
        name = stream_id(url, {stream.id for stream in streams})
        streams.append(StreamConfig(id=name, url=absolute_url(url)))
    if given.track is not None:
        streams = [stream.model_copy(update={"track": given.track}) for stream in streams]
    changes: dict[str, object] = {"streams": tuple(streams)}
    if given.model:
        changes["model"] = network_name(given.model)
    if given.redis:
        changes["redis"] = _external(given.redis, config.redis.namespace)
    return config.model_copy(update=changes)


def _external(url: str, namespace: str) -> ExternalRedis:
    try:
        return ExternalRedis(url=url, namespace=namespace)
    except ValidationError as error:
        raise ConfigError(
            "--redis: " + error.errors()[0]["msg"].removeprefix("Value error, "),
            hint="for example redis://user:password@host:6379/0",
        ) from error
