"""The MoveNet decoder agrees with its twin on anything, and survives what is no number."""

import numpy as np
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from twins import movenet_twin

from models.decoders.movenet import MoveNetDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

VALUES = st.one_of(
    st.floats(-600, 600, width=32), st.floats(0, 1, width=32),
    st.sampled_from([0.25, 0.5, np.nan, np.inf, -np.inf, 3e38]),
)  # fmt: skip


@st.composite
def persons(draw):
    count = draw(st.integers(1, 6))
    keypoints = draw(
        arrays.arrays(np.float32, (count, 51), elements=st.floats(-600, 600, width=32))
    )
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, count - 1)), draw(st.integers(0, 50))
        keypoints[place] = draw(VALUES)
    scores = draw(st.none() | arrays.arrays(np.float32, (count, 1), elements=VALUES))
    return keypoints, scores


@options(deadline=None, max_examples=200)
@given(scene=persons(), least=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_the_decoder_is_its_twin(scene, least):
    keypoints, scores = scene
    decoder = MoveNetDecoder(COCO17, 4, {"min_pose_score": least})
    buffer = PoseBuffer(decoder.capacity, 17)
    outputs = (
        {"keypoints": keypoints} if scores is None else {"keypoints": keypoints, "score": scores}
    )
    with np.errstate(all="ignore"):
        decoder.decode(outputs, buffer)
        expected = movenet_twin.decode(keypoints, scores, least)
    assert buffer.count == len(expected)
    for number, (score, person) in enumerate(expected):
        np.testing.assert_allclose(buffer.scores[number], score, rtol=1e-6)
        np.testing.assert_array_equal(buffer.keypoints[number], person.astype(np.float32))
