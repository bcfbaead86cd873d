"""OpenPoseDecoder at its edges: options, malformed outputs, coordinates, reuse."""

import os
import subprocess
import sys

import numpy as np
import pytest
from twins.openpose_scene import make_scene

from models.decoders import make_decoder
from models.decoders.openpose import CHANNELS, OpenPoseDecoder
from models.decoders.openpose_kernel import compile_group
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import COCO17, OPENPOSE18, Skeleton

MODES = pytest.mark.parametrize("mode", ["fast", "reference"])


def decode(outputs, **options):
    decoder = OpenPoseDecoder(OPENPOSE18, 8, options)
    poses = PoseBuffer(decoder.capacity, 18)
    decoder.decode(outputs, poses)
    return poses


def blank(height, width):
    return {role: np.zeros((height, width, n), np.float32) for role, n in CHANNELS.items()}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"radius": 20}, "radius"),
        ({"mode": "slow"}, "mode"),
        ({"keep": "best"}, "keep"),
        ({"max_poses": 0}, "max_poses"),
        ({"max_candidates": 5.0}, "max_candidates"),
        ({"score_threshold": 0}, "score_threshold"),
        ({"affinity_threshold": float("nan")}, "affinity_threshold"),
        ({"min_keypoints": 19}, "min_keypoints"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ManifestError, match=named) as caught:
        OpenPoseDecoder(OPENPOSE18, 8, options)
    assert "merge_fragments" in caught.value.hint


def test_a_skeleton_with_a_strange_keypoint_is_refused():
    with pytest.raises(ManifestError, match="'tail'"):
        OpenPoseDecoder(Skeleton("dog", ("nose", "tail"), ((0, 1),)), 8, {})


def test_a_stride_must_be_positive():
    with pytest.raises(ManifestError, match="stride"):
        OpenPoseDecoder(OPENPOSE18, 0, {})


@pytest.mark.parametrize("skeleton", [COCO17, OPENPOSE18])
def test_the_registry_finds_it(skeleton):
    decoder = make_decoder("openpose", skeleton.name, 8, {})
    assert isinstance(decoder, OpenPoseDecoder)
    assert decoder.skeleton is skeleton


@pytest.mark.parametrize("role", CHANNELS)
def test_outputs_of_the_wrong_form_are_named(role):
    outputs = blank(4, 5)
    for spoiled in (outputs[role][None], outputs[role][..., 1:], outputs[role].astype(np.float64)):
        with pytest.raises(DecodeError, match=f"'{role}' is"):
            decode({**outputs, role: spoiled})
    with pytest.raises(DecodeError, match="one size"):
        decode({**outputs, role: blank(5, 4)[role]})
    with pytest.raises(DecodeError, match="one size"):
        decode(blank(0, 5))
    del outputs[role]
    with pytest.raises(DecodeError, match=f"'{role}' is missing"):
        decode(outputs)


@pytest.mark.parametrize("shape", [(99, 18), (100, 17)])
def test_a_buffer_that_does_not_fit_is_refused(shape):
    with pytest.raises(DecodeError, match="buffer"):
        OpenPoseDecoder(OPENPOSE18, 8, {}).decode(blank(4, 5), PoseBuffer(*shape))


@MODES
def test_layout_and_write_protection_of_outputs_do_not_matter(mode):
    outputs = make_scene(3, cells=(20, 24))
    expected = decode(outputs, mode=mode)
    for tensor in outputs.values():
        tensor.setflags(write=False)
    for variant in (outputs, {role: np.asfortranarray(t) for role, t in outputs.items()}):
        np.testing.assert_array_equal(decode(variant, mode=mode).keypoints, expected.keypoints)


@MODES
def test_nothing_of_one_frame_reaches_the_next(mode):
    decoder = OpenPoseDecoder(OPENPOSE18, 8, {"mode": mode})
    poses = PoseBuffer(decoder.capacity, 18)
    for outputs in (make_scene(9), make_scene(2, 1, (20, 24)), make_scene(5, 2, (20, 24))):
        decoder.decode(outputs, poses)
        fresh = decode(outputs, mode=mode)
        assert poses.count == fresh.count
        np.testing.assert_array_equal(
            poses.keypoints[: poses.count], fresh.keypoints[: fresh.count]
        )
    decoder.decode(blank(20, 24), poses)
    assert poses.count == 0


@MODES
def test_a_warm_decoder_compiles_nothing_more(mode):
    OpenPoseDecoder(OPENPOSE18, 8, {"mode": mode}).warm()
    compiled = compile_group(mode)
    decode(make_scene(2, cells=(12, 12)), mode=mode)
    assert compile_group(mode) is compiled
    assert len(compiled.signatures) == 1


IN_PLAIN_PYTHON = """
import numpy as np
from models.decoders.openpose import CHANNELS, OpenPoseDecoder
from models.poses import PoseBuffer
from models.skeletons import OPENPOSE18

rng = np.random.default_rng(3)
values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, 0.2, 0.9, -0.4], np.float32)
for mode, choice in (("fast", values), ("reference", values), ("reference", values[5:])):
    options = {"mode": mode, "min_keypoints": 1, "min_mean_score": 0.0}
    decoder = OpenPoseDecoder(OPENPOSE18, 8, {**options, "max_poses": 5, "max_candidates": 6})
    poses = PoseBuffer(5, 18)
    for height, width in ((1, 1), (1, 4), (5, 1), (4, 6)):
        outputs = {role: rng.choice(choice, (height, width, n)) for role, n in CHANNELS.items()}
        with np.errstate(all="ignore"):
            decoder.decode(outputs, poses)
print("done")
"""


def test_the_kernel_stays_inside_its_arrays_whatever_the_values():
    """Run uncompiled, where numpy checks every index."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PLAIN_PYTHON],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
