"""Joints and hierarchy from labels."""

import numpy as np
import pytest
from lifting_meshes import animal, joined, thirds, tube, unwelded

from sp4dlib.clips import MergeRule, kinematic_parts
from sp4dlib.lifting import extract_skeleton
from sp4dlib.rigs import Mesh


def by_name(skeleton):
    return dict(zip(skeleton.names, skeleton.joints))


def test_joints_of_a_bent_tube_lie_in_its_borders():
    bend, length = 1.5, 3.0
    mesh = tube(bend=bend, sides=32)
    labels = thirds(mesh, sides=32)
    skeleton, parts = extract_skeleton(mesh, labels, ("a", "b", "c"), return_parts=True)
    assert skeleton.names[0] == "b" and set(skeleton.names) == {"a", "b", "c", "a_end", "c_end"}
    assert skeleton.parents.tolist() == [-1, 0, 0, *[skeleton.names.index(n[0]) for n in skeleton.names[3:]]]
    assert parts.tolist() == [1, *["abc".index(n) for n in skeleton.names[1:3]], -1, -1]
    joints = by_name(skeleton)
    reach = length / bend

    def axis(s):
        return np.array([reach * np.sin(s / reach), reach - reach * np.cos(s / reach), 0])

    np.testing.assert_allclose(joints["a"], axis(1.0), atol=0.03)
    np.testing.assert_allclose(joints["c"], axis(2.0), atol=0.03)
    np.testing.assert_allclose(joints["b"], axis(1.5), atol=0.05)
    np.testing.assert_allclose(joints["a_end"], axis(0.0), atol=0.12)
    np.testing.assert_allclose(joints["c_end"], axis(3.0), atol=0.12)
    np.testing.assert_array_equal(skeleton.bind[:, :3, :3], np.tile(np.eye(3), (5, 1, 1)))


def test_skeleton_of_an_animal():
    rig = animal()
    parts = kinematic_parts(rig, MergeRule(motion=0))
    skeleton, joint_part = extract_skeleton(rig, parts.labels, parts.names, return_parts=True)
    true = {frozenset((k, p)) for k, p in enumerate(parts.parents) if p >= 0}
    found = {frozenset((joint_part[j], joint_part[skeleton.parents[j]])) for j in range(1, len(parts))}
    assert found == true
    joints, reference = by_name(skeleton), by_name(rig.skeleton)
    below = [parts.names[joint_part[j]] for j in range(1, len(parts))
             if parts.parents[joint_part[j]] == joint_part[skeleton.parents[j]]]        # the same way up in both trees
    assert len(below) > 15
    error = [np.linalg.norm(joints[name] - reference[name]) / rig.size for name in below]
    assert np.mean(error) < 0.015 and np.max(error) < 0.04          # measured 0.009
    assert sum(name.endswith("_end") for name in skeleton.names) == 7
    for name in ("tail_3", "ear_left", "front_foot_right"):
        part = rig.vertices[parts.labels == parts.names.index(name)]
        assert np.all(joints[name + "_end"] >= part.min(0)) and np.all(joints[name + "_end"] <= part.max(0))


def test_seams_and_new_ids_change_nothing():
    rig = animal(1500)
    labels = rig.weights.argmax(1)
    skeleton = extract_skeleton(rig, labels)
    torn, source = unwelded(rig)
    other = extract_skeleton(torn, labels[source])
    assert other.names == skeleton.names
    np.testing.assert_array_equal(other.parents, skeleton.parents)
    np.testing.assert_allclose(other.joints, skeleton.joints, atol=1e-9)
    ids = np.random.default_rng(0).permutation(40)[:labels.max() + 1]
    renamed = extract_skeleton(rig, ids[labels])
    original = {f"part_{k}": f"part_{ids[k]}" for k in range(len(ids))}
    edges = {(n, skeleton.names[p]) for n, p in zip(skeleton.names, skeleton.parents) if p >= 0 and "_end" not in n}
    assert {(n, renamed.names[p]) for n, p in zip(renamed.names, renamed.parents) if p >= 0 and "_end" not in n} == {
        (original[a], original[b]) for a, b in edges}


