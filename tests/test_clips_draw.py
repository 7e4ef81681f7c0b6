"""Random clips: the same from the same seed, true in every view and frame, and refused for a reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from clips_rigs import arm

from sp4dlib.clips import (ClipDraw, DrawRule, MergeRule, Skip, draw_clip, kinematic_parts, part_motion, plan_clip,
                           render_draw, signature)
from sp4dlib.clips.curate import Kept
from sp4dlib.rigs import assets as registry
from sp4dlib.rigs import quadruped

RULE = DrawRule(frames=4, views=3, size=64)


@pytest.fixture(scope="module")
def rig():
    return quadruped(3, vertices=1200)


def consistent(rig, seed: int) -> None:
    """Points of the surface show their part in every view and frame of a drawn clip in which they can be seen."""
    generator = np.random.default_rng(seed)
    parts = kinematic_parts(rig)
    rule = DrawRule(frames=3, views=4, size=256, layout="scatter")
    draw = plan_clip(rig, generator, rule, parts=parts)
    clip = render_draw(rig, draw, rule, parts=parts)
    posed = rig.pose(draw.animation, draw.times)
    face = generator.integers(0, len(rig.faces), 4000)
    share = generator.dirichlet(np.ones(3), len(face))
    score = np.zeros((len(face), len(parts)))
    np.add.at(score, (np.arange(len(face))[:, None], parts.labels[rig.faces[face]]), share)
    own, right, seen, points_seen = score.argmax(1), 0, 0, np.zeros(len(face), bool)
    for frame, vertices in enumerate(posed):
        points = np.einsum("pk,pkc->pc", share, vertices[rig.faces[face]])
        tracer = trimesh.Trimesh(vertices, rig.faces, process=False).ray
        for view in range(4):
            eye = clip.cameras.position(view)
            visible = tracer.intersects_first(np.tile(eye, (len(points), 1)), points - eye) == face
            column, row = np.floor(clip.cameras.project(points, view)[0]).astype(int).T
            ids = clip.parts[frame, view]
            inner = np.all([np.roll(ids, (i, j), (0, 1)) == ids for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
            chosen = visible & inner[row, column] & (ids[row, column] >= 0)
            right += (ids[row, column] == own)[chosen].sum()
            seen += chosen.sum()
            points_seen |= chosen
    assert points_seen.sum() >= 1000 and seen >= 5000
    assert right / seen >= 0.995


def test_ids_are_true_in_every_view_and_frame(rig):
    consistent(rig, 0)


@pytest.mark.parametrize("name", ["animals_pack/Wolf", "cute_fish_pack/Tuna", "mech_pack/Leela"])
def test_ids_are_true_in_every_view_and_frame_of_real_rigs(assets, name):
    consistent(registry.load(name), 1)


def test_the_same_seed_draws_the_same_bytes(rig):
    one, two, other = (draw_clip(rig, np.random.default_rng(seed), RULE) for seed in (5, 5, 6))
    assert one.rgb.tobytes() == two.rgb.tobytes() and one.parts.tobytes() == two.parts.tobytes()
    assert one.cameras.azimuths.tobytes() == two.cameras.azimuths.tobytes()
    assert one.rgb.tobytes() != other.rgb.tobytes()


def test_a_draw_survives_json_and_stays_in_its_ranges(rig):
    for seed in range(20):
        rule = replace(RULE, layout="scatter" if seed % 2 else "ring")
        draw = plan_clip(rig, np.random.default_rng(seed), rule)
        assert ClipDraw.from_record(json.loads(json.dumps(draw.record()))) == draw
        assert all(rule.elevation[0] <= e <= rule.elevation[1] for e in draw.elevations)
        assert rule.fill[0] <= draw.fill <= rule.fill[1] and draw.motion >= rule.min_motion
        duration = rig.animations[draw.animation].duration
        assert len(draw.times) == 4 and 0 <= draw.times[0] and draw.times[-1] <= duration
        if rule.layout == "ring":
            np.testing.assert_allclose(np.diff(np.unwrap(draw.azimuths, period=360)), 120)
            assert len(set(draw.elevations)) == 1
        for light in draw.shading.lights:
            assert np.linalg.norm(light.direction) == pytest.approx(1)


def reason(rig, rule=RULE, **arguments) -> str:
    skip = draw_clip(rig, np.random.default_rng(0), rule, **arguments)
    assert isinstance(skip, Skip) and rig.name in skip.detail
    return skip.reason


def test_what_is_not_worth_a_picture_is_refused_with_its_reason():
    two = arm((1, 1))
    wave = two.animations[0]
    apart = kinematic_parts(two, MergeRule(motion=0))
    still = replace(wave, tracks=())
    assert reason(arm((1,))) == "one part"
    assert reason(two.replace(animations=()), parts=apart) == "unanimated"
    assert reason(two.replace(animations=(still,)), parts=apart) == "static"
    far = replace(wave, tracks=(replace(wave.tracks[0], path="translation", joint=0,
                                        values=np.array([[0, 0, 0], [1e4, 0, 0]])),))
    assert reason(two.replace(animations=(far,)), parts=apart) == "travels"
    burst = replace(wave, tracks=(replace(wave.tracks[0], path="scale", values=np.array([[1, 1, 1], [99, 99, 99]])),))
    assert reason(two.replace(animations=(burst,)), parts=apart) == "broken"
    assert reason(two, replace(RULE, min_cover=0.99), parts=apart) == "hidden"


def test_a_motion_that_goes_too_far_is_shown_for_a_shorter_time():
    two = arm((1, 1))
    wave = two.animations[0]
    go = replace(wave.tracks[0], path="translation", joint=0, values=np.array([[0, 0, 0], [8.0, 0, 0]]))
    draw = plan_clip(two.replace(animations=(replace(wave, tracks=(wave.tracks[0], go)),)), np.random.default_rng(0),
                     RULE, parts=kinematic_parts(two, MergeRule(motion=0)))
    assert isinstance(draw, ClipDraw) and draw.times[-1] - draw.times[0] < 0.5


def test_motion_is_that_of_the_part_that_moves_most():
    two = arm((1, 1))
    parts = kinematic_parts(two, MergeRule(motion=0))
    vertices = np.repeat(two.vertices[None], 2, axis=0)
    vertices[1, parts.labels == 1] += [0.6, 0, 0]
    assert part_motion(vertices, two.faces, parts, 3.0) == pytest.approx(0.3 / 3)


def test_twins_are_found_and_other_coats_and_motions_are_not(rig):
    kept = Kept()
    assert kept.add("walk", signature(rig, "walk")) is None
    assert kept.add("look", signature(rig, "look")) is None
    order = np.random.default_rng(0).permutation(len(rig.vertices))             # the same animal, stored otherwise
    back = np.argsort(order)
    look = replace(rig.appearance, vertex_colors=rig.appearance.vertex_colors[order])
    other = rig.replace(vertices=2 * rig.vertices[order], weights=rig.weights[order], faces=back[rig.faces],
                        appearance=look, skeleton=replace(rig.skeleton, bind=_scaled(rig.skeleton.bind)),
                        animations=tuple(replace(a, translation=2 * a.translation,
                                                 tracks=tuple(_doubled(t) for t in a.tracks)) for a in rig.animations))
    assert kept.add("again", signature(other, "walk")) == "walk"
    coat = replace(rig.appearance, vertex_colors=np.tile([0.9, 0.1, 0.1, 1], (len(rig.vertices), 1)))
    assert kept.add("red", signature(rig.replace(appearance=coat), "walk")) is None
    assert len(kept) == 3


def _scaled(bind: np.ndarray) -> np.ndarray:
    out = bind.copy()
    out[:, :3, 3] *= 2
    return out


def _doubled(track):
    return replace(track, values=2 * track.values) if track.path == "translation" else track
