"""ModelManifest: the frozen, validated description of one network."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models.manifest.fields import Name, Positive, SkeletonName, Strict, Text, WebAddress
from models.manifest.sources import ModelFile, Source, Upstream
from models.manifest.tensors import InputSpec, Output, OutputSpec


class DecoderSpec(Strict):
    """Which decoder turns the outputs into poses, and its options."""

    name: Name
    options: Mapping[str, Any] = {}


class Published(Strict):
    """An accuracy that somebody published for these weights."""

    metric: Text
    value: float
    data: Text
    """What it was measured on."""
    source: WebAddress


class ModelManifest(Strict):
    """Everything that the fleet knows about one network."""

    name: Name
    title: Text
    aliases: tuple[Name, ...] = ()
    """Other names that the catalog resolves to this one."""
    task: Literal["pose", "classify"]
    license: Text
    """SPDX expression of the weights."""
    attribution: Text
    homepage: WebAddress
    accuracy: tuple[Published, ...] = ()
    format: Literal["tfjs-graph", "tfjs-layers", "onnx", "tflite", "openvino-ir"]
    files: tuple[ModelFile, ...] = ()
    """Empty where no checksums are known; then `upstream` says so."""
    sources: tuple[Source, ...] = ()
    """Tried in this order."""
    upstream: Upstream | None = None
    """For a network without sources: where it is, for a person to fetch it."""
    needs: Literal["edgetpu"] | None = None
    """The one kind of accelerator that files compiled for it run on."""
    input: InputSpec
    outputs: Annotated[Mapping[str, Output], Field(min_length=1)]
    """Role -> part of the output tensor's name, or an `OutputSpec`."""
    stride: Positive = 1
    """Input pixels a heatmap cell; networks that find poses say it."""
    strides: tuple[Positive, ...] = ()
    """Output strides that can be made of the same weights, each a network of its own called
    ``NAME-strideN``."""
    variant_of: Name | None = None
    """The network whose files this one shares; its graph is made into `stride`."""
    skeleton: SkeletonName = ""
    """Of the poses; empty for networks that find none."""
    decoder: DecoderSpec

    @model_validator(mode="after")
    def _files_fit_together(self) -> Self:
        if self.files and sum(file.role == "model" for file in self.files) != 1:
            raise ValueError("exactly one file must have the role 'model'")
        if len({file.path for file in self.files}) != len(self.files):
            raise ValueError("two files have the same path")
        if not self.files and self.sources:
            raise ValueError("sources are of no use without files")
        if not (self.files and self.sources) and self.upstream is None:
            raise ValueError("give files and sources, or say in upstream where the network is")
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        is_pose = self.task == "pose"
        given = {"stride": "stride" in self.model_fields_set, "skeleton": bool(self.skeleton)}
        if not is_pose:
            given["stride"] = self.stride != 1
        for key, is_given in given.items():
            if is_pose and not is_given:
                raise ValueError(f"{key}: this key is missing")
            if not is_pose and is_given:
                raise ValueError(f"{key}: only networks that find poses have one")
        labels = sum(file.role == "labels" for file in self.files)
        if labels != (0 if is_pose or not self.files else 1):
            raise ValueError("exactly one file has the role 'labels' where the task is classify")
        return self

    @model_validator(mode="after")
    def _strides_can_be_made(self) -> Self:
        if self.strides and self.format != "tfjs-graph":
            raise ValueError("other strides are made of the format tfjs-graph only")
        return self

    @property
    def model_file(self) -> ModelFile:
        """The file that a converter opens."""
        return next(file for file in self.files if file.role == "model")

    @property
    def labels_file(self) -> ModelFile:
        """The names of what a network of the task ``classify`` tells apart."""
        return next(file for file in self.files if file.role == "labels")

    @property
    def can_fetch(self) -> bool:
        """Whether there is a source to fetch the files from, and a checksum for each."""
        return bool(self.files and self.sources)

    def output(self, role: str) -> OutputSpec:
        """Return the full description of an output."""
        found = self.outputs[role]
        return OutputSpec(tensor=found) if isinstance(found, str) else found

    def at_stride(self, stride: int) -> "ModelManifest":
        """Return the network that has another output stride but the same files."""
        given = self.input
        changes = {
            "name": f"{self.name}-stride{stride}",
            "title": f"{self.name} made into stride {stride}",
            "aliases": tuple(f"{alias}-stride{stride}" for alias in self.aliases),
            "input": given.model_copy(update={"step": stride}),
            "stride": stride,
            "strides": (),
            "variant_of": self.variant_of or self.name,
            "accuracy": (),
        }
        return type(self).model_validate(self.model_copy(update=changes).model_dump())
