"""Convert a network to OpenVINO IR, once, and keep the result in the cache.

The IR is float32 and takes any input size; a driver reshapes it when it loads it.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino

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
from models.convert import tfjs
from models.errors import ConversionError
from models.manifest import FileSpec, ModelManifest

CONVERTER_VERSION = 1
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


def ensure_ir(manifest: ModelManifest, progress: Progress = silent) -> NetworkFiles:
    """Return the IR of a network; fetch and convert it first where that is not done yet.

    Raises:
        ArtifactError: a file cannot be fetched or stored.
        ConversionError: the network does not convert, or is not what the manifest says.
    """
    folder = _folder(manifest)
    if _is_complete(folder):
        return _network(folder, 0.0)
    sources = ensure_files(model_files(manifest), progress)
    with writing(folder), exclusive(folder, progress):
        if _is_complete(folder):  # another process converted it while we waited
            return _network(folder, 0.0)
        progress(f"converting {manifest.name}", 0, None)
        started = time.monotonic()
        _convert(manifest, sources, folder)
    return _network(folder, time.monotonic() - started)


def _folder(manifest: ModelManifest) -> Path:
    """Name a folder after everything that the result depends on."""
    matters = {"format", "files", "input", "outputs", "stride"}
    description = manifest.model_dump(mode="json", include=matters)
    key = json.dumps([CONVERTER_VERSION, openvino.__version__, description])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_dir() / "ir" / f"{manifest.name}-{digest}"


def _network(folder: Path, conversion_s: float) -> NetworkFiles:
    return NetworkFiles(folder / _NAMES[0], folder / _NAMES[1], conversion_s)


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
        graph = partial / "graph.pb"
        graph.write_bytes(_graph(manifest, sources))
        try:
            # Not `openvino.convert_model`: it gives the same network, seven times slower.
            model = openvino.Core().read_model(graph)
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO cannot read {manifest.name}: {error}") from error
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


def _graph(manifest: ModelManifest, sources: Mapping[str, Path]) -> bytes:
    shards = {
        file.path: sources[file.path].read_bytes()
        for file in manifest.files
        if file.role == "shard"
    }
    try:
        document = json.loads(sources[manifest.model_file.path].read_bytes())
        weights = tfjs.read_weights(document["weightsManifest"], shards)
        return tfjs.graph_def(document["modelTopology"], weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{manifest.model_file.path} of {manifest.name} is not a TensorFlow.js graph model "
            f"that this converter knows: {error!r}",
            hint="check the manifest's format",
        ) from error


def _describe(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    return {
        "path": path.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()
    }  # fmt: skip


def _check(model: openvino.Model, manifest: ModelManifest) -> None:
    """Compare the network with its manifest: inputs, roles, and the stride at the default size."""
    if len(model.inputs) != 1:
        raise ConversionError(f"{manifest.name} has {len(model.inputs)} inputs, expected one")
    names = [sorted(output.get_names()) for output in model.outputs]
    roles = find_outputs(manifest, names)
    height, width = manifest.input.height, manifest.input.width
    try:
        model.reshape([1, height, width, 3])
    except RuntimeError as error:
        raise ConversionError(f"{manifest.name} does not take {width}x{height} pixels") from error
    cells = [(side - 1) // manifest.stride + 1 for side in (height, width)]
    for role, index in roles.items():
        shape = list(model.outputs[index].shape)
        if shape[1:3] != cells:
            raise ConversionError(
                f"output {role} of {manifest.name} is {shape} for {width}x{height} pixels: "
                f"not of stride {manifest.stride}",
                hint="correct the manifest's stride",
            )


def find_outputs(manifest: ModelManifest, names: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return which output has which role, given the tensor names of each output.

    Raises:
        ConversionError: a role fits no output, or more than one.
    """
    roles = {}
    for role, fragment in manifest.outputs.items():
        fits = [index for index, known in enumerate(names) if any(fragment in n for n in known)]
        if len(fits) != 1:
            raise ConversionError(
                f"{len(fits)} outputs of {manifest.name} have {fragment!r} in their name, "
                f"expected one, for the role {role}",
                hint=f"the outputs are {', '.join(n for known in names for n in known)}",
            )
        roles[role] = fits[0]
    return roles
