"""Every family of procedural rigs: closed shells, exact weights, motion that loops, seeds that matter and repeat."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sp4dlib import clips, rigs
from sp4dlib.rigs.families import biped, bird, fish, hand, insect, snake, wheeled
from sp4dlib.rigs.families import arm as robot_arm

WANTED = ("quadruped", "biped", "bird", "fish", "snake", "insect", "hand", "robot_arm", "wheeled")
# Joints whose vertices follow more than one of them are skin; a machine has none.
RIGID = ("robot_arm", "wheeled", "insect")
PARTS = {"quadruped": (10, 22), "biped": (9, 17), "bird": (9, 18), "fish": (4, 10), "snake": (6, 16),
         "insect": (12, 30), "hand": (12, 17), "robot_arm": (6, 10), "wheeled": (4, 16)}
MODULES = {"biped": biped, "bird": bird, "fish": fish, "hand": hand, "insect": insect, "robot_arm": robot_arm,
           "snake": snake, "wheeled": wheeled}
every_family = pytest.mark.parametrize("family", WANTED)


@pytest.fixture(scope="module")
def herd():
    """Two of each family."""
    return {family: [rigs.creature(family, seed) for seed in (0, 1)] for family in WANTED}


def closed_volumes(rig):
    """Volume of each shell; not a number where the mesh has holes or faces that disagree."""
    mesh = trimesh.Trimesh(rig.vertices, rig.faces, process=False)
    links = coo_matrix((np.ones(rig.faces.size), (rig.faces.ravel(), np.roll(rig.faces, 1, 1).ravel())),
                       shape=(len(rig.vertices),) * 2)
    count, shell = connected_components(links, directed=False)
    a, b, c = (rig.vertices[rig.faces[:, k]] for k in range(3))
    volumes = np.bincount(shell[rig.faces[:, 0]], np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, count)
    return volumes if mesh.is_watertight and mesh.is_winding_consistent else np.full(count, np.nan)


def test_the_list_is_whole():
    assert set(rigs.FAMILIES) == set(WANTED) and len(rigs.FAMILIES) == len(WANTED)


@every_family
def test_shells_are_closed_and_look_outwards(herd, family):
    for rig in herd[family]:
        assert (closed_volumes(rig) > 0).all(), "a vertex of no face is a shell of no volume"
        assert 2000 <= len(rig.vertices) <= 8000
        assert rig.vertices[:, 1].min() > -0.03 * rig.size


@every_family
def test_weights_follow_few_joints(herd, family):
    for rig in herd[family]:
        np.testing.assert_allclose(rig.weights.sum(1), 1, atol=1e-12)
        assert (rig.weights >= 0).all() and (rig.weights > 0).sum(1).max() <= 4
        blended = ((rig.weights > 0).sum(1) > 1).mean()
        assert blended == 0 if family in RIGID else blended > 0.03
        assert np.isfinite(rig.skeleton.bind).all() and len(set(rig.skeleton.names)) == len(rig.skeleton)


@every_family
def test_left_is_left(herd, family):
    for rig in herd[family]:
        at = dict(zip(rig.skeleton.names, rig.skeleton.joints))
        pairs = [name for name in at if name.endswith("_left")]
        for name in pairs:
            other = at[name.removesuffix("_left") + "_right"]
            assert at[name][0] > 0 > other[0]
            np.testing.assert_allclose(at[name] * [-1, 1, 1], other, atol=1e-12)
        assert pairs or family in ("snake", "hand", "robot_arm", "wheeled")


@every_family
def test_motion_loops_and_moves(herd, family):
    for rig in herd[family]:
        assert len({animation.name for animation in rig.animations}) == len(rig.animations) >= 2
        for animation in rig.animations:
            posed = rig.pose(animation, np.linspace(0, animation.duration, 13))
            assert np.isfinite(posed).all() and 0.4 < animation.duration < 8
            np.testing.assert_allclose(posed[0], posed[-1], atol=1e-9)
            assert 0.05 < np.ptp(posed, axis=0).max() / rig.size < 2.5
            steps = np.linalg.norm(np.diff(posed, axis=0), axis=2).max() / rig.size
            assert steps < 0.9, f"{rig.name}: {animation.name} jumps"


@every_family
def test_parts_are_as_many_as_one_sees(herd, family):
    low, high = PARTS[family]
    for rig in herd[family]:
        assert low <= len(clips.kinematic_parts(rig)) <= high


@every_family
def test_colours_are_several(herd, family):
    for rig in herd[family]:
        look = rig.appearance
        colors = look.vertex_colors
        assert colors.shape == (len(rig.vertices), 4) and colors.min() >= 0 and colors.max() <= 1
        assert len(look.face_material) == len(rig.faces) and set(look.face_material) == set(range(len(look.materials)))
        base = np.array([material.base_color for material in look.materials])
        seen = colors[rig.faces[:, 0]] * base[look.face_material]
        assert len(np.unique((seen[:, :3] * 8).round(), axis=0)) >= 4


@every_family
def test_seeds_matter_and_repeat(herd, family):
    first, second = herd[family]
    again = rigs.creature(family, np.random.default_rng(0))
    assert first.name == f"{family}_0" and again.name == family
    assert first.vertices.tobytes() == again.vertices.tobytes()
    assert first.faces.tobytes() == again.faces.tobytes() and first.weights.tobytes() == again.weights.tobytes()
    assert first.appearance.vertex_colors.tobytes() == again.appearance.vertex_colors.tobytes()
    assert first.pose(0, [0.3]).tobytes() == again.pose(0, [0.3]).tobytes()
    assert first.vertices.shape != second.vertices.shape or not np.allclose(first.vertices, second.vertices)


@pytest.mark.parametrize(("family", "feet"), [("biped", "leg_foot"), ("bird", "leg_foot"), ("insect", "tibia")])
def test_walkers_stand_on_the_ground(herd, family, feet):
    for rig in herd[family]:
        posed = rig.pose("walk", np.linspace(0, rig.animation("walk").duration, 17))
        owner = rig.weights.argmax(1)
        down = []
        for joint in (j for j, name in enumerate(rig.skeleton.names) if feet in name):
            lowest = posed[:, owner == joint, 1].min(1)
            assert lowest.min() > -0.035 * rig.size, "a foot sinks"
            down.append(lowest < 0.03 * rig.size)
        assert np.sum(down, axis=0).min() >= len(down) / 2, "no gait here leaves the ground"


def test_wheels_turn_whole_turns_about_their_axles(herd):
    for rig in herd["wheeled"]:
        drive = rig.animation("drive")
        quarter = rig.joint_transforms(drive, np.linspace(0, drive.duration, 49))
        for joint in (j for j, name in enumerate(rig.skeleton.names) if name.startswith("wheel")):
            parent = rig.skeleton.parents[joint]
            local = np.linalg.inv(quarter[:, parent]) @ quarter[:, joint]
            np.testing.assert_allclose(local[:, 0, 0], 1, atol=1e-9)             # the axle is x
            angle = np.unwrap(np.arctan2(local[:, 2, 1], local[:, 1, 1]))
            assert angle[-1] - angle[0] == pytest.approx(4 * np.pi)


def test_an_arm_keeps_its_gripper_upright(herd):
    for rig in herd["robot_arm"]:
        pick = rig.animation("pick")
        palm = rig.joint_transforms(pick, np.linspace(0, pick.duration, 33))[:, rig.skeleton.names.index("palm")]
        np.testing.assert_allclose(palm[:, 1, 1], 1, atol=1e-3)
        assert np.ptp(palm[:, 1, 3]) > 0.1 * rig.size and np.ptp(palm[:, 0, 3]) > 0.3 * rig.size


def test_a_snake_keeps_its_place_and_its_length(herd):
    for rig in herd["snake"]:
        joints = rig.joint_transforms("slither", np.linspace(0, rig.animation("slither").duration, 9))[..., :3, 3]
        np.testing.assert_allclose(joints.mean(1)[:, [0, 2]], rig.skeleton.joints.mean(0)[[0, 2]][None].repeat(9, 0),
                                   atol=1e-6)
        bones = np.linalg.norm(joints[:, 1:] - joints[:, rig.skeleton.parents[1:]], axis=2)
        np.testing.assert_allclose(bones, bones[:1].repeat(9, 0), atol=1e-9)


@pytest.mark.parametrize("family", sorted(MODULES))
def test_every_choice_grows(family):
    """Each value of each choice, and both ends of all ranges at once, gives closed shells."""
    module = MODULES[family]
    choices = {key: values for key, values in module.CHOICES.items() if key != "colors"}
    cases = [{key: values[k % len(values)] for key, values in choices.items()}
             for k in range(max(map(len, choices.values())))]
    for end, options in enumerate(cases[:2]):
        options |= {key: bounds[end] for key, bounds in module.RANGES.items()}
    for options in cases:
        rig = rigs.creature(family, 5, vertices=1200, **options)
        assert (closed_volumes(rig) > 0).all(), options
        assert all(np.isfinite(rig.pose(animation, [0.2])).all() for animation in rig.animations)


def test_options_override_and_number_of_vertices():
    short, long = (rigs.creature("snake", 2, length=length) for length in (1.5, 3.0))
    assert long.size > 1.7 * short.size
    for wanted in (2500, 6000):
        for family in ("fish", "snake", "robot_arm"):
            assert len(rigs.creature(family, 1, vertices=wanted).vertices) == pytest.approx(wanted, rel=0.1)
    assert set(rigs.family_options("fish")) >= {"length", "tail", "colors"}
    assert "coat" in rigs.family_options("quadruped")


@pytest.mark.parametrize(("call", "words"), [
    (lambda: rigs.creature("dragon"), "unknown family 'dragon'.*quadruped.*wheeled"),
    (lambda: rigs.family_options("dragon"), "unknown family"),
    (lambda: rigs.creature("fish", legs=4), "a fish has no legs; it has length"),
    (lambda: rigs.creature("fish", tail="square"), "must be one of .*fork"),
    (lambda: rigs.creature("fish", length=-1), "length of a fish must be a positive number"),
    (lambda: rigs.creature("fish", length="long"), "positive number"),
    (lambda: rigs.creature("hand", vertices=10), "10 vertices are too few"),
    (lambda: rigs.creature("quadruped", wings=2), "unknown proportions.*wings")])
def test_errors_say_what_there_is(call, words):
    with pytest.raises(ValueError, match=words):
        call()
