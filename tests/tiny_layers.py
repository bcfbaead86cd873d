"""A small Keras network as TensorFlow.js publishes layers models, and what it computes in numpy."""

import hashlib
import json

import numpy as np

from models.manifest import ModelManifest

SIZE = 16
CLASSES = ("red", "green", "blue")
EPSILON = 0.001
_FIRST = {"data_format": "channels_last"}


def layer(name, kind, sources, **config):
    inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    config = {"name": name, **config}
    return {"name": name, "class_name": kind, "config": config, "inbound_nodes": inbound}


def layers():
    conv = {**_FIRST, "dilation_rate": [1, 1], "use_bias": True, "activation": "linear"}
    return [
        layer("in", "InputLayer", [], batch_input_shape=[None, SIZE, SIZE, 3]),
        layer("pad", "ZeroPadding2D", ["in"], padding=[[1, 0], [2, 1]], **_FIRST),
        layer("one", "Conv2D", ["pad"], strides=[2, 2], padding="valid", **conv),
        layer("norm", "BatchNormalization", ["one"], epsilon=EPSILON, center=True, scale=True),
        layer("relu", "Activation", ["norm"], activation="relu"),
        layer("two", "Conv2D", ["relu"], strides=[1, 1], padding="same",
              **{**conv, "use_bias": False, "activation": "relu"}),
        layer("plain", "BatchNormalization", ["two"], epsilon=EPSILON, center=False, scale=False),
        layer("sum", "Add", ["relu", "plain", "relu"]),
        layer("pool", "MaxPooling2D", ["sum"], pool_size=[2, 2], strides=[2, 2], padding="valid",
              **_FIRST),
        layer("mean", "GlobalAveragePooling2D", ["pool"], **_FIRST),
        layer("drop", "Dropout", ["mean"], rate=0.5),
        layer("last", "Dense", ["drop"], units=3, activation="softmax", use_bias=True),
    ]  # fmt: skip


def make_weights(seed=3):
    random = np.random.default_rng(seed)
    shapes = {
        "one/kernel": (3, 3, 3, 8), "one/bias": (8,), "two/kernel": (3, 3, 8, 8),
        "last/kernel": (8, 3), "last/bias": (3,),
    }  # fmt: skip
    weights = {name: random.normal(0, 0.4, shape) for name, shape in shapes.items()}
    for name in ("norm", "plain"):
        weights[f"{name}/moving_mean"] = random.normal(0, 0.5, 8)
        weights[f"{name}/moving_variance"] = random.uniform(0.5, 2, 8)
    weights["norm/gamma"], weights["norm/beta"] = random.uniform(0.5, 2, 8), random.normal(0, 1, 8)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def document(weights, made=None):
    made = made or layers()
    config = {"layers": made, "input_layers": [["in", 0, 0]], "output_layers": [["last", 0, 0]]}
    entries = [
        {"name": name, "shape": list(value.shape), "dtype": "float32"}
        for name, value in weights.items()
    ]
    return {
        "format": "layers-model",
        "modelTopology": {"model_config": {"class_name": "Model", "config": config}},
        "weightsManifest": [{"paths": ["w.bin"], "weights": entries}],
    }


def write(folder, made=None):
    """Publish the network in a folder and return its manifest."""
    weights = make_weights()
    parts = {
        "net/model.json": ("model", json.dumps(document(weights, made)).encode()),
        "net/w.bin": ("shard", b"".join(value.tobytes() for value in weights.values())),
        "names.json": ("labels", json.dumps(dict(enumerate(CLASSES))).encode()),
    }
    files = []
    for path, (role, data) in parts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append({"role": role, "path": path, "size": len(data), "sha256": digest})
    return ModelManifest.model_validate_json(
        json.dumps(
            {
                "name": "colors", "title": "Colors", "task": "classify", "license": "MIT",
                "attribution": "nobody", "homepage": "https://example.org", "format": "tfjs-layers",
                "files": files, "sources": [{"folder": str(folder)}],
                "input": {
                    "layout": "NHWC", "color": "bgr", "mean": [100, 110, 120], "scale": 60,
                    "width": SIZE, "height": SIZE, "keep_aspect": False,
                },
                "outputs": {"scores": "last", "features": "features"},
                "decoder": {"name": "classify"},
            }
        )
    )  # fmt: skip


def run(pixels, weights):
    """Return features and scores of ``(SIZE, SIZE, 3)`` normalized pixels."""
    one = np.pad(pixels, ((1, 0), (2, 1), (0, 0)))
    one = _convolve(one, weights["one/kernel"], 2) + weights["one/bias"]
    scale = weights["norm/gamma"] / np.sqrt(weights["norm/moving_variance"] + EPSILON)
    one = np.maximum((one - weights["norm/moving_mean"]) * scale + weights["norm/beta"], 0)
    two = np.pad(one, ((1, 1), (1, 1), (0, 0)))
    two = np.maximum(_convolve(two, weights["two/kernel"], 1), 0)
    two = (two - weights["plain/moving_mean"]) / np.sqrt(weights["plain/moving_variance"] + EPSILON)
    total = 2 * one + two
    high, wide = (side // 2 for side in total.shape[:2])
    cells = total[: 2 * high, : 2 * wide].reshape(high, 2, wide, 2, -1)
    features = cells.max(axis=(1, 3)).mean(axis=(0, 1))
    logits = features @ weights["last/kernel"] + weights["last/bias"]
    likely = np.exp(logits - logits.max())
    return features, likely / likely.sum()


def _convolve(values, kernel, stride):
    height, width = kernel.shape[:2]
    rows = range(0, values.shape[0] - height + 1, stride)
    columns = range(0, values.shape[1] - width + 1, stride)
    return np.array(
        [
            [np.tensordot(values[y : y + height, x : x + width], kernel, 3) for x in columns]
            for y in rows
        ]
    )
