"""Errors of the fleet package; each carries the exit code and the next step for the operator."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; part of its contract."""

    OK = 0
    FAILED = 1
    """Something went wrong that no other code describes."""
    USAGE = 2
    """The command line itself is wrong (also what Typer uses)."""
    INPUT = 3
    """A picture, video, configuration or other input is missing or unusable."""
    MODEL = 4
    """A network is unknown, cannot be fetched or verified, or does not convert."""
    ACCELERATOR = 5
    """An accelerator is missing or refuses the network."""
    NO_FLEET = 6
    """The command needs a running fleet and there is none."""
    CONFLICT = 7
    """A fleet is already running here, a port is taken, a stream id exists."""
    UNHEALTHY = 8
    """`fleet doctor` found an error."""
    INTERRUPTED = 130
    """Ended by Ctrl-C (128 + SIGINT)."""


class FleetError(Exception):
    """Something failed; ``hint`` is the next step for the operator, empty when there is none."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(FleetError):
    """A configuration file is missing or wrong; the message names file and line."""

    exit_code = ExitCode.INPUT


class InputError(FleetError):
    """A picture, video or folder is missing or unusable."""

    exit_code = ExitCode.INPUT


class NoFleetError(FleetError):
    """There is no running fleet to talk to."""

    exit_code = ExitCode.NO_FLEET


class ConflictError(FleetError):
    """Something is already there: a fleet, a listener on the port, a stream of that id."""

    exit_code = ExitCode.CONFLICT


class StoreError(FleetError):
    """The fleet's Redis cannot be reached or refuses us."""
