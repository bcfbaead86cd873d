"""Convert a network to OpenVINO IR, once, and keep the result in the cache.

Every IR is alike, whatever the network came as: it takes NHWC of any size that the network takes (a
driver reshapes it when it loads it), and gives one float32 tensor a role, maps as NHWC, positions
in input pixels. So drivers and decoders know nothing of layouts, shared tensors or quantization.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

from models.artifacts import (
    FileSet,
    Progress,
    cache_dir,
    cannot_write,
    ensure_files,
    exclusive,
    model_files,
    silent,
    staging,
    verify,
    writing,
)
from models.convert import tfjs, tfjs_layers
from models.convert.restride import restride
from models.errors import ConversionError
from models.manifest import FileSpec, ModelManifest, OutputSpec

CONVERTER_VERSION = 2
"""Counts changes of this conversion that change its result; part of the cache key."""
_NAMES = ("network.xml", "network.bin")
_RECORD = "files.json"
"""Sizes and checksums of the two."""


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """A converted network on disk."""

    path: Path
    """The ``.xml``."""
    weights: Path
    """The ``.bin`` beside it."""
    conversion_s: float
    """How long the conversion took just now, 0 when it came from the cache."""
    outputs: Mapping[str, str]
    """Role -> part of the name of its tensor in the IR, which no other output contains."""


def ensure_ir(manifest: ModelManifest, progress: Progress = silent) -> NetworkFiles:
    """Return the IR of a network; fetch and convert it first where that is not done yet.

    Raises:
        ArtifactError: a file cannot be fetched or stored.
        ConversionError: the network does not convert, or is not what the manifest says.
    """
    _check_convertible(manifest)
    folder = _folder(manifest)
    if _is_complete(folder):
        return _network(manifest, folder, 0.0)
    sources = ensure_files(model_files(manifest), progress)
    with writing(folder), exclusive(folder, progress):
        if _is_complete(folder):  # another process converted it while we waited
            return _network(manifest, folder, 0.0)
        progress(f"converting {manifest.name}", 0, None)
        started = time.monotonic()
        _convert(manifest, sources, folder)
    return _network(manifest, folder, time.monotonic() - started)


def _check_convertible(manifest: ModelManifest) -> None:
    """Say before anything is fetched what cannot run."""
    if manifest.needs:
        raise ConversionError(
            f"{manifest.name} is compiled for an Edge TPU (accelerator kind 'edgetpu'), "
            "and no such device is here to run it",
            hint="plug in a Coral Edge TPU, or run a network that is not compiled for one",
        )


def _folder(manifest: ModelManifest) -> Path:
    """Name a folder after everything that the result depends on."""
    matters = {"format", "files", "input", "outputs", "stride", "variant_of"}
    description = manifest.model_dump(mode="json", include=matters)
    key = json.dumps([CONVERTER_VERSION, openvino.__version__, description])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_dir() / "ir" / f"{manifest.name}-{digest}"


def _network(manifest: ModelManifest, folder: Path, conversion_s: float) -> NetworkFiles:
    outputs = {role: _name_in_ir(manifest, role) for role in manifest.outputs}
    return NetworkFiles(folder / _NAMES[0], folder / _NAMES[1], conversion_s, outputs)


def _name_in_ir(manifest: ModelManifest, role: str) -> str:
    """Outputs that are taken as they are keep their names; in brackets no name contains another."""
    spec = manifest.output(role)
    return spec.tensor if _is_kept(spec, manifest) else f"[{role}]"


def _is_kept(spec: OutputSpec, manifest: ModelManifest) -> bool:
    return spec.is_plain and manifest.input.layout == "NHWC"


def _is_complete(folder: Path) -> bool:
    """Tell whether the IR is there, byte for byte as it was written."""
    try:
        files = [FileSpec(**entry) for entry in json.loads((folder / _RECORD).read_text())]
    except (OSError, ValueError, TypeError):
        return False
    are_all = [file.path for file in files] == list(_NAMES)
    return are_all and not verify(FileSet(folder.name, folder, files, ()))


def _convert(manifest: ModelManifest, sources: Mapping[str, Path], folder: Path) -> None:
    with staging(folder) as partial:
        model = _alike(_read(manifest, sources, partial), manifest)
        try:
            openvino.save_model(model, partial / _NAMES[0], compress_to_fp16=False)
        except RuntimeError as error:  # it hides the operating system's error number
            raise cannot_write(folder, f"OpenVINO says {error}") from error
        _check(model, manifest)
        record = json.dumps([_describe(partial / name) for name in _NAMES])
        for name in _NAMES:
            (partial / name).replace(folder / name)
        (partial / _RECORD).write_text(record)
        # Last: without the record the files before it count as absent.
        (partial / _RECORD).replace(folder / _RECORD)


def _read(manifest: ModelManifest, sources: Mapping[str, Path], partial: Path) -> openvino.Model:
    path = sources[manifest.model_file.path]
    if manifest.format in ("tfjs-graph", "tfjs-layers"):
        path = partial / "graph.pb"
        path.write_bytes(_graph(manifest, sources))
    try:
        # Not `openvino.convert_model`: it gives the same network, seven times slower.
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        if "edgetpu-custom-op" in str(error):
            raise ConversionError(
                f"{manifest.name} is compiled for an Edge TPU and runs on no other device",
                hint="say `needs: edgetpu` in its manifest; elsewhere run the file it was made of",
            ) from error
        raise ConversionError(f"OpenVINO cannot read {manifest.name}: {error}") from error


def _graph(manifest: ModelManifest, sources: Mapping[str, Path]) -> bytes:
    home = manifest.model_file.path.rpartition("/")[0]  # the model file names shards from there
    shards = {
        file.path.removeprefix(f"{home}/"): sources[file.path].read_bytes()
        for file in manifest.files
        if file.role == "shard"
    }
    try:
        document = json.loads(sources[manifest.model_file.path].read_bytes())
        weights = tfjs.read_weights(document["weightsManifest"], shards)
        topology = document["modelTopology"]
        if manifest.format == "tfjs-layers":
            topology, weights = tfjs_layers.graph(topology, weights)
        if manifest.variant_of:
            topology = restride(topology, weights, manifest.stride)
        return tfjs.graph_def(topology, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{manifest.model_file.path} of {manifest.name} is not a TensorFlow.js "
            f"{manifest.format.removeprefix('tfjs-')} model that this converter knows: {error!r}",
            hint="check the manifest's format",
        ) from error


def _describe(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    return {
        "path": path.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()
    }  # fmt: skip


def _alike(model: openvino.Model, manifest: ModelManifest) -> openvino.Model:
    """Return the network with the input and outputs that every IR has; see the top of the file."""
    if len(model.inputs) != 1:
        raise ConversionError(f"{manifest.name} has {len(model.inputs)} inputs, expected one")
    stored = model.input().get_element_type().to_dtype().name
    if stored != manifest.input.dtype:
        raise ConversionError(
            f"{manifest.name} takes {stored}, its manifest says {manifest.input.dtype}",
            hint="correct the manifest's input.dtype",
        )
    roles = find_outputs(manifest, [sorted(output.get_names()) for output in model.outputs])
    if manifest.input.layout == "NCHW":
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        model = steps.build()
    results = []
    for role, index in roles.items():
        result = model.outputs[index].node
        if not _is_kept(manifest.output(role), manifest):
            made = _role_output(result.input_value(0), manifest.output(role), manifest, model)
            made.get_tensor().set_names({f"[{role}]"})
            result = ops.result(made)
        results.append(result)
    # Heads without a role are left out, and with them what only they need.
    return openvino.Model(results, model.get_parameters(), manifest.name)


def _role_output(
    value: openvino.Output, spec: OutputSpec, manifest: ModelManifest, model: openvino.Model
) -> openvino.Output:
    """Cut, dequantize and turn one output into what `OutputSpec` says."""
    rank = value.get_partial_shape().rank.get_length()
    if manifest.input.layout == "NCHW" and rank == 4:
        value = ops.transpose(value, np.array([0, 2, 3, 1])).output(0)
    if spec.channels:
        first, end = spec.channels
        step = np.array([1])
        value = ops.slice(value, np.array([first]), np.array([end]), step, np.array([-1])).output(0)
    if value.get_element_type() != openvino.Type.f32:
        value = ops.convert(value, "f32").output(0)
    if spec.scale is not None:
        centered = ops.subtract(value, np.float32(spec.zero))
        value = ops.multiply(centered, np.float32(spec.scale)).output(0)
    if spec.normalized:
        count = value.get_partial_shape()[-1].get_length() // 3
        size = ops.convert(ops.shape_of(model.input(), "i64"), "f32")
        sides = ops.gather(size, np.array([1, 2]), np.int64(0))
        triple = ops.concat([sides, np.ones(1, np.float32)], 0)
        value = ops.multiply(value, ops.tile(triple, np.array([count]))).output(0)
    return value


def _check(model: openvino.Model, manifest: ModelManifest) -> None:
    """Compare the IR with its manifest: the input size, and the stride at the default size."""
    height, width = manifest.input.height, manifest.input.width
    try:
        model.reshape([1, height, width, 3])
    except RuntimeError as error:
        raise ConversionError(f"{manifest.name} does not take {width}x{height} pixels") from error
    cells = [(side - 1) // manifest.stride + 1 for side in (height, width)]
    for role, output in zip(manifest.outputs, model.outputs, strict=True):
        shape = list(output.shape)
        is_map = len(shape) == 4 and not manifest.output(role).normalized
        if is_map and shape[1:3] != cells:
            raise ConversionError(
                f"output {role} of {manifest.name} is {shape} for {width}x{height} pixels: "
                f"not of stride {manifest.stride}",
                hint="correct the manifest's stride",
            )


def find_outputs(manifest: ModelManifest, names: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return which output has which role, given the tensor names of each output.

    A whole name is preferred to a part of one.

    Raises:
        ConversionError: a role fits no output, or more than one.
    """
    roles = {}
    for role in manifest.outputs:
        fragment = manifest.output(role).tensor
        fits = [index for index, known in enumerate(names) if fragment in known]
        fits = fits or [i for i, known in enumerate(names) if any(fragment in n for n in known)]
        if len(fits) != 1:
            raise ConversionError(
                f"{len(fits)} outputs of {manifest.name} have {fragment!r} in their name, "
                f"expected one, for the role {role}",
                hint=f"the outputs are {', '.join(n for known in names for n in known)}",
            )
        roles[role] = fits[0]
    return roles
