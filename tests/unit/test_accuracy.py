"""OKS, PCK, precision and resampling on cases small enough to work out by hand."""

import math

import numpy as np
import pytest

from models.accuracy import (
    COCO_SIGMAS,
    FOUND_OKS,
    PCK_ALPHA,
    RECALLS,
    Matches,
    People,
    agreement,
    average_precision,
    interval,
    object_similarity,
    pair,
    precision_recall,
    resample,
    similarities,
)

KEYPOINTS = len(COCO_SIGMAS)
AREA, SIDE = 10_000.0, 200.0


def make_people(*corners, labelled=KEYPOINTS):
    """Persons whose keypoints lie on a diagonal from a corner; the first ``labelled`` count."""
    steps = np.arange(KEYPOINTS) * 10.0
    keypoints = np.array(
        [np.column_stack([x + steps, y + steps, np.full(KEYPOINTS, 2.0)]) for x, y in corners]
    ).reshape(-1, KEYPOINTS, 3)
    keypoints[:, labelled:] = 0
    count = len(corners)
    return People(keypoints, np.full(count, AREA), np.full(count, SIDE))


def poses_of(people, dx=0.0):
    found = people.keypoints.astype(np.float32)
    found[..., 0] += dx
    return found


def make_matches(hits, misses=None, pictures=None, people=(2,)):
    """Poses that are hits or misses at every one of two thresholds."""
    hits = np.array([hits, hits], bool)
    misses = ~hits if misses is None else np.array([misses, misses], bool)
    pictures = [0] * hits.shape[1] if pictures is None else pictures
    return Matches(np.array(pictures, np.int64), hits, misses, np.array(people, np.int64))


class TestSimilarity:
    def test_the_same_place_is_1(self):
        people = make_people((10, 10))
        assert similarities(poses_of(people), people) == pytest.approx(1)

    def test_a_distance_counts_by_the_keypoint_and_the_size_of_the_person(self):
        people = make_people((10, 10))
        near = similarities(poses_of(people, dx=5), people)[0, 0]
        wanted = np.exp(-(5**2) / (2 * AREA * (2 * COCO_SIGMAS) ** 2))
        assert near == pytest.approx(wanted, rel=1e-5)
        assert near[0] < near[11], "a nose is better known than a hip"

    def test_what_is_not_labelled_counts_nothing(self):
        people = make_people((10, 10), labelled=4)
        near = similarities(poses_of(people), people)
        assert near[0, 0, 4:].tolist() == [0] * (KEYPOINTS - 4)
        assert object_similarity(near, people)[0, 0] == pytest.approx(1)

    def test_no_number_is_not_similar(self):
        people = make_people((10, 10))
        found = poses_of(people)
        found[0, 3] = np.nan
        near = similarities(found, people)[0, 0]
        assert near[3] == 0
        assert np.isfinite(near).all()


class TestPair:
    def test_the_most_similar_go_together(self):
        assert pair(np.array([[0.9, 0.8], [0.7, 0.1]])).tolist() == [0, 1]

    def test_the_best_pair_goes_first_whoever_is_left_over(self):
        assert pair(np.array([[0.6, 0.9]])).tolist() == [-1, 0]

    def test_what_is_not_similar_at_all_is_no_pair(self):
        assert pair(np.zeros((2, 2))).tolist() == [-1, -1]

    def test_nobody_and_nothing(self):
        assert pair(np.zeros((0, 2))).tolist() == [-1, -1]
        assert pair(np.zeros((2, 0))).tolist() == []


