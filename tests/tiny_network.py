"""A complete TensorFlow.js graph model small enough to check by hand: four 1x1 convolutions."""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from models.manifest import ModelManifest, parse

STRIDE = 16
HEADS = {"heatmap": 17, "offset": 34, "displacement_fwd": 32, "displacement_bwd": 32}
"""Name of the head -> channels."""


def _text(value: str) -> dict:
    return {"s": base64.b64encode(value.encode()).decode()}


def _ints(*values: int) -> dict:
    return {"list": {"i": [str(value) for value in values]}}


def kernels() -> dict[str, np.ndarray]:
    """The weights: ``(1, 1, 3, channels)`` a head."""
    random = np.random.default_rng(7)
    return {
        name: random.normal(size=(1, 1, 3, count)).astype(np.float32)
        for name, count in HEADS.items()
    }


def document() -> tuple[dict, bytes]:
    """Return the model.json, as data, and its one shard."""
    any_size = {"dim": [{"size": "1"}, {"size": "-1"}, {"size": "-1"}, {"size": "3"}]}
    floats = {"type": "DT_FLOAT"}
    nodes = [
        {
            "name": "image",
            "op": "Placeholder",
            "attr": {"dtype": floats, "shape": {"shape": any_size}},
        }
    ]
    for name in HEADS:
        nodes.append({"name": f"{name}/w", "op": "Const", "attr": {"dtype": floats, "value": {}}})
        nodes.append(
            {
                "name": f"net/{name}_2/Conv",
                "op": "Conv2D",
                "input": ["image", f"{name}/w"],
                "attr": {
                    "T": floats,
                    "strides": _ints(1, STRIDE, STRIDE, 1),
                    "dilations": _ints(1, 1, 1, 1),
                    "padding": _text("SAME"),
                    "data_format": _text("NHWC"),
                    "use_cudnn_on_gpu": {"b": True},
                },
            }
        )
    entries = [
        {"name": f"{name}/w", "shape": list(array.shape), "dtype": "float32"}
        for name, array in kernels().items()
    ]
    shard = b"".join(array.tobytes() for array in kernels().values())
    groups = [{"paths": ["shard.bin"], "weights": entries}]
    return {
        "format": "graph-model",
        "modelTopology": {"node": nodes},
        "weightsManifest": groups,
    }, shard


def write(folder: Path, model_json: bytes | None = None, **changes) -> ModelManifest:
    """Write the network into a folder and return the manifest that fetches it from there."""
    model, shard = document()
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"model.json": model_json or json.dumps(model).encode(), "shard.bin": shard}
    files = []
    for path, content in contents.items():
        (folder / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        role = "model" if path == "model.json" else "shard"
        files.append({"role": role, "path": path, "size": len(content), "sha256": digest})
    fields = {
        "name": "tiny",
        "title": "Four convolutions",
        "task": "pose",
        "license": "Apache-2.0",
        "attribution": "the tests",
        "homepage": "https://example.org/",
        "format": "tfjs-graph",
        "files": files,
        "sources": [{"folder": str(folder)}],
        "input": {
            "layout": "NHWC", "color": "rgb", "mean": 127.5, "scale": 127.5,
            "width": 65, "height": 49, "step": 16,
        },
        "outputs": {
            "heatmap": "heatmap", "offset": "offset",
            "displacement_forward": "displacement_fwd",
            "displacement_backward": "displacement_bwd",
        },
        "stride": STRIDE,
        "skeleton": "coco17",
        "decoder": {"name": "posenet"},
    }  # fmt: skip
    return parse(json.dumps({**fields, **changes}), ModelManifest, "tiny.yaml")
