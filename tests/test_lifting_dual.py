"""Dual-quaternion skinning: known answers."""

import numpy as np
import pytest
from lifting_meshes import animal, tube
from scipy.spatial.transform import Rotation

from sp4dlib.lifting.dual import dual_quaternion_pose, dual_quaternion_skin


def rigid(rotation, shift=(0, 0, 0)):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation.as_matrix(), shift
    return out


def linear_skin(vertices, weights, transforms):
    moved = np.einsum("jab,nb->nja", transforms[:, :3], np.c_[vertices, np.ones(len(vertices))])
    return np.einsum("nj,nja->na", weights, moved)


def test_a_twist_keeps_the_radius_where_the_linear_blend_collapses():
    mesh = tube(60, 16)
    share = np.clip(mesh.vertices[:, 0] / 3, 0, 1)
    weights = np.stack([1 - share, share], 1)
    twist = np.stack([np.eye(4), rigid(Rotation.from_rotvec([np.radians(170), 0, 0]))])
    side = slice(0, 60 * 16)
    radius = np.linalg.norm(mesh.vertices[side, 1:], axis=1)
    dual = dual_quaternion_skin(mesh.vertices, weights, twist[None])[0]
    np.testing.assert_allclose(np.linalg.norm(dual[side, 1:], axis=1), radius, atol=1e-9)
    np.testing.assert_allclose(dual[:, 0], mesh.vertices[:, 0], atol=1e-9)
    linear = linear_skin(mesh.vertices, weights, twist)
    assert np.linalg.norm(linear[side, 1:], axis=1).min() < 0.2 * radius.min()


def test_one_joint_is_its_own_affine_map_whatever_its_scale():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(20, 3))
    weights = np.eye(2)[generator.integers(0, 2, 20)]
    transforms = np.stack([rigid(Rotation.random(rng=0), (1, 2, 3)), rigid(Rotation.random(rng=1), (-1, 0, 2))])
    transforms[:, :3, :3] = transforms[:, :3, :3] @ np.diag([2.0, 0.5, 1.5])
    np.testing.assert_allclose(dual_quaternion_skin(points, weights, transforms[None])[0],
                               linear_skin(points, weights, transforms), atol=1e-9)


@pytest.mark.parametrize("angle", [100, 200, 300, 359])
def test_nearly_equal_rotations_never_meet_on_opposite_sides(angle):
    points = np.random.default_rng(0).normal(size=(20, 3))
    transforms = np.stack([rigid(Rotation.from_rotvec([0, np.radians(a), 0])) for a in (angle, angle + 2)])
    moved = dual_quaternion_skin(points, np.full((20, 2), 0.5), transforms[None])[0]
    np.testing.assert_allclose(moved, Rotation.from_rotvec([0, np.radians(angle + 1), 0]).apply(points), atol=1e-9)


def test_a_common_motion_is_that_motion_and_small_motions_agree_with_the_linear_blend():
    rig = animal(1500)
    move = rigid(Rotation.random(rng=3), (0.3, -1, 2))
    moved = dual_quaternion_skin(rig.vertices, rig.weights, np.tile(move, (1, len(rig.skeleton), 1, 1)))[0]
    np.testing.assert_allclose(moved, rig.vertices @ move[:3, :3].T + move[:3, 3], atol=1e-9)
    times = np.linspace(0, 1, 5)
    gap = np.linalg.norm(dual_quaternion_pose(rig, "walk", times) - rig.pose("walk", times), axis=-1)
    assert 0 < gap.mean() < 2e-3 * rig.size
