"""One behaviour suite for every accelerator driver, run on each device that is here."""

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny_network

from agents.accelerators import ACCELERATORS, driver_names, load_driver
from agents.accelerators.base import NetworkFile
from agents.errors import AcceleratorError
from agents.wire.messages import AcceleratorInfo
from models.convert.openvino_ir import ensure_ir

pytestmark = pytest.mark.integration

SIZE = (65, 49)
CELLS = (4, 5)
TOLERANCE = {"f32": 1e-5, "f16": 5e-3, "bf16": 5e-2}
"""Largest error, as a part of the largest value: some units of each format's last place."""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Four 1x1 convolutions with known weights, as a driver is given them."""
    folder = tmp_path_factory.mktemp("network")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        manifest = tiny_network.write(folder / "published")
        path = ensure_ir(manifest).path
    scaling = (manifest.input.mean, manifest.input.scale)
    return NetworkFile(path, SIZE, *scaling, manifest.outputs)


@pytest.fixture(params=ACCELERATORS)
def driver(request):
    """A driver whose vendor library and device are here."""
    try:
        driver = load_driver(request.param)
    except AcceleratorError as error:
        pytest.skip(str(error))
    if not driver.probe():
        pytest.skip(f"driver {request.param} finds no device here")
    return driver


@pytest.fixture
def fields(driver):
    """What the driver says of its first device."""
    return driver.probe()[0]


@pytest.fixture
def accelerator(driver, fields):
    opened = driver.open(fields["device"])
    yield opened
    opened.close()


@pytest.fixture
def load(accelerator, network):
    """Load the network, or one that differs from it; closed after the test."""
    sessions = []

    def load(precision="f32", lanes=None, **changes):
        changed = dataclasses.replace(network, **changes)
        sessions.append(accelerator.load(changed, precision=precision, lanes=lanes))
        return sessions[-1]

    yield load
    for session in sessions:
        session.close()


def picture(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def expected(pixels):
    """Compute the four outputs: each cell sees one pixel of every stride."""
    cells = (pixels[:: tiny_network.STRIDE, :: tiny_network.STRIDE] - np.float32(127.5)) / 127.5
    return {name: cells @ kernel[0, 0] for name, kernel in tiny_network.kernels().items()}


def run(lane, pixels):
    lane.input[:] = pixels
    lane.start()
    lane.wait()
    return {role: tensor.copy() for role, tensor in lane.outputs.items()}


def worst_error(outputs, pixels, roles):
    wanted = expected(pixels)
    return max(
        np.abs(tensor - wanted[roles[role]]).max() / np.abs(wanted[roles[role]]).max()
        for role, tensor in outputs.items()
    )


def test_probe_gives_the_fields_of_an_accelerator(driver):
    found = driver.probe()
    for one in found:
        info = AcceleratorInfo.model_validate({"id": "node/x", "driver": "any", **one})
        assert info.name == info.name.strip() != ""
        assert info.precisions
    devices = [one["device"] for one in found]
    assert len(set(devices)) == len(devices)


def test_every_probed_device_can_be_opened(driver):
    for one in driver.probe():
        opened = driver.open(one["device"])
        opened.close()
        opened.close()


def test_an_unknown_device_is_refused_with_the_names_of_those_that_are_there(driver, fields):
    with pytest.raises(AcceleratorError, match="'NO:7'") as caught:
        driver.open("NO:7")
    assert fields["device"] in caught.value.hint


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
def test_it_computes_in_the_precision_that_it_reports(load, fields, network, precision):
    if precision not in fields["precisions"]:
        pytest.skip(f"{fields['device']} does not compute in {precision}")
    session = load(precision)
    error = worst_error(run(session.lanes[0], picture(1)), picture(1), network.outputs)
    assert session.precision == precision
    assert error < TOLERANCE[precision]
    assert precision == "f32" or error > TOLERANCE["f32"], "it computed in f32"


def test_without_a_wish_it_takes_the_first_precision_that_probe_names(load, fields):
    assert load(precision=None).precision == fields["precisions"][0]


def test_a_precision_that_it_lacks_is_refused_with_those_it_has(load, fields):
    lacking = next(p for p in ("int8", "f16", "bf16") if p not in fields["precisions"])
    with pytest.raises(AcceleratorError, match=lacking) as caught:
        load(lacking)
    assert all(precision in caught.value.hint for precision in fields["precisions"])


def test_the_input_and_outputs_are_the_memory_of_the_lane(load, network):
    lane = load(lanes=1).lanes[0]
    given, outputs = lane.input, lane.outputs
    assert (given.shape, given.dtype) == ((SIZE[1], SIZE[0], 3), np.uint8)
    assert given.flags.c_contiguous
    for seed in (1, 2):
        given[:] = picture(seed)
        lane.start()
        lane.wait()
        assert worst_error(outputs, picture(seed), network.outputs) < TOLERANCE["f32"]


def test_outputs_come_by_role_without_a_batch_axis(load, network):
    lane = load(lanes=1).lanes[0]
    channels = {role: tiny_network.HEADS[name] for role, name in network.outputs.items()}
    shapes = {role: tensor.shape for role, tensor in lane.outputs.items()}
    assert shapes == {role: (*CELLS, count) for role, count in channels.items()}
    assert {tensor.dtype for tensor in lane.outputs.values()} == {np.dtype(np.float32)}


def test_any_input_size_may_be_asked_for(load):
    lane = load(lanes=1, size=(113, 17)).lanes[0]
    assert lane.input.shape == (17, 113, 3)
    assert lane.outputs["heatmap"].shape == (2, 8, 17)


def test_as_many_lanes_as_asked_for_and_at_least_one_without_a_wish(load):
    assert len(load(lanes=3).lanes) == 3
    assert len(load().lanes) >= 1


def test_lanes_in_flight_together_do_not_mix(load, network):
    lanes = load(lanes=4).lanes
    together = threading.Barrier(len(lanes), timeout=30)

    def work(number):
        worst = 0.0
        for turn in range(25):
            pixels = picture(100 * number + turn)
            lanes[number].input[:] = pixels
            together.wait()
            lanes[number].start()
            lanes[number].wait()
            worst = max(worst, worst_error(lanes[number].outputs, pixels, network.outputs))
        return worst

    with ThreadPoolExecutor(len(lanes)) as pool:
        assert max(pool.map(work, range(len(lanes)))) < TOLERANCE["f32"]


def test_wait_lets_other_threads_of_python_work(load):
    """The other thread can only step in when `wait` gives the interpreter away by itself."""
    lane = load(lanes=1, size=(3217, 3217)).lanes[0]
    arm, armed, go, stepped = (threading.Event() for _ in range(4))

    def step():
        arm.wait(30)
        armed.set()
        go.wait(30)
        stepped.set()

    thread = threading.Thread(target=step)
    thread.start()
    arm.set()
    assert armed.wait(30)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody is interrupted
    try:
        lane.start()
        go.set()
        before = stepped.is_set()
        lane.wait()
        during = stepped.is_set()
    finally:
        sys.setswitchinterval(interval)
        thread.join(30)
    assert (before, during) == (False, True)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_a_damaged_network_file_is_one_clear_error(load, network, tmp_path, capfd, damage):
    path = tmp_path / f"broken{network.path.suffix}"
    content = network.path.read_bytes()
    if damage != "missing":
        kinds = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"not a network"}
        path.write_bytes(kinds[damage])
    with pytest.raises(AcceleratorError, match=f"broken{network.path.suffix} does not load"):
        load(path=path)


def test_missing_weights_are_one_clear_error(load, network, tmp_path):
    path = tmp_path / network.path.name
    path.write_bytes(network.path.read_bytes())
    with pytest.raises(AcceleratorError, match=r"does not load .*weights") as caught:
        load(path=path)
    assert "fleet models verify" in caught.value.hint


@pytest.mark.parametrize(("fragment", "count"), [("paf", 0), ("displacement", 2)])
def test_a_role_that_does_not_fit_one_output_is_refused(load, fragment, count):
    with pytest.raises(AcceleratorError, match=f"{count} outputs named like '{fragment}'") as error:
        load(outputs={"wanted": fragment})
    assert "net/heatmap_2/Conv" in error.value.hint


def test_a_session_closes_once_and_the_device_takes_another(load, network):
    first = load()
    first.close()
    first.close()
    outputs = run(load().lanes[0], picture(5))
    assert worst_error(outputs, picture(5), network.outputs) < TOLERANCE["f32"]


def test_an_unknown_driver_is_refused_with_the_known_names():
    with pytest.raises(AcceleratorError, match="'abacus'") as caught:
        load_driver("abacus")
    assert all(name in caught.value.hint for name in driver_names())


@pytest.mark.parametrize("target", ["no_such_vendor_library:Driver", "json:NoDriver"])
def test_a_driver_without_its_library_says_what_is_missing(monkeypatch, target):
    monkeypatch.setitem(ACCELERATORS, "vendor", target)
    with pytest.raises(AcceleratorError, match=r"driver 'vendor' cannot be loaded: .*No"):
        load_driver("vendor")
