"""What every part of a manifest is made of: the strict base class and the field types."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from models.skeletons import SKELETONS


class Strict(BaseModel):
    """A frozen value that accepts no unknown key and converts no type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _inside(path: str) -> str:
    """Refuse paths that leave the folder they are relative to."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def _skeleton(name: str) -> str:
    if name and name not in SKELETONS:
        raise ValueError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ByteCount = Annotated[int, Field(gt=0)]
Positive = Annotated[int, Field(gt=0)]
RelativePath = Annotated[str, AfterValidator(_inside)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Text = Annotated[str, Field(min_length=1)]
WebAddress = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
SkeletonName = Annotated[str, AfterValidator(_skeleton)]
