"""The pip-installable peers that group poses: optional rows of the grouping benchmarks.

None is a dependency; each takes part where it lies in the folder that ``$FLEET_PEERS`` names (never
install them into the environment: one overwrites files of OpenVINO). Their requirements exclude our
numpy or need TensorFlow, their grouping needs neither: it is taken from the installed files as it
is, and the rest of the package is not run. What runs inside a peer's network (sigmoid, max-pooling)
is done beforehand and not counted.

Looked at on PyPI and left out, for they cannot group our maps without a training framework:
controlnet-aux 0.0.10 (OpenPose grouping inside the call that runs its PyTorch network), hyperpose
2.2.0 (peaks by TensorFlow, and ``np.int``, which numpy dropped), sleap-nn 0.3.5 (PyTorch) and
deeplabcut 3.0.2 (groups keypoints and limb costs, which its own PyTorch network makes). Neither
openpifpaf 0.13.11 (another kind of field) nor tf-pose 0.11.0 builds with today's setuptools. No
grouping of these networks' outputs in: openvino-model-api 0.4.7, openvino-dev 2024.6.0, easy-dwpose
1.0.2, pypaz 0.2.5, gluoncv 0.10.5, tensorlayer 2.2.5, depthai-nodes 0.7.0, sleap 1.6.6; pycoral
0.2.0 and libcoral 0.1.0 are other projects of those names. Not on PyPI: trt-pose,
pytorch-openpose, tf-pose-estimation, lightweight-human-pose-estimation.
"""

import ast
import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maps = Mapping[str, NDArray[np.float32]]
Grouping = Callable[[], int]
"""Groups the same maps at each call; returns the number of persons."""

POSENET = "posenet==0.0.3"
"""The numpy decoder of rwightman/posenet-python, in a package for TensorFlow 2 (Apache-2.0)."""
OPENPOSE = "openmodelzoo-modelapi==2022.3.0"
"""The OpenPose decoder of Open Model Zoo's Python demos, numpy, not upsampled (Apache-2.0)."""


def posenet_peer(maps: Maps, stride: int) -> Grouping | None:
    """Prepare a PoseNet's maps for posenet-python, with our decoder's limits; None without it."""
    decode = _posenet_decode()
    if decode is None:
        return None
    scores = 1 / (1 + np.exp(-maps["heatmap"]))
    rest = maps["offset"], maps["displacement_forward"], maps["displacement_backward"]

    def group() -> int:
        found = decode(
            scores, *rest, stride, max_pose_detections=100, score_threshold=0.5,
            nms_radius=20, min_pose_score=0.25,
        )  # fmt: skip
        return int(np.count_nonzero(found[0]))

    return group


def openpose_peer(maps: Maps) -> Grouping | None:
    """Prepare an OpenPose's maps for Open Model Zoo's decoder; None without it."""
    make = _openpose_class()
    if make is None:
        return None
    decoder = make()
    heatmap, paf = (
        np.ascontiguousarray(maps[k].transpose(2, 0, 1)[None]) for k in ("heatmap", "paf")
    )
    padded = np.pad(heatmap, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    pooled = windows.max((-2, -1))
    return lambda: len(decoder(heatmap, heatmap * (heatmap == pooled), paf)[0])


def note(requirement: str) -> str:
    """Say in a line whether a peer takes part, and how it would."""
    if _folder(requirement) is not None:
        return f"peer = {requirement.replace('==', ' ')}, in the same rounds"
    return (
        f"no peer: {requirement} is not in $FLEET_PEERS "
        f'(pip install --no-deps --target FOLDER "{requirement}", then FLEET_PEERS=FOLDER)'
    )


def _folder(requirement: str) -> Path | None:
    """Return the folder that holds this package in this version."""
    folder = os.environ.get("FLEET_PEERS", "")
    name, version = requirement.split("==")
    found = metadata.distributions(name=name, path=[folder]) if folder else ()
    return Path(folder) if any(package.version == version for package in found) else None


@functools.cache
def _posenet_decode() -> Callable[..., Any] | None:
    """Import the decoder without its package's ``__init__``, which imports TensorFlow."""
    folder = _folder(POSENET)
    if folder is None:
        return None
    package = ModuleType("posenet")
    package.__path__ = [str(folder / "posenet")]
    sys.modules["posenet"] = package
    module = importlib.import_module("posenet.decode_multi")
    decode: Callable[..., Any] = module.decode_multiple_poses
    return decode


@functools.cache
def _openpose_class() -> type | None:
    """Take the decoder's class out of its module, which imports what OpenVINO dropped."""
    folder = _folder(OPENPOSE)
    if folder is None:
        return None
    path = folder / "openvino/model_zoo/model_api/models/open_pose.py"
    wanted = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "OpenPoseDecoder"
    ]
    names: dict[str, Any] = {"np": np, "clip": np.clip}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), names)
    made: type = names["OpenPoseDecoder"]
    return made
