"""The family of four-legged animals."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sp4dlib.rigs import Proportions, quadruped, sample_proportions
from sp4dlib.rigs.proportions import PATTERNS, RANGES

LIMBS = ("ear_left", "ear_right", "front_left", "front_right", "hind_left", "hind_right", "tail")


@pytest.fixture(scope="module", params=[None, 0, 1, 2, "long", "short"])
def animal(request):
    """The default animal, three drawn ones, and the two corners of the family."""
    if isinstance(request.param, str):
        end = ("short", "long").index(request.param)
        return quadruped(**{name: bounds[end] for name, bounds in RANGES.items()})
    return quadruped(request.param)


def limb_of(name: str) -> str | None:
    for limb in LIMBS:
        first, _, side = limb.partition("_")
        if name == limb or (name.startswith(first) and (not side or name.endswith(side))):
            return limb
    return None


def test_one_closed_surface_standing_on_the_ground(animal):
    mesh = trimesh.Trimesh(animal.vertices, animal.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert mesh.body_count == 1 and mesh.euler_number == 2
    assert 1900 < len(animal.vertices) < 3100
    assert abs(animal.vertices[:, 1].min()) < 0.01
    assert np.degrees(mesh.face_angles).min() > 0.5 and np.median(np.degrees(mesh.face_angles).min(1)) > 35


def test_skeleton(animal):
    skeleton = animal.skeleton
    assert len(skeleton) == 22 and len(set(skeleton.names)) == 22
    np.testing.assert_array_equal(skeleton.bind[:, :3, :3], np.eye(3)[None].repeat(22, 0))
    mesh = trimesh.Trimesh(animal.vertices, animal.faces, process=False)
    assert mesh.contains(skeleton.joints).all(), "joints lie inside the body"
    at = dict(zip(skeleton.names, skeleton.joints))
    assert at["head"][2] > at["pelvis"][2], "faces +z"
    assert at["front_upper_left"][0] > 0 > at["front_upper_right"][0], "its left is +x"
    assert {limb_of(n) for n in skeleton.names} == {None, *LIMBS}


def test_weights(animal):
    weights, names = animal.weights, animal.skeleton.names
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    assert (weights >= 0).all() and (weights > 0).sum(1).max() <= 4
    dominant = np.bincount(weights.argmax(1), minlength=22)
    assert dominant.min() >= 8, f"some joint moves nothing: {dict(zip(names, dominant))}"
    limbs = np.stack([weights[:, [limb_of(n) == limb for n in names]].sum(1) for limb in LIMBS], 1)
    assert (limbs > 0).sum(1).max() <= 1, "a vertex follows two limbs"
    tip = {"tail": "tail_3", "front_left": "front_foot_left", "hind_right": "hind_foot_right"}
    for limb, joint in tip.items():       # the vertices furthest out follow the last joint alone
        mine = limbs[:, LIMBS.index(limb)] > 0.5
        far = animal.vertices[:, 1] if "tail" not in limb else animal.vertices[:, 2]
        assert weights[np.flatnonzero(mine)[far[mine].argmin()], names.index(joint)] == 1


def test_weights_are_smooth(animal):
    edges = np.sort(np.concatenate([animal.faces[:, [0, 1]], animal.faces[:, [1, 2]]]), 1)
    jump = np.abs(animal.weights[edges[:, 0]] - animal.weights[edges[:, 1]]).sum(1) / 2
    assert np.quantile(jump, 0.99) < 0.75 and jump.mean() < 0.12


def test_walk_loops_and_stands(animal):
    walk = animal.animation("walk")
    times = np.linspace(0, walk.duration, 33)
    posed = animal.pose(walk, times)
    assert np.abs(posed[0] - posed[-1]).max() < 1e-9 and np.isfinite(posed).all()
    assert np.abs(animal.pose("look", [0]) - animal.pose("look", [3.0])).max() < 1e-9
    names, ground = animal.skeleton.names, np.abs(posed[..., 1].min(1)).max()
    assert ground < 0.02 * animal.size, "feet neither float nor sink"
    down = []
    for limb in ("front_left", "front_right", "hind_left", "hind_right"):
        kind, side = limb.split("_")
        foot = animal.weights[:, names.index(f"{kind}_foot_{side}")] == 1
        down.append(posed[:-1, foot, 1].min(1) < 0.012 * animal.size)
        forward = posed[:, foot, 2].mean(1)
        assert np.ptp(forward) > 0.15 * animal.skeleton.joints[names.index(f"{kind}_upper_{side}"), 1], "no step"
        assert 0.4 < down[-1].mean() < 0.9, f"{limb} stands {down[-1].mean():.0%} of the cycle"
    assert np.sum(down, axis=0).min() >= 2, "a walk always has two feet on the ground"


def test_a_trot_moves_diagonal_pairs():
    rig = quadruped(1, vertices=1000)
    trot = rig.animation("trot")
    assert [a.name for a in quadruped(vertices=1000).animations] == ["walk", "look"], "the default animal only walks"
    assert trot.duration < rig.animation("walk").duration
    posed = rig.pose(trot, np.linspace(0, trot.duration, 33))
    assert np.abs(posed[0] - posed[-1]).max() < 1e-9 and np.abs(posed[..., 1].min(1)).max() < 0.02 * rig.size
    names = rig.skeleton.names
    height = {limb: posed[:, rig.weights[:, names.index(limb)] == 1, 1].min(1)
              for limb in ("front_foot_left", "hind_foot_right", "front_foot_right", "hind_foot_left")}
    lifts = np.corrcoef(list(height.values()))
    assert lifts[0, 1] > 0.8 and lifts[2, 3] > 0.8, "a diagonal pair lifts together"
    assert lifts[0, 2] < 0 and lifts[0, 3] < 0, "and the other pair in turn"


def test_legs_keep_their_length(animal):
    """Inverse kinematics turns joints and stretches nothing."""
    world = animal.joint_transforms("walk", np.linspace(0, 1, 9))[..., :3, 3]
    parents = animal.skeleton.parents
    length = np.linalg.norm(world[:, 1:] - world[:, parents[1:]], axis=2)
    bind = np.linalg.norm(animal.skeleton.joints[1:] - animal.skeleton.joints[parents[1:]], axis=1)
    np.testing.assert_allclose(length, np.broadcast_to(bind, length.shape), atol=1e-9)


def test_posing_keeps_the_volume():
    rig = quadruped()
    mesh = trimesh.Trimesh(rig.vertices, rig.faces, process=False)
    for posed in rig.pose("walk", np.linspace(0, 1, 5)):
        assert trimesh.Trimesh(posed, rig.faces, process=False).volume == pytest.approx(mesh.volume, rel=0.06)


def test_the_family_varies_and_repeats():
    draws = [sample_proportions(np.random.default_rng(seed)) for seed in range(60)]
    for name, (low, high) in RANGES.items():
        values = [getattr(p, name) for p in draws]
        assert low <= min(values) < low + 0.2 * (high - low) and high - 0.2 * (high - low) < max(values) <= high
    assert {p.pattern for p in draws} == set(PATTERNS) and len({p.coat for p in draws}) >= 8
    a, b = quadruped(7, vertices=1000), quadruped(np.random.default_rng(7), vertices=1000)
    assert a.vertices.tobytes() == b.vertices.tobytes() and a.weights.tobytes() == b.weights.tobytes()
    assert a.appearance.vertex_colors.tobytes() == b.appearance.vertex_colors.tobytes()
    assert quadruped(8, vertices=1000).vertices.shape != a.vertices.shape


@pytest.mark.parametrize("pattern", PATTERNS)
def test_colours(pattern):
    colors = quadruped(vertices=1500, pattern=pattern, coat="#ffffff", belly="#ffffff", marking="#000000")
    colors = colors.appearance.vertex_colors
    assert colors.shape[1] == 4 and colors.min() >= 0 and colors.max() <= 1 and (colors[:, 3] == 1).all()
    dark = (colors[:, 0] < 0.5).mean()
    assert (0.02 < dark < 0.25) if pattern == "plain" else (0.1 < dark < 0.8)


def test_overrides_and_errors():
    assert quadruped(3, vertices=1000, tail_length=0.3).size < quadruped(3, vertices=1000, tail_length=0.8).size
    with pytest.raises(ValueError, match="unknown proportions.*wings"):
        quadruped(wings=2)
    with pytest.raises(ValueError, match="leg_length must be a positive"):
        quadruped(leg_length=-1)
    with pytest.raises(ValueError, match="pattern"):
        Proportions(pattern="tartan")
    with pytest.raises(ValueError, match="too few"):
        quadruped(vertices=50)
