"""What the OpenVINO driver makes of a device that fails, which no real one does on demand."""

from types import SimpleNamespace

import numpy as np
import pytest

from agents.accelerators.openvino_runtime import OpenVinoDriver, OpenVinoLane
from agents.errors import AcceleratorLost

MANY_LINES = "Exception from src/inference/src/cpp/core.cpp:1:\nException from x.cpp:2\n\ncause\n"


class Core:
    """An OpenVINO with a virtual device, a healthy one and one whose driver is broken."""

    available_devices = ("AUTO", "GPU.0", "CPU")

    def get_property(self, device, name):
        if device == "GPU.0":
            raise RuntimeError(MANY_LINES)
        return {"FULL_DEVICE_NAME": " A processor ", "OPTIMIZATION_CAPABILITIES": ["FP32"]}[name]


class Request:
    """An infer request of a device that can be unplugged."""

    def __init__(self):
        self.fails_at = ""

    def get_input_tensor(self):
        return SimpleNamespace(data=np.zeros((1, 2, 2, 3), np.uint8))

    def start_async(self):
        if self.fails_at == "start":
            raise RuntimeError(MANY_LINES)

    def wait(self):
        if self.fails_at == "wait":
            raise RuntimeError(MANY_LINES)


def test_a_device_that_does_not_answer_is_left_out_and_said(caplog):
    driver = OpenVinoDriver()
    driver._core = Core()
    assert driver.probe() == [
        {"kind": "cpu", "device": "CPU", "name": "A processor", "precisions": ("f32",)}
    ]
    assert "GPU.0" in caplog.text
    assert "cause" in caplog.text


@pytest.mark.parametrize("step", ["start", "wait"])
def test_a_device_that_vanishes_is_lost_with_its_cause(step):
    request = Request()
    lane = OpenVinoLane(request, {})
    lane.start()
    lane.wait()
    request.fails_at = step
    with pytest.raises(AcceleratorLost, match=r"inference .*: cause$"):
        getattr(lane, step)()
