"""PoseNetDecoder at its edges: options, malformed outputs, coordinates, reuse."""

import os
import subprocess
import sys

import numpy as np
import pytest
from twins.posenet_scene import make_scene

from models.decoders import make_decoder
from models.decoders.posenet import CHANNELS, PoseNetDecoder
from models.decoders.posenet_kernel import compile_group
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import COCO17, Skeleton


def decoder(stride=16, **options):
    return PoseNetDecoder(COCO17, stride, options)


def blank(height, width):
    maps = {role: np.zeros((height, width, count), np.float32) for role, count in CHANNELS.items()}
    maps["heatmap"] -= 9
    return maps


def decode(made, outputs):
    poses = PoseBuffer(made.capacity, 17)
    made.decode(outputs, poses)
    return poses


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"radius": 20}, "radius"),
        ({"max_poses": 0}, "max_poses"),
        ({"max_poses": True}, "max_poses"),
        ({"max_poses": 5.0}, "max_poses"),
        ({"score_threshold": 1.0}, "score_threshold"),
        ({"score_threshold": "0.5"}, "score_threshold"),
        ({"nms_radius": -1}, "nms_radius"),
        ({"nms_radius": float("nan")}, "nms_radius"),
        ({"min_pose_score": 1.5}, "min_pose_score"),
        ({"max_candidates": 0}, "max_candidates"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ManifestError, match=named) as caught:
        decoder(**options)
    assert "nms_radius" in caught.value.hint


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(ManifestError, match=r"max_poses.*radius"):
        decoder(max_poses=0, radius=3)


def test_options_are_those_of_the_javascript_demo_if_asked():
    made = decoder(max_poses=5, score_threshold=0.5, nms_radius=20, min_pose_score=0)
    assert decode(made, make_scene(9, 33)).count == made.capacity == 5


def test_another_skeleton_is_refused():
    with pytest.raises(ManifestError, match="'two'"):
        PoseNetDecoder(Skeleton("two", ("a", "b"), ((0, 1),)), 16, {})


@pytest.mark.parametrize("stride", [0, -8])
def test_a_stride_must_be_positive(stride):
    with pytest.raises(ManifestError, match="stride"):
        decoder(stride)


def test_the_registry_finds_it():
    assert isinstance(make_decoder("posenet", "coco17", 8, {}), PoseNetDecoder)


@pytest.mark.parametrize("role", CHANNELS)
def test_a_missing_output_is_named(role):
    outputs = blank(4, 5)
    del outputs[role]
    with pytest.raises(DecodeError, match=f"'{role}' is missing"):
        decode(decoder(), outputs)


@pytest.mark.parametrize("role", CHANNELS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensor: tensor[None],
        lambda tensor: tensor[..., :-1],
        lambda tensor: tensor.astype(np.float64),
        lambda tensor: tensor.astype(np.uint8),
    ],
    ids=["batch axis", "channels", "float64", "uint8"],
)
def test_an_output_of_the_wrong_form_is_named(role, spoil):
    outputs = blank(4, 5)
    outputs[role] = spoil(outputs[role])
    with pytest.raises(DecodeError, match=f"'{role}' is"):
        decode(decoder(), outputs)


@pytest.mark.parametrize("role", CHANNELS)
def test_maps_of_different_sizes_are_refused(role):
    outputs = blank(4, 5)
    outputs[role] = blank(5, 4)[role]
    with pytest.raises(DecodeError, match="one size"):
        decode(decoder(), outputs)


def test_empty_maps_are_refused():
    with pytest.raises(DecodeError, match="one size"):
        decode(decoder(), blank(0, 5))


@pytest.mark.parametrize("shape", [(99, 17), (100, 18)])
def test_a_buffer_that_does_not_fit_is_refused(shape):
    with pytest.raises(DecodeError, match="buffer"):
        decoder().decode(blank(4, 5), PoseBuffer(*shape))


@pytest.mark.parametrize("stride", [8, 16, 32, 7])
def test_a_cell_without_offset_is_the_pixel_at_cell_times_stride(stride):
    """The half-pixel convention: no shift by half a cell."""
    outputs = blank(6, 9)
    outputs["heatmap"][4, 7] = 3
    poses = decode(decoder(stride), outputs)
    assert poses.count == 1
    expected = [7 * stride, 4 * stride, 1 / (1 + np.exp(-3))]
    np.testing.assert_allclose(poses.keypoints[0], np.tile(expected, (17, 1)), rtol=1e-6)


def test_offsets_are_y_first_and_input_pixels():
    outputs = blank(6, 9)
    outputs["heatmap"][4, 7] = 3
    outputs["offset"][4, 7, :17] = -2.5
    outputs["offset"][4, 7, 17:] = 6
    poses = decode(decoder(16), outputs)
    np.testing.assert_array_equal(poses.keypoints[0, :, 1], np.full(17, 61.5))
    np.testing.assert_array_equal(poses.keypoints[0, :, 0], np.full(17, 118))


def test_a_threshold_is_one_of_scores_not_of_logits():
    outputs = blank(6, 9)
    outputs["heatmap"][4, 7] = 0.9  # a score of .71
    assert decode(decoder(score_threshold=0.7), outputs).count == 1
    assert decode(decoder(score_threshold=0.72), outputs).count == 0


def test_layout_alignment_and_write_protection_of_outputs_do_not_matter():
    outputs = make_scene(5, 17)
    expected = decode(decoder(), outputs)
    unaligned = {}
    for role, tensor in outputs.items():
        raw = np.frombuffer(b"x" + tensor.tobytes(), np.uint8)[1:]
        unaligned[role] = raw.view(np.float32).reshape(tensor.shape)
    for variant in (unaligned, {role: np.asfortranarray(t) for role, t in outputs.items()}):
        poses = decode(decoder(), variant)
        np.testing.assert_array_equal(poses.keypoints, expected.keypoints)


@pytest.mark.parametrize("order", [(17, 33), (33, 17)])
def test_nothing_of_one_frame_reaches_the_next(order):
    made = decoder()
    poses = PoseBuffer(made.capacity, 17)
    made.decode(make_scene(20, order[0]), poses)
    made.decode(make_scene(3, order[1], seed=1), poses)
    fresh = decode(decoder(), make_scene(3, order[1], seed=1))
    assert poses.count == fresh.count
    np.testing.assert_array_equal(poses.keypoints[: poses.count], fresh.keypoints[: fresh.count])
    made.decode(blank(7, 3), poses)
    assert poses.count == 0


def test_a_warm_decoder_compiles_nothing_more():
    made = decoder()
    made.warm()
    compiled = compile_group()
    made.warm()
    assert compile_group() is compiled
    outputs = make_scene(2, 9)
    expected = decode(made, outputs)
    outputs["offset"].setflags(write=False)
    np.testing.assert_array_equal(decode(made, outputs).keypoints, expected.keypoints)
    assert len(compiled.signatures) == 1


IN_PLAIN_PYTHON = """
import numpy as np
from models.decoders.posenet import CHANNELS, PoseNetDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

rng = np.random.default_rng(3)
values = np.array([np.nan, np.inf, -np.inf, -3e38, 3e38, 5, -5, 40, -40], np.float32)
decoder = PoseNetDecoder(COCO17, 16, {"min_pose_score": 0, "max_poses": 17})
poses = PoseBuffer(17, 17)
for height, width in ((1, 1), (1, 4), (5, 1), (3, 4)):
    outputs = {role: rng.choice(values, (height, width, n)) for role, n in CHANNELS.items()}
    with np.errstate(all="ignore"):
        decoder.decode(outputs, poses)
    assert poses.count > 0
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
