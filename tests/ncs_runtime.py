"""OpenVINO 2021.4 by its C API, in a process of its own: read an IR v10, run it on the CPU.

    python ncs_runtime.py LIBRARY NETWORK.xml INPUT.npy OUTPUT.npz

Prints JSON: {"inputs": [[name, dims]], "outputs": [name], "plugins": {device: version}}.
"""

import ctypes as c
import json
import sys

import numpy as np


class Dimensions(c.Structure):
    _fields_ = (("ranks", c.c_size_t), ("dims", c.c_size_t * 8))


class TensorDesc(c.Structure):
    _fields_ = (("layout", c.c_int), ("dims", Dimensions), ("precision", c.c_int))


class Version(c.Structure):
    _fields_ = (
        ("device", c.c_char_p), ("major", c.c_size_t), ("minor", c.c_size_t),
        ("build", c.c_char_p), ("description", c.c_char_p),
    )  # fmt: skip


class Versions(c.Structure):
    _fields_ = (("items", c.POINTER(Version)), ("count", c.c_size_t))


class Config(c.Structure):
    _fields_ = (("name", c.c_char_p), ("value", c.c_char_p), ("next", c.c_void_p))


AS_IT_IS, FP32 = 1, 10
"""Of the enums layout_e and precision_e in ie_c_api.h: the first is NCHW, by which that runtime
means the order of the network's own shape, whatever its axes are."""


def call(function, *arguments):
    status = function(*arguments)
    if status != 0:
        raise SystemExit(f"{function.__name__} gives status {status}")


def made(function, *arguments):
    """Return the handle that a function makes in its last argument."""
    handle = c.c_void_p()
    call(function, *arguments, c.byref(handle))
    return handle


def name(function, network, index):
    text = c.c_char_p()
    call(function, network, c.c_size_t(index), c.byref(text))
    return text.value


def plugin_version(library, core, device):
    found = Versions()
    call(library.ie_core_get_versions, core, device.encode(), c.byref(found))
    return found.items[0].description.decode()


def run(library, core, network, image, outputs):
    # Left alone, it computes in bf16 on a CPU that has it.
    exact = c.byref(Config(b"ENFORCE_BF16", b"NO", None))
    loaded = made(library.ie_core_load_network, core, network, b"CPU", exact)
    request = made(library.ie_exec_network_create_infer_request, loaded)
    description = TensorDesc(AS_IT_IS, Dimensions(4, (c.c_size_t * 8)(*image.shape)), FP32)
    data = image.ctypes.data_as(c.c_void_p)
    blob = made(
        library.ie_blob_make_memory_from_preallocated,
        c.byref(description), data, c.c_size_t(image.size),
    )  # fmt: skip
    into = name(library.ie_network_get_input_name, network, 0)
    call(library.ie_infer_request_set_blob, request, into, blob)
    call(library.ie_infer_request_infer, request)
    return {each.decode(): output(library, request, each) for each in outputs}


def output(library, request, wanted):
    blob = made(library.ie_infer_request_get_blob, request, wanted)
    shape, buffer = Dimensions(), c.c_void_p()
    call(library.ie_blob_get_dims, blob, c.byref(shape))
    call(library.ie_blob_get_buffer, blob, c.byref(buffer))
    sizes = list(shape.dims[: shape.ranks])
    floats = c.cast(buffer, c.POINTER(c.c_float))
    return np.ctypeslib.as_array(floats, (int(np.prod(sizes)),)).reshape(sizes).copy()


def main(library_path, xml, image_path, out):
    library = c.CDLL(library_path)
    core = made(library.ie_core_create, b"")
    weights = xml.removesuffix(".xml") + ".bin"
    network = made(library.ie_core_read_network, core, xml.encode(), weights.encode())
    count = c.c_size_t()
    call(library.ie_network_get_inputs_number, network, c.byref(count))
    inputs = []
    for index in range(count.value):
        each, shape = name(library.ie_network_get_input_name, network, index), Dimensions()
        call(library.ie_network_get_input_dims, network, each, c.byref(shape))
        call(library.ie_network_set_input_layout, network, each, AS_IT_IS)
        call(library.ie_network_set_input_precision, network, each, FP32)
        inputs.append([each.decode(), list(shape.dims[: shape.ranks])])
    call(library.ie_network_get_outputs_number, network, c.byref(count))
    outputs = [name(library.ie_network_get_output_name, network, i) for i in range(count.value)]
    for each in outputs:
        call(library.ie_network_set_output_precision, network, each, FP32)
    np.savez(out, **run(library, core, network, np.load(image_path), outputs))
    plugins = {device: plugin_version(library, core, device) for device in ("CPU", "MYRIAD")}
    names = [each.decode() for each in outputs]
    json.dump({"inputs": inputs, "outputs": names, "plugins": plugins}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