def test_shells_hang_on_what_is_near():
    body, hat = tube(60, 12), tube(10, 8, length=0.4, radius=0.1)
    far = Mesh(hat.vertices + [5, 0, 0], hat.faces)
    mesh = joined(body, Mesh(hat.vertices + [2.6, 0.45, 0], hat.faces), far)
    labels = np.r_[thirds(body, 60, 12), np.full(len(hat.vertices), 3), np.full(len(far.vertices), 4)]
    skeleton = extract_skeleton(mesh, labels, ("a", "b", "c", "hat", "far"), ends=False)
    parent = {n: skeleton.names[p] for n, p in zip(skeleton.names, skeleton.parents) if p >= 0}
    assert parent == {"a": "b", "c": "b", "hat": "c", "far": "c"}
    x, y, z = by_name(skeleton)["hat"]
    assert 2.5 < x < 3.1 and 0.29 < y < 0.4 and abs(z) < 0.1         # in the gap between them


def test_one_part_missing_ids_and_ends():
    mesh = tube(20, 8)
    one, part = extract_skeleton(mesh, np.full(len(mesh.vertices), 5), return_parts=True)
    assert one.names == ("part_5", "part_5_end") and part.tolist() == [5, -1]
    np.testing.assert_allclose(one.joints[0], [1.5, 0, 0], atol=0.02)
    gaps = extract_skeleton(mesh, 3 * thirds(mesh, 20, 8, 2), ends=False)
    assert set(gaps.names) == {"part_0", "part_3"} and len(gaps) == 2


def test_names_must_be_enough_and_different():
    mesh = tube(20, 8)
    labels = thirds(mesh, 20, 8)
    with pytest.raises(ValueError, match="only 2 names"):
        extract_skeleton(mesh, labels, ("a", "b"))
    with pytest.raises(ValueError, match="two parts have one name: a"):
        extract_skeleton(mesh, labels, ("a", "a", "b"))


def test_joints_lie_inside_where_the_border_is_a_strip():
    mesh = tube(60, 32)
    labels = thirds(mesh, 60, 32)
    labels[(labels == 1) & (mesh.vertices[:, 1] < 0)] = 3            # the middle has a back and a belly
    skeleton = extract_skeleton(mesh, labels, ends=False)
    for name, point in by_name(skeleton).items():
        assert np.hypot(*point[1:]) < 0.2, name


def test_parts_that_meet_in_one_place_are_siblings():
    rig = animal()
    skeleton, parts = extract_skeleton(rig, kinematic_parts(rig).labels, return_parts=True)
    sides = [n for n in skeleton.names if n.endswith("_left")]
    assert sides and {n.replace("_left", "_right") for n in sides} <= set(skeleton.names)
    joints = by_name(skeleton)
    for name in sides:
        left, right = joints[name], joints[name.replace("_left", "_right")]
        assert left[0] > right[0]                                    # glTF's left is +x
        np.testing.assert_allclose((left - right)[1:], 0, atol=0.02 * rig.size)
    assert parts[0] >= 0


def test_poses_move_joints_to_where_the_parts_turn():
    mesh = tube(60, 16)
    labels = thirds(mesh, 60, 16, 2)
    pivot = np.array([1.62, 0.1, 0.0])                               # not in the middle of the border, at x = 1.5
    poses = []
    for axis in np.eye(3):
        turn = np.eye(3) + 0.8 * np.cross(np.eye(3), -axis) + 0.4 * (np.outer(axis, axis) - np.eye(3))
        u, _, v = np.linalg.svd(turn)
        moved = mesh.vertices.copy()
        moved[labels == 1] = (moved[labels == 1] - pivot) @ (u @ v).T + pivot
        poses.append(moved + axis)
    still = extract_skeleton(mesh, labels, ends=False).joints[1]
    found = extract_skeleton(mesh, labels, poses=poses, ends=False).joints[1]
    assert np.linalg.norm(found - pivot) < 0.1 * np.linalg.norm(still - pivot)
    with pytest.raises(ValueError, match="poses must be finite"):
        extract_skeleton(mesh, labels, poses=np.zeros((2, 5, 3)))


def test_smallest_meshes_and_bad_ones():
    one = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    for labels in ([0, 0, 0], [0, 1, 1], [2, 0, 1]):
        skeleton = extract_skeleton(one, np.array(labels))
        assert np.isfinite(skeleton.bind).all() and (skeleton.parents < 0).sum() == 1
    with pytest.raises(ValueError, match="no triangles"):
        extract_skeleton(Mesh(one.vertices, np.zeros((0, 3), int)), np.zeros(3, int))
    with pytest.raises(ValueError, match="NaN or infinity"):
        extract_skeleton(Mesh(one.vertices * np.nan, one.faces), np.zeros(3, int))