class TestAgreement:
    def test_all_right(self):
        people = make_people((10, 10), (400, 10))
        result = agreement(poses_of(people)[::-1], people)
        for counts in (result.labelled, result.right, result.found, result.similarity):
            assert counts == pytest.approx(2)

    @pytest.mark.parametrize(("share", "is_right"), [(0.999, True), (1.001, False)])
    def test_a_keypoint_is_right_within_a_share_of_the_side(self, share, is_right):
        people = make_people((10, 10))
        result = agreement(poses_of(people, dx=share * PCK_ALPHA * SIDE), people)
        assert result.right.tolist() == [int(is_right)] * KEYPOINTS

    def test_keypoints_of_a_person_nobody_found_are_wrong(self):
        people = make_people((10, 10), (400, 10))
        result = agreement(poses_of(people)[:1], people)
        assert result.labelled.tolist() == [2] * KEYPOINTS
        assert result.right.tolist() == [1] * KEYPOINTS
        assert result.found.tolist() == [1] * KEYPOINTS

    def test_a_bad_pose_does_not_enter_the_mean_similarity(self):
        people = make_people((10, 10))
        found = poses_of(people, dx=60)
        assert object_similarity(similarities(found, people), people)[0, 0] < FOUND_OKS
        result = agreement(found, people)
        assert result.found.sum() == result.similarity.sum() == 0

    def test_an_empty_picture(self):
        nobody = make_people()
        result = agreement(poses_of(make_people((10, 10))), nobody)
        assert result.labelled.tolist() == [0] * KEYPOINTS
        result = agreement(poses_of(nobody), make_people((10, 10)))
        assert result.labelled.tolist() == [1] * KEYPOINTS
        assert result.right.sum() == 0


class TestPrecision:
    def test_hit_miss_hit(self):
        precision, recall = precision_recall(make_matches([True, False, True]))
        assert recall.tolist() == [1, 1]
        is_first_half = RECALLS <= 0.5
        assert precision[0, is_first_half] == pytest.approx(1)
        assert precision[0, ~is_first_half] == pytest.approx(2 / 3)
        assert average_precision(make_matches([True, False, True])) == pytest.approx(
            (51 + 50 * 2 / 3) / 101
        )

    def test_past_the_highest_recall_there_is_none(self):
        precision, recall = precision_recall(make_matches([True]))
        assert recall.tolist() == [0.5, 0.5]
        assert precision[0, RECALLS > 0.5].tolist() == [0] * 50

    def test_a_crowd_counts_as_nothing(self):
        matches = make_matches([True, False, True], misses=[False, False, False])
        assert average_precision(matches) == pytest.approx(1)

    def test_no_pose_at_all(self):
        assert average_precision(make_matches([])) == 0
        assert precision_recall(make_matches([]))[1].tolist() == [0, 0]

    def test_nobody_to_find_is_not_a_number(self):
        assert math.isnan(average_precision(make_matches([False], people=(0,))))
        weights = np.array([0, 3])
        matches = make_matches([True], pictures=[0], people=(1, 0))
        assert math.isnan(average_precision(matches, weights))

    def test_a_picture_of_weight_0_is_not_there(self):
        both = make_matches([False, True], pictures=[0, 1], people=(5, 1))
        assert average_precision(both, np.array([0, 1])) == pytest.approx(1)

    def test_shapes_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="hits"):
            make_matches([True, False], pictures=[0])


class TestResampling:
    def test_each_set_has_as_many_pictures(self):
        weights = resample(7, seed=1, resamples=50)
        assert weights.shape == (50, 7)
        assert set(weights.sum(axis=1)) == {7}

    def test_the_seed_decides(self):
        assert (resample(9, seed=1) == resample(9, seed=1)).all()
        assert (resample(9, seed=1) != resample(9, seed=2)).any()

    def test_the_interval_is_the_middle(self):
        assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
        assert interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))

    def test_what_is_not_a_number_is_left_out(self):
        assert interval(np.array([np.nan, 1, 1, np.inf])) == (1, 1)
        assert all(math.isnan(end) for end in interval(np.array([np.nan])))

    def test_more_pictures_are_a_narrower_interval(self):
        def width(pictures):
            hits = np.arange(pictures) % 2 == 0
            matches = make_matches(hits, pictures=np.arange(pictures), people=[1] * pictures)
            samples = [average_precision(matches, each) for each in resample(pictures, 1, 200)]
            low, high = interval(np.array(samples))
            return high - low

        assert width(200) < width(20) / 2
