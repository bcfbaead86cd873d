"""OpenVINO devices (CPU, GPU, NPU): asynchronous requests whose own memory the pipeline writes to.

The inference precision is always set explicitly: left alone, OpenVINO computes in bf16 on CPUs
that have it, which moves keypoints by up to 21 px.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from agents.accelerators.base import Lane, NetworkFile, Precision
from agents.errors import AcceleratorError, AcceleratorLost

_log = logging.getLogger(__name__)

_TYPES: dict[Precision, Any] = {"f32": ov.Type.f32, "f16": ov.Type.f16, "bf16": ov.Type.bf16}
_KINDS = {"CPU": "cpu", "GPU": "gpu", "NPU": "npu"}
_SPARE_LANES = 1
"""Requests beyond the device's own streams: while one lane resizes or groups, the device still has
work. PoseNet 075 in bf16 on 2 cores, frames in memory: 1.02 to 1.09 times the frames with one, 1.02
to 1.13 with two (medians of nine interleaved rounds, four runs): the second is not worth the memory
and the latency."""


class OpenVinoLane:
    """One infer request; `input` and `outputs` are views of its own tensors."""

    def __init__(self, request: ov.InferRequest, outputs: Mapping[str, str]) -> None:
        self._request = request
        self.input: NDArray[np.uint8] = request.get_input_tensor().data[0]
        self.outputs: Mapping[str, NDArray[np.float32]] = {
            role: request.get_tensor(name).data[0] for role, name in outputs.items()
        }

    def start(self) -> None:
        """Start inference on what `input` holds."""
        try:
            self._request.start_async()
        except RuntimeError as error:
            raise AcceleratorLost(f"inference does not start: {_cause(error)}") from error

    def wait(self) -> None:
        """Block without the interpreter lock until the started inference is done."""
        try:
            self._request.wait()
        except RuntimeError as error:
            raise AcceleratorLost(f"inference failed: {_cause(error)}") from error


class OpenVinoSession:
    """A compiled network with its requests."""

    def __init__(self, compiled: ov.CompiledModel, lanes: int, roles: Mapping[str, str]) -> None:
        self._compiled: ov.CompiledModel | None = compiled
        self.precision: Precision = _name_of(compiled.get_property("INFERENCE_PRECISION_HINT"))
        names = _names_by_role(compiled, roles)
        self.lanes: Sequence[Lane] = [
            OpenVinoLane(compiled.create_infer_request(), names) for _ in range(lanes)
        ]

    def close(self) -> None:
        """Drop the requests and the compiled network."""
        self.lanes = ()
        self._compiled = None


class OpenVinoAccelerator:
    """One OpenVINO device."""

    def __init__(self, core: ov.Core, device: str) -> None:
        self._core = core
        self._device = device

    def load(
        self, network: NetworkFile, *, precision: Precision | None = None, lanes: int | None = None
    ) -> OpenVinoSession:
        """Compile a network for throughput; None picks the fastest precision of the device."""
        supported = _precisions(self._core, self._device)
        chosen = precision or supported[0]
        if chosen not in supported:
            raise AcceleratorError(
                f"{self._device} does not compute in {chosen}",
                hint=f"use one of: {', '.join(supported)}",
            )
        try:
            compiled = self._core.compile_model(
                _with_byte_input(self._core.read_model(network.path), network),
                self._device,
                {"INFERENCE_PRECISION_HINT": _TYPES[chosen], "PERFORMANCE_HINT": "THROUGHPUT"},
            )
        except RuntimeError as error:
            raise AcceleratorError(
                f"{network.path.name} does not load on {self._device}: {_cause(error)}",
                hint="run `fleet models verify`; if the files are intact, try another --size",
            ) from error
        streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        return OpenVinoSession(compiled, lanes or streams + _SPARE_LANES, network.outputs)

    def close(self) -> None:
        """Nothing to release: sessions hold the device's resources."""


class OpenVinoDriver:
    """Finds and opens OpenVINO devices."""

    def __init__(self) -> None:
        self._core = ov.Core()

    def probe(self) -> Sequence[Mapping[str, Any]]:
        """List the devices of OpenVINO's own plugins, without virtual ones such as AUTO."""
        found = []
        for device in self._core.available_devices:
            kind = _KINDS.get(device.split(".")[0])
            if kind is None:
                continue
            try:
                name = str(self._core.get_property(device, "FULL_DEVICE_NAME")).strip()
                precisions = _precisions(self._core, device)
            except RuntimeError as error:
                _log.warning("device %s does not say what it is: %s", device, _cause(error))
                continue
            found.append({"kind": kind, "device": device, "name": name, "precisions": precisions})
        return found

    def open(self, device: str) -> OpenVinoAccelerator:
        """Open a device by OpenVINO's name for it (``CPU``, ``GPU.0``)."""
        available = self._core.available_devices
        if device not in available:
            raise AcceleratorError(
                f"OpenVINO sees no device {device!r}", hint=f"it sees: {', '.join(available)}"
            )
        return OpenVinoAccelerator(self._core, device)


def _with_byte_input(model: ov.Model, network: NetworkFile) -> ov.Model:
    """Reshape to the input size and put ``(bytes - mean) / scale`` into the graph.

    In the graph, fused by the compiler, it costs .08 ms at 257x257; a float copy on our side would
    cost more than resizing the frame.
    """
    width, height = network.size
    model.reshape([1, height, width, 3])
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NHWC"))
    mean, scale = (np.ravel(value).tolist() for value in (network.mean, network.scale))
    if any(mean) or set(scale) != {1.0}:  # else bytes become the network's own type, e.g. int32
        convert = steps.input().preprocess().convert_element_type(ov.Type.f32)
        convert.mean(mean if len(mean) > 1 else mean[0])
        convert.scale(scale if len(scale) > 1 else scale[0])
    return steps.build()


def _names_by_role(compiled: ov.CompiledModel, roles: Mapping[str, str]) -> dict[str, str]:
    outputs = [output.get_names() for output in compiled.outputs]
    names: dict[str, str] = {}
    for role, fragment in roles.items():
        found = [each for each in outputs if any(fragment in name for name in each)]
        if len(found) != 1:
            there = ", ".join(min(each, default="(no name)") for each in outputs)
            raise AcceleratorError(
                f"the network has {len(found)} outputs named like {fragment!r} for role {role!r}",
                hint=f"its outputs: {there}; is this the network that the manifest describes?",
            )
        names[role] = min(found[0])
    return names


def _precisions(core: ov.Core, device: str) -> tuple[Precision, ...]:
    """Return what the device computes floating point in, fastest first."""
    capabilities = set(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    names: dict[str, Precision] = {"BF16": "bf16", "FP16": "f16", "FP32": "f32"}
    return tuple(names[key] for key in names if key in capabilities)


def _name_of(element_type: Any) -> Precision:
    for name, known in _TYPES.items():
        if element_type == known:
            return name
    raise AcceleratorError(f"OpenVINO reports an unknown precision {element_type}")


def _cause(error: Exception) -> str:
    """Return the last meaningful line of OpenVINO's many-line messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
