"""Values of options that need checking, without importing what defines them until one is given."""

import typing

import typer

if typing.TYPE_CHECKING:
    from agents.accelerators.base import Precision


def parse_precision(text: str | None) -> "Precision | None":
    """Read a precision; None stays None.

    Raises:
        typer.BadParameter: there is no such precision.
    """
    if text is None:
        return None
    from agents.accelerators.base import Precision

    for known in typing.get_args(Precision):
        if text.lower() == known:
            return typing.cast("Precision", known)
    known_ones = ", ".join(typing.get_args(Precision))
    raise typer.BadParameter(f"`{text}` is none of {known_ones}", param_hint="--precision")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read ``WIDTHxHEIGHT``; None stays None.

    Raises:
        typer.BadParameter: it is no size.
    """
    if text is None:
        return None
    from fleet.config.schema import parse_size as parse

    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
