"""What a network takes and gives: input size, colors and scaling; outputs by role."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from models.errors import ManifestError
from models.manifest.fields import Positive, Strict, Text


def _each_channel(value: Any) -> Any:
    """Let one number stand for three channels."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value,) * 3
    if isinstance(value, list | tuple) and len(value) == 3:
        return tuple(value)
    raise ValueError("give one number, or three: one a channel")


Channels = Annotated[tuple[float, float, float], BeforeValidator(_each_channel)]
PositiveChannels = Annotated[
    tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ],
    BeforeValidator(_each_channel),
]


class InputSpec(Strict):
    """What the network takes: ``(value - mean) / scale`` of channel values 0..255."""

    layout: Literal["NHWC", "NCHW"]
    """Of the network itself, its maps included; converted, every network takes NHWC."""
    color: Literal["rgb", "bgr"]
    dtype: Literal["float32", "int32", "uint8"] = "float32"
    mean: Channels
    """One number, or one for each channel in the order of `color`."""
    scale: PositiveChannels
    """As `mean`."""
    width: Positive
    """Default input width in pixels."""
    height: Positive
    """Default input height in pixels."""
    step: Positive | None = None
    """A side is valid when it is ``k * step + offset`` pixels, k at least 1; without it, the
    network takes its default size only."""
    offset: Annotated[int, Field(ge=0)] = 1
    """1 for networks whose maps have a cell at both borders, as PoseNet's; 0: multiples of step."""
    keep_aspect: bool = True
    """Pad frames of another shape with zeros instead of stretching them."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for side in (self.width, self.height):
            if side not in self._nearest(side, side):
                raise ValueError(f"default side {side} does not fit: sides are {self._rule}")
        if self.dtype != "float32" and set(self.mean + self.scale) != {0.0, 1.0}:
            raise ValueError(f"an input of {self.dtype} has mean 0 and scale 1")
        return self

    @property
    def _rule(self) -> str:
        return f"k * {self.step} + {self.offset}" if self.offset else f"multiples of {self.step}"

    def _nearest(self, side: int, default: int) -> tuple[int, ...]:
        """Return the side itself when it is valid, else the next smaller and larger valid ones."""
        if self.step is None:
            return (default,)
        count = (side - self.offset) // self.step
        if count >= 1 and count * self.step + self.offset == side:
            return (side,)
        near = tuple(k * self.step + self.offset for k in (count, count + 1) if k >= 1)
        return near or (self.step + self.offset,)

    def check_size(self, width: int, height: int) -> None:
        """Accept an input size in pixels.

        Raises:
            ManifestError: the network cannot take it; the hint names the nearest sizes that fit.
        """
        wide = self._nearest(width, self.width)
        high = self._nearest(height, self.height)
        if wide == (width,) and high == (height,):
            return
        nearest = ", ".join(f"{w}x{h}" for h in high for w in wide)
        if self.step is None:
            raise ManifestError(
                f"the network does not take {width}x{height}: it is made for one size",
                hint=f"leave the size out, or ask for {nearest}",
            )
        raise ManifestError(
            f"the network does not take {width}x{height}: sides are {self._rule} pixels",
            hint=f"nearest sizes: {nearest}",
        )


class OutputSpec(Strict):
    """One output of the network, and what makes float maps with positions in pixels of it."""

    tensor: Text
    """The output tensor's name, or a part of it that no other output's name contains."""
    channels: tuple[int, int] | None = None
    """First channel and the one after the last, where several roles share one tensor."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Of quantized outputs: ``value = (stored - zero) * scale``."""
    zero: int = 0
    normalized: bool = False
    """Channels are triples of y, x and score, with y and x in 0..1 of the input's height and width;
    converted, they are pixels."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.channels and not 0 <= self.channels[0] < self.channels[1]:
            raise ValueError(f"channels {list(self.channels)} are not a first and an end after it")
        if self.zero and self.scale is None:
            raise ValueError("zero needs scale")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether the tensor is taken as it is."""
        return self == OutputSpec(tensor=self.tensor)


def _output_kind(value: Any) -> str:
    return "OutputSpec" if isinstance(value, Mapping | OutputSpec) else "text"


Output = Annotated[
    Annotated[Text, Tag("text")] | Annotated[OutputSpec, Tag("OutputSpec")],
    Discriminator(_output_kind),
]
"""The tensor's name is enough where it is taken as it is."""
