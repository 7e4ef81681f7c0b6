"""Scores of rigs: known answers, invariances, and what the numbers mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sp4dlib.evaluation.rigging import (
    chamfer,
    deformation,
    influence_scores,
    normalized,
    random_poses,
    skeleton_scores,
    skinning_scores,
    topological,
    tree_scores,
)

CHAIN = np.array([-1, 0, 1])
JOINTS = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])


def some_rig(seed: int = 0, count: int = 40):
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 3, (count, 3)), generator.dirichlet([0.3] * 3, count)


def test_equal_weights_score_best():
    points, weights = some_rig()
    scores = skinning_scores(points, 7 * weights, weights, JOINTS, CHAIN)
    assert scores["l1"] == pytest.approx(0, abs=1e-12) and scores["deformation"] == pytest.approx(0, abs=1e-9)
    assert (scores["precision"], scores["recall"], scores["dominant"], scores["unweighted"]) == (1, 1, 1, 0)


def test_disjoint_weights_have_l1_of_two():
    points, _ = some_rig()
    reference = np.eye(3)[np.zeros(len(points), int)]
    scores = skinning_scores(points, np.roll(reference, 1, axis=1), reference, JOINTS, CHAIN)
    assert scores["l1"] == 2 and scores["precision"] == scores["recall"] == scores["dominant"] == 0


def test_unweighted_vertices_are_counted_and_stay():
    points, reference = some_rig()
    weights = reference.copy()
    weights[3], weights[5] = np.nan, -1
    scores = skinning_scores(points, weights, reference, JOINTS, CHAIN)
    assert scores["unweighted"] == 2
    assert scores["l1"] == pytest.approx(2 / len(points))               # each lacks the whole reference row
    moved = deformation(points, normalized(weights)[0], reference, JOINTS, CHAIN)
    transforms = random_poses(JOINTS, CHAIN)
    places = np.einsum("k,tkab,b->ta", reference[3], transforms, np.r_[points[3], 1])
    np.testing.assert_allclose(moved[:, 3], np.linalg.norm(places - points[3], axis=1) / np.ptp(points, axis=0).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_deformation_is_the_distance_of_skinned_vertices(seed):
    points, reference = some_rig(seed)
    _, weights = some_rig(seed + 1)
    transforms = random_poses(JOINTS, CHAIN, seed=seed, poses=3)
    homogeneous = np.c_[points, np.ones(len(points))]
    one, two = (np.einsum("nk,tkab,nb->tna", w, transforms, homogeneous) for w in (weights, reference))
    expected = np.linalg.norm(one - two, axis=-1) / np.ptp(points, axis=0).max()
    np.testing.assert_allclose(deformation(points, weights, reference, JOINTS, CHAIN, seed=seed, poses=3), expected,
                               atol=1e-12)


def test_scores_do_not_depend_on_size_or_place():
    points, reference = some_rig()
    _, weights = some_rig(5)
    here = skinning_scores(points, weights, reference, JOINTS, CHAIN)
    there = skinning_scores(7 * points + 3, weights, reference, 7 * JOINTS + 3, CHAIN)
    assert there == pytest.approx(here)


def test_random_poses_are_rigid_turns_about_the_joints():
    transforms = random_poses(JOINTS, CHAIN, poses=200, degrees=30)
    np.testing.assert_allclose(transforms[:, 0], np.broadcast_to(np.eye(4)[:3], (200, 3, 4)), atol=1e-12)
    local = np.linalg.inv(transforms[:, 1, :, :3]) @ transforms[:, 2, :, :3]
    angles = np.degrees(Rotation.from_matrix(local).magnitude())
    assert angles.max() <= 30 and 12 < angles.mean() < 18
    place = np.einsum("tab,b->ta", transforms[:, 1], np.r_[JOINTS[2], 1])          # the parent carries the joint
    np.testing.assert_allclose(np.einsum("tab,b->ta", transforms[:, 2], np.r_[JOINTS[2], 1]), place, atol=1e-12)
    np.testing.assert_array_equal(transforms, random_poses(JOINTS, CHAIN, poses=200, degrees=30))
    assert not np.allclose(transforms, random_poses(JOINTS, CHAIN, poses=200, degrees=30, seed=8))


def test_influences_count_above_the_threshold():
    reference = np.array([[0.9, 0.1, 0.0]])
    assert influence_scores(np.array([[0.9, 0.00005, 0.09995]]), reference) == (0.5, 0.5)
    assert influence_scores(np.array([[0.9, 0.05, 0.05]]), reference, 0.08) == (1, 0.5)


def test_shapes_must_fit():
    points, weights = some_rig()
    with pytest.raises(ValueError, match="do not fit"):
        skinning_scores(points, weights[:, :2], weights, JOINTS, CHAIN)
    with pytest.raises(ValueError, match="NaN"):
        skinning_scores(points, weights, np.full_like(weights, np.nan), JOINTS, CHAIN)


def test_parents_come_first_in_any_order():
    order = topological([2, -1, 1, 0]).tolist()
    assert sorted(order) == [0, 1, 2, 3] and all(order.index(p) < order.index(j) for j, p in ((0, 2), (2, 1), (3, 0)))
    with pytest.raises(ValueError, match="circle"):
        topological([1, 0])


def test_skeleton_scores_of_a_shifted_chain():
    assert skeleton_scores(JOINTS, CHAIN, JOINTS, CHAIN, 2) == pytest.approx({"j2j": 0, "j2b": 0, "b2b": 0})
    shifted = skeleton_scores(JOINTS + [0, 0.1, 0], CHAIN, JOINTS, CHAIN, 2)
    assert shifted == pytest.approx({"j2j": 5, "j2b": 5, "b2b": 5})
    # A joint more on the same bones moves no bone, and counts among joints only.
    finer = skeleton_scores([[0, 0, 0], [0.5, 0, 0], [1, 0, 0], [2, 0, 0]], [-1, 0, 1, 2], JOINTS, CHAIN, 2)
    assert finer["b2b"] < 0.1 and finer["j2b"] < 0.15 and finer["j2j"] == pytest.approx(100 * 0.25 / 4 / 2)
    assert skeleton_scores(JOINTS[:1], [-1], JOINTS[:1] + 1, [-1], 1)["b2b"] == pytest.approx(100 * 3**0.5)


def test_chamfer_takes_both_directions():
    assert chamfer(np.zeros((1, 3)), np.array([[0.0, 0, 0], [2, 0, 0]])) == 0.5


def test_tree_edges_have_no_direction():
    true = [(1, 0), (2, 1), (3, 1)]
    assert tree_scores([(0, 1), (1, 2), (3, 1)], true) == {"edge_recall": 1, "edge_precision": 1}
    assert tree_scores([(0, 1), (3, 2)], true) == {"edge_recall": 1 / 3, "edge_precision": 0.5}
    assert tree_scores([], []) == {"edge_recall": 1, "edge_precision": 1}
