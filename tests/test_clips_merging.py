"""Bones that move and look alike become one part; the rule is what it says; parts are rigid."""

from dataclasses import replace

import numpy as np
import pytest
from clips_rigs import arm

from sp4dlib.clips import MergeRule, TooManyParts, connected_pairs, kinematic_parts, merge_steps
from sp4dlib.clips.looks import color_distance, color_quantiles, face_colors
from sp4dlib.clips.rigid import procrustes_residuals, rigid_residuals
from sp4dlib.rigs import Appearance, Material, quadruped
from sp4dlib.rigs import assets as registry

EVERY_COLOR = 1e9


def painted(rig, *colors):
    """The rig with one material for each box."""
    materials = tuple(Material(str(k), (*color, 1)) for k, color in enumerate(colors))
    return rig.replace(appearance=Appearance(materials, np.repeat(np.arange(len(colors)), 12)))


def test_a_pair_that_stands_still_and_looks_alike_is_one_part():
    rig = painted(arm((1, 1, 1)), *[(0.5, 0.4, 0.3)] * 3)          # bone 1 turns and takes bone 2 along
    parts = kinematic_parts(rig)
    assert parts.names == ("bone 0", "bone 1") and parts.joint_part.tolist() == [0, 1, 1]
    (step,) = merge_steps(rig)
    assert (step.reason, step.joint, step.into) == ("alike", 2, 1) and step.motion < 1e-9 and step.appearance == 0
    assert step.share == pytest.approx(1 / 3)


def test_another_colour_keeps_a_still_pair_apart():
    rig = painted(arm((1, 1, 1)), (0.5, 0.4, 0.3), (0.5, 0.4, 0.3), (0.1, 0.2, 0.8))
    assert len(kinematic_parts(rig)) == 3 and merge_steps(rig) == []
    assert len(kinematic_parts(rig, MergeRule(appearance=EVERY_COLOR))) == 2


def test_motion_is_the_displacement_as_seen_from_the_larger_region():
    rig = painted(arm((2, 1)), (0.5,) * 3, (0.5,) * 3)             # bone 1 turns by 90 degrees about its box's centre
    rule = MergeRule(frames=64)
    (pair,) = connected_pairs(rig, rule)
    # Corners are sqrt(0.5) from the axis; their usual place is the mean over a quarter turn, in 64 steps.
    matrices = rig.joint_transforms("wave", np.linspace(0, 1, 64))[:, 1, :2, :2]
    angle = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    away = np.exp(1j * angle) - np.exp(1j * angle).mean()
    assert pair.motion == pytest.approx(np.sqrt(0.5) * np.sqrt((np.abs(away) ** 2).mean()) / rig.size, rel=1e-6)


def test_moving_the_whole_object_is_no_motion_between_its_parts():
    rig = painted(arm((1, 1), parents=[-1, 0]), (0.5,) * 3, (0.5,) * 3)
    wave = rig.animations[0]
    turned = replace(wave, tracks=(replace(wave.tracks[0], joint=0),))         # the root turns: all goes along
    (pair,) = connected_pairs(rig.replace(animations=(turned,)))
    assert pair.motion < 1e-9


def test_one_animation_that_moves_is_enough():
    rig = painted(arm((1, 1)), (0.5,) * 3, (0.5,) * 3)
    wave = rig.animations[0]
    still = replace(wave, name="still", tracks=())
    many = rig.replace(animations=(wave, *[still] * 9))
    assert len(kinematic_parts(many)) == 2


def test_without_animation_short_bones_are_merged_and_long_ones_are_not():
    grey = [(0.5,) * 3] * 3
    rig = painted(arm((2, 2, 0.4)), *grey).replace(animations=())
    pairs = {pair.lower: pair for pair in connected_pairs(rig)}
    swing = 2 * np.sin(np.radians(MergeRule().swing) / 2)
    assert pairs[1].motion == pytest.approx(swing * np.sqrt(3 * 1.0**2) / rig.size, rel=1e-6)   # corners at (1, 1, 1)
    assert len(kinematic_parts(rig, MergeRule(min_share=0))) == 2
    assert len(kinematic_parts(rig, MergeRule(min_share=0, swing=60))) == 3


def test_more_parts_than_the_rule_allows_are_refused():
    rig = arm((1,) * 5)
    with pytest.raises(TooManyParts, match="5 parts.*4 are the most"):
        kinematic_parts(rig, MergeRule(motion=0, max_parts=4))


@pytest.mark.parametrize("change", [{"motion": -1}, {"appearance": float("nan")}, {"swing": -3}, {"frames": 1},
                                    {"max_parts": 0}, {"min_share": 1.0}])
def test_impossible_rules_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        MergeRule(**change)


def test_colours_of_vertices_textures_and_factors_count():
    faces = np.array([[0, 1, 2]])
    red = np.tile([1.0, 0, 0, 1], (3, 1))
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[..., 0] = 255
    looks = (Appearance((Material("a", (1, 0, 0, 1)),), np.zeros(1, int)),
             Appearance((Material("b", (1, 1, 1, 1)),), np.zeros(1, int), vertex_colors=red),
             Appearance((Material("c", (1, 1, 1, 1), texture),), np.zeros(1, int), uv=np.zeros((3, 2))))
    for look in looks:
        np.testing.assert_allclose(face_colors(faces, look), np.tile([53.24, 80.09, 67.20], (1, 4, 1)), atol=0.02)


def test_colour_distance_knows_shares_and_means():
    black, white = np.zeros((1, 3)), np.array([[100.0, 0, 0]])
    half = color_quantiles(np.vstack([black, white]), np.array([1.0, 1]))
    assert color_distance(color_quantiles(black, np.ones(1)), color_quantiles(white, np.ones(1))) == 100
    assert color_distance(half, color_quantiles(white, np.ones(1))) == 50
    assert color_distance(half, half) == 0


def test_rigid_points_leave_nothing_and_bent_ones_do():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(40, 3))
    u, _, vt = np.linalg.svd(generator.normal(size=(6, 3, 3)))
    turns = u @ vt * np.linalg.det(u @ vt)[:, None, None]
    moved = np.einsum("trc,ic->tir", turns, points) + generator.normal(size=(6, 1, 3))
    assert procrustes_residuals(moved, np.ones(40)).max() < 1e-9
    assert procrustes_residuals(moved * np.linspace(1, 1.5, 6)[:, None, None], np.ones(40)).max() > 0.1


def test_merged_parts_of_an_animal_are_as_rigid_as_its_bones():
    rig = quadruped(0, vertices=1200)
    bones, parts = kinematic_parts(rig, MergeRule(motion=0, min_share=0)), kinematic_parts(rig)
    assert 5 < len(parts) < len(bones) == 22
    before, after = (np.nanmedian(rigid_residuals(rig, each)) for each in (bones, parts))
    assert before < 0.01 and after < 2 * before
    one = kinematic_parts(rig, MergeRule(motion=10, appearance=EVERY_COLOR))
    assert len(one) == 1 and np.nanmedian(rigid_residuals(rig, one)) > 2 * after


def test_steps_of_real_rigs_lead_to_their_parts(assets):
    for name in ("animals_pack/Wolf", "easy_enemies_pack/Snake", "modular_men/Casual"):
        rig = registry.load(name)
        parts, steps = kinematic_parts(rig), merge_steps(rig)
        owners = np.unique(rig.weights.argmax(1))
        assert len(owners) - len(steps) == len(parts) > 2
        rule = MergeRule()
        for step in steps:
            if step.reason == "alike":
                assert step.motion < rule.motion and step.appearance < rule.appearance
            else:
                assert step.share < rule.min_share
