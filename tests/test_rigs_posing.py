"""Rotations, keyframes and linear blend skinning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation, Slerp

from sp4dlib.rigs import Animation, Rig, Skeleton, Track
from sp4dlib.rigs.rig import compose, slerp

COORDINATE = st.floats(-10, 10)
VECTOR = hnp.arrays(np.float64, 3, elements=COORDINATE)


@st.composite
def quaternions(draw):
    q = draw(hnp.arrays(np.float64, 4, elements=st.floats(-1, 1)))
    assume(np.linalg.norm(q) > 1e-2)
    return q / np.linalg.norm(q)


@given(VECTOR, quaternions(), hnp.arrays(np.float64, 3, elements=st.floats(-3, 3)), VECTOR)
def test_compose_is_translate_rotate_scale(translation, rotation, scale, point):
    expected = Rotation.from_quat(rotation).apply(scale * point) + translation
    np.testing.assert_allclose((compose(translation, rotation, scale) @ [*point, 1])[:3], expected, atol=1e-9)


def test_compose_broadcasts():
    generator = np.random.default_rng(0)
    t, q, s = (generator.normal(size=(2, 5, d)) for d in (3, 4, 3))
    one = compose(t[1, 3], q[1, 3], s[1, 3])
    np.testing.assert_allclose(compose(t, q, s)[1, 3], one, atol=1e-12)


@given(quaternions(), quaternions(), st.floats(0, 1))
def test_slerp(a, b, u):
    assume(abs(a @ b) > 1e-6)           # at half a turn both ways are the short one
    ours = slerp(a, b, np.array(u))
    assert np.linalg.norm(ours) == pytest.approx(1)
    theirs = Slerp([0, 1], Rotation.from_quat([a, b]))(u)
    # Rotation angle between the two, from the sine: accurate where they are nearly equal.
    assert (Rotation.from_quat(ours) * theirs.inv()).magnitude() < 1e-6
    np.testing.assert_allclose(slerp(a, b, np.array(0.0)), a, atol=1e-9)
    back = slerp(b, a, np.array(1 - u))
    assert abs(back @ ours) == pytest.approx(1, abs=1e-9)


KEYS = np.array([0.5, 1.0, 2.5, 3.0])


@given(hnp.arrays(np.float64, (4, 3), elements=COORDINATE), st.floats(-1, 5))
def test_linear_and_step_tracks(values, time):
    linear = Track(0, "translation", KEYS, values).at(np.array([time]))[0]
    np.testing.assert_allclose(linear, [np.interp(time, KEYS, values[:, k]) for k in range(3)], atol=1e-9)
    step = Track(0, "translation", KEYS, values, "STEP").at(np.array([time]))[0]
    np.testing.assert_array_equal(step, values[max(np.searchsorted(KEYS, time, side="right") - 1, 0)])


@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(-3, 3)), st.floats(0.5, 3))
def test_cubic_tracks_reproduce_cubics(coefficients, time):
    """A spline whose keys and tangents come from a cubic polynomial is that polynomial."""
    powers = KEYS[:, None] ** np.arange(4)
    slopes = np.arange(4) * KEYS[:, None] ** np.maximum(np.arange(4) - 1, 0)
    value, slope = powers @ coefficients, slopes @ coefficients
    track = Track(0, "scale", KEYS, np.stack([slope, value, slope], 1), "CUBICSPLINE")
    np.testing.assert_allclose(track.at(np.array([time]))[0], time ** np.arange(4) @ coefficients, atol=1e-8)


@pytest.mark.parametrize("kind", ["LINEAR", "STEP", "CUBICSPLINE"])
def test_rotation_tracks_stay_unit_and_hold_their_ends(kind):
    q = Rotation.random(4, random_state=0).as_quat()
    values = np.stack([0 * q, q, 0 * q], 1) if kind == "CUBICSPLINE" else q
    out = Track(0, "rotation", KEYS, values, kind).at(np.linspace(-1, 5, 61))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(out[[0, -1]], q[[0, -1]], atol=1e-12)


def test_tracks_of_one_key_are_constant():
    for values, kind in ((np.ones((1, 3)), "LINEAR"), (np.array([[[5.0] * 3, [1.0] * 3, [5.0] * 3]]), "CUBICSPLINE")):
        track = Track(0, "translation", np.array([2.0]), values, kind)
        np.testing.assert_array_equal(track.at(np.array([0, 2, 9.0])), np.ones((3, 3)))


def arm() -> Rig:
    """Two joints along x, at 0 and 1, and four vertices: at each joint, half way, and at the end."""
    bind = np.repeat(np.eye(4)[None], 2, axis=0)
    bind[1, 0, 3] = 1
    skeleton = Skeleton([-1, 0], ("shoulder", "elbow"), bind)
    vertices = np.array([[0, 0, 0], [1.5, 0, 0], [2, 0, 0], [2, 0, 1.0]])
    weights = np.array([[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    quarter = np.array([[0, 0, 0, 1], [0, 0, np.sqrt(0.5), np.sqrt(0.5)]])
    bend = Animation("bend", 1.0, np.array([[0, 0, 0], [1.0, 0, 0]]), np.tile([0.0, 0, 0, 1], (2, 1)), np.ones((2, 3)),
                     (Track(1, "rotation", np.array([0.0, 1]), quarter),))
    return Rig(vertices, [[0, 1, 2], [0, 2, 3]], weights, skeleton, (bend,), name="arm")


def test_known_answers_of_skinning():
    posed = arm().pose("bend", [0, 0.5, 1, 7])
    np.testing.assert_allclose(posed[0], arm().vertices, atol=1e-12)
    # Elbow bent by 90 degrees: the end goes up; the vertex in between is the mean of (1.5, 0) and (1, 0.5).
    np.testing.assert_allclose(posed[2], [[0, 0, 0], [1.25, 0.25, 0], [1, 1, 0], [1, 1, 1]], atol=1e-12)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(posed[1][2], [1 + half, half, 0], atol=1e-12)
    np.testing.assert_array_equal(posed[3], posed[2])
    assert posed.flags.c_contiguous


def test_skinning_is_the_dense_formula():
    generator = np.random.default_rng(0)
    t, n, j = 5, 40, 7
    weights = generator.uniform(size=(n, j)) * (generator.uniform(size=(n, j)) < 0.4) + 1e-3
    weights /= weights.sum(1, keepdims=True)
    parents = [-1, *range(j - 1)]
    skeleton = Skeleton(parents, tuple("abcdefg"), np.eye(4)[None].repeat(j, 0))
    rig = Rig(generator.normal(size=(n, 3)), [[0, 1, 2]], weights, skeleton)
    transforms = generator.normal(size=(t, j, 4, 4))
    homogeneous = np.concatenate([rig.vertices, np.ones((n, 1))], 1)
    expected = np.einsum("nj,tjab,nb->tna", weights, transforms, homogeneous)[..., :3]
    np.testing.assert_allclose(rig.skin(transforms), expected, atol=1e-12)


def test_hierarchy_is_applied_parent_first():
    generator = np.random.default_rng(1)
    parents = np.array([-1, 0, 1, 0, 3, 2, 2])
    local = generator.normal(size=(3, 7, 4, 4))
    world = Skeleton(parents, tuple("abcdefg"), np.eye(4)[None].repeat(7, 0)).chain(local)
    np.testing.assert_allclose(world[:, 5], local[:, 0] @ local[:, 1] @ local[:, 2] @ local[:, 5], atol=1e-9)
    np.testing.assert_allclose(world[:, 4], local[:, 0] @ local[:, 3] @ local[:, 4], atol=1e-9)


def test_bind_pose_lookup_and_strip():
    rig = arm()
    np.testing.assert_array_equal(rig.pose(None, [0, 1])[1], rig.vertices)
    assert rig.animation("bend") is rig.animation(0) is rig.animation(rig.animations[0])
    mesh = rig.strip()
    assert mesh.vertices is rig.vertices and mesh.faces is rig.faces and not hasattr(mesh, "weights")


def test_before_stands_between_joint_and_parent():
    rig = arm()
    lift = np.repeat(np.eye(4)[None], 2, axis=0)
    lift[0, 1, 3] = 5
    plain = rig.animations[0]
    lifted = Animation("lifted", 1.0, plain.translation, plain.rotation, plain.scale, plain.tracks, lift)
    np.testing.assert_allclose(rig.pose(lifted, [0.7]), rig.pose(plain, [0.7]) + [0, 5, 0], atol=1e-12)


@pytest.mark.parametrize("change, message", [
    (dict(weights=np.ones((4, 2))), "sum to 1"), (dict(weights=np.eye(2)), r"\(N, J\)"),
    (dict(vertices=np.full((4, 3), np.nan)), "NaN"), (dict(faces=[[0, 1, 9]]), "outside 0..3"),
    (dict(faces=[[0, 1]]), r"\(F, 3\)")])
def test_rig_refuses_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        arm().replace(**change)


def test_skeleton_and_time_errors():
    eye = np.eye(4)[None]
    with pytest.raises(ValueError, match="before its children"):
        Skeleton([-1, 2, 0], tuple("abc"), eye.repeat(3, 0))
    with pytest.raises(ValueError, match="names"):
        Skeleton([-1], ("a", "b"), eye)
    with pytest.raises(ValueError, match="finite"):
        arm().pose("bend", [np.nan])
    with pytest.raises(KeyError, match="no animation 'run'"):
        arm().pose("run", [0])
