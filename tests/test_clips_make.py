"""Bones to parts, rigs to clips, and clips on disk."""

from dataclasses import replace

import numpy as np
import pytest
from clips_rigs import arm
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib import coding
from sp4dlib.clips import Clip, MergeRule, Parts, fit_cameras, kinematic_parts, make_clip, orbit_rotation
from sp4dlib.clips.make import part_centers
from sp4dlib.clips.parts import border_lengths
from sp4dlib.rigs import Rig, Skeleton, quadruped

TIMES, AZIMUTHS, ELEVATIONS = [0.0, 0.4, 0.9], [20, 110, 250, 300], [0, 15, -10, 30]


@pytest.fixture(scope="module")
def rig():
    return quadruped(3, vertices=1200)


@pytest.fixture(scope="module")
def clip(rig):
    return make_clip(rig, "walk", TIMES, AZIMUTHS, ELEVATIONS, 96)


def folding(least=0.01) -> MergeRule:
    """Folds small regions and merges none."""
    return MergeRule(motion=0, min_share=least)


def test_every_bone_with_a_region_is_a_part():
    rig = arm((1, 1, 1))
    parts = kinematic_parts(rig, folding())
    np.testing.assert_array_equal(parts.labels, np.repeat([0, 1, 2], 8))
    assert parts.joint_part.tolist() == [0, 1, 2] and parts.parents.tolist() == [-1, 0, 1]
    assert parts.names == ("bone 0", "bone 1", "bone 2")


def test_small_bones_fold_leaves_first():
    tiny = arm((1, 0.08, 0.08, 1))                        # the third joint is folded, then the second: 0.6 % each
    parts = kinematic_parts(tiny, folding())
    assert parts.joint_part.tolist() == [0, 0, 0, 1] and parts.parents.tolist() == [-1, 0]
    together = kinematic_parts(arm((1, 0.12, 0.12, 0.12)), folding(0.03))      # 3 % only together
    assert together.joint_part.tolist() == [0, 1, 1, 1] and together.names == ("bone 0", "bone 1")


def test_weightless_joints_belong_to_the_part_above():
    rig = arm((1, 0, 1, 0), parents=[-1, 0, 1, 2])
    parts = kinematic_parts(rig, folding(0))
    assert parts.joint_part.tolist() == [0, 0, 1, 1] and parts.parents.tolist() == [-1, 0]


def test_a_weightless_root_joins_its_largest_child():
    rig = arm((0, 0.5, 1, 0.7), parents=[-1, 0, 0, 2])
    parts = kinematic_parts(rig, folding())
    assert parts.names == ("bone 2", "bone 1", "bone 3")
    assert parts.joint_part.tolist() == [0, 1, 0, 2] and parts.parents.tolist() == [-1, 0, 0]


def strip(owners, parents):
    """A flat strip of unit squares, the vertices of column k bound to joint ``owners[k]``."""
    count = len(owners)
    vertices = np.array([[x, y, 0.0] for x in range(count) for y in (0, 1)])
    faces = np.array([f for k in range(0, 2 * count - 2, 2) for f in ((k, k + 2, k + 3), (k, k + 3, k + 1))])
    joints = len(parents)
    skeleton = Skeleton(parents, [f"bone {j}" for j in range(joints)], np.tile(np.eye(4), (joints, 1, 1)))
    return Rig(vertices, faces, np.eye(joints)[np.repeat(owners, 2)], skeleton)


def test_a_small_region_goes_to_an_ancestor_that_it_touches_or_else_to_a_neighbour():
    row = [0, 0, 0, 1, 1, 1, 2, 3, 3, 3]                  # bone 2 lies between 1 and 3
    far = kinematic_parts(strip(row, [-1, 0, 0, 1]), folding(0.15))           # its parent, 0, is out of reach
    assert far.joint_part[2] in (far.joint_part[1], far.joint_part[3]) and len(far) == 3
    near = kinematic_parts(strip(row, [-1, 0, 1, 2]), folding(0.15))
    assert near.joint_part.tolist() == [0, 1, 1, 2] and near.parents.tolist() == [-1, 0, 1]


def test_borders_have_their_length():
    rig = strip([0, 0, 1, 1, 2], [-1, 0, 1])
    lengths = border_lengths(rig.vertices, rig.faces, rig.weights.argmax(1), 3)
    np.testing.assert_allclose(lengths, [[0, 1, 0], [1, 0, 1], [0, 1, 0]], atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.floats(0, 0.9), st.sampled_from([0, 0.1, 10]), st.integers(0, 2**32 - 1))
def test_parts_are_a_tree_of_the_skeleton(joints, least, motion, seed):
    generator = np.random.default_rng(seed)
    parents = [-1] + [int(generator.integers(0, j)) for j in range(1, joints)]
    sizes = generator.choice([0, 0.1, 0.3, 1.0], joints)
    sizes[generator.integers(joints)] = 1
    rig, rule = arm(sizes, parents), MergeRule(motion=motion, min_share=least)
    parts = kinematic_parts(rig, rule)
    assert set(parts.labels) <= set(range(len(parts))) and set(parts.joint_part) == set(range(len(parts)))
    assert parts.parents[0] == -1 and (parts.parents[1:] >= 0).all() and (parts.parents < np.arange(len(parts))).all()
    np.testing.assert_array_equal(parts.labels, parts.joint_part[rig.weights.argmax(1)])
    for number, name in enumerate(parts.names):
        assert parts.joint_part[rig.skeleton.names.index(name)] == number
    share = np.bincount(parts.joint_part, sizes**2) / (sizes**2).sum()
    assert (share[1:] >= least - 1e-9).all() and share[0] > 0       # the root takes what is left


@pytest.mark.parametrize("least", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_refused(least):
    with pytest.raises(ValueError, match="min_share"):
        MergeRule(min_share=least)


def test_a_surface_without_area_has_no_parts():
    rig = arm()
    with pytest.raises(ValueError, match="no area"):
        kinematic_parts(rig.replace(vertices=np.zeros_like(rig.vertices)))


def test_a_clip_has_what_its_type_says(rig, clip):
    parts = kinematic_parts(rig)
    assert clip.rgb.shape == (3, 4, 96, 96, 3) and clip.rgb.dtype == np.uint8
    assert clip.parts.shape == (3, 4, 96, 96) and clip.parts.dtype == np.int16
    assert clip.names == parts.names and clip.part_parents.tolist() == parts.parents.tolist()
    assert clip.source == f"{rig.name}/walk" and clip.times.tolist() == TIMES
    assert set(np.unique(clip.parts)) == {-1, *range(len(parts))}
    np.testing.assert_allclose(clip.cameras.azimuths, [0, 90, 230, 280])
    assert (clip.rgb[clip.parts == -1].mean() > 250) and (clip.rgb[:, :, 0] == 255).all()


def test_the_object_fills_the_image_as_asked(rig):
    for fill in (0.5, 0.9, 1.0):
        clip = make_clip(rig, "walk", TIMES, AZIMUTHS, 10, 128, fill=fill)
        rows, columns = np.nonzero((clip.parts >= 0).any((0, 1)))
        reach = max(np.abs(np.concatenate([rows, columns]) + 0.5 - 64).max() / 64, 0)
        assert fill - 0.03 <= reach <= fill


def test_centers_and_boxes_are_those_of_the_posed_surface(rig, clip):
    posed = rig.pose("walk", TIMES)
    unit = posed @ clip.cameras.normalize[:3, :3].T + clip.cameras.normalize[:3, 3]
    for view in range(4):
        seen = unit @ clip.cameras.rotation(view).T
        np.testing.assert_allclose(clip.boxes[:, view], np.stack([seen.min(1), seen.max(1)], 1), atol=1e-12)
    labels = kinematic_parts(rig).labels
    corners = unit[1][rig.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    for part in (0, 5):
        share = np.where(labels[rig.faces] == part, area[:, None], 0)              # (F, 3)
        expected = np.einsum("fk,fkc->c", share, corners) / share.sum()
        np.testing.assert_allclose(clip.centers[1, part], expected, atol=1e-12)


def test_a_box_arm_has_known_centers():
    clip = make_clip(arm((1, 1)), "wave", [0, 1], [0], size=32)
    back = (clip.centers - clip.cameras.normalize[:3, 3]) @ np.linalg.inv(clip.cameras.normalize[:3, :3]).T
    np.testing.assert_allclose(back, [[[0, 0, 0], [2, 0, 0]]] * 2, atol=1e-12)      # bone 1 turns about its own box


def test_parts_without_area_or_vertices_still_have_a_centre():
    vertices = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [4, 4, 4], [6, 4, 4]]], float)
    parts = Parts(np.array([0, 0, 0, 1, 1]), np.arange(3), np.array([-1, 0, 0]), ("face", "loose", "none"))
    centers = part_centers(vertices, np.array([[0, 1, 2]]), parts)
    np.testing.assert_allclose(centers[0], [[1 / 3, 1 / 3, 0], [5, 4, 4], vertices[0].mean(0)])


def test_select_equals_a_clip_made_anew(rig, clip):
    frames, views = [2, 0, 1], [2, 0, 3, 1]
    chosen = clip.select(frames, views)
    anew = make_clip(rig, "walk", np.array(TIMES)[frames], np.array(AZIMUTHS)[views], np.array(ELEVATIONS)[views], 96)
    for name in ("azimuths", "elevations", "distance", "normalize"):
        np.testing.assert_allclose(getattr(chosen.cameras, name), getattr(anew.cameras, name), atol=1e-9)
    np.testing.assert_allclose(chosen.centers, anew.centers, atol=1e-9)
    np.testing.assert_allclose(chosen.boxes, anew.boxes, atol=1e-9)
    assert (chosen.parts == anew.parts).mean() > 0.9999
    assert np.abs(chosen.rgb.astype(int) - anew.rgb).mean() < 0.01
    np.testing.assert_allclose(chosen.colors, anew.colors, atol=1e-6)
    np.testing.assert_array_equal(chosen.times, anew.times)


def test_select_of_some_frames_keeps_the_cameras_and_aims_at_its_own_view(rig, clip):
    chosen = clip.select([1], [3])
    np.testing.assert_array_equal(chosen.parts, clip.parts[1:2, 3:4])
    points = rig.pose("walk", [TIMES[1]])[0]
    for one, two in zip(chosen.cameras.project(points, 0), clip.cameras.project(points, 3)):
        np.testing.assert_allclose(one, two, atol=1e-8)
    in_rig = np.linalg.inv(chosen.cameras.normalize)
    centers = chosen.centers[0] @ in_rig[:3, :3].T + in_rig[:3, 3]
    np.testing.assert_allclose(chosen.cameras.project(centers, 0)[0].mean(0), [48, 48], atol=20)
    expected = coding.part_colors(clip.centers[1], clip.boxes[1, 3], clip.cameras.rotation(3))
    np.testing.assert_allclose(chosen.colors, expected, atol=1e-9)
    assert np.abs(chosen.colors - clip.colors).max() > 0.1


def test_a_saved_clip_loads_again(tmp_path, clip):
    path = tmp_path / "fox.npz"
    clip.select([0, 1], [1, 0]).save(path)
    clip.save(path)                                       # over an old one
    again = Clip.load(path)
    for name in ("rgb", "parts", "centers", "boxes", "part_parents", "times"):
        one, two = getattr(clip, name), getattr(again, name)
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    assert again.names == clip.names and again.source == clip.source and again.cameras.size == 96
    points = np.eye(3)
    np.testing.assert_array_equal(again.cameras.project(points, 1)[0], clip.cameras.project(points, 1)[0])
    assert [file.name for file in tmp_path.iterdir()] == ["fox.npz"]


def test_what_is_no_clip_is_refused(tmp_path, clip, monkeypatch):
    path = tmp_path / "no.npz"
    for content in (b"", b"PK\x03\x04 torn", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="holds no clip"):
            Clip.load(path)
    np.savez(path, rgb=np.zeros(3))
    with pytest.raises(ValueError, match="holds no clip"):
        Clip.load(path)
    monkeypatch.setattr("sp4dlib.clips.clip.VERSION", 0)
    clip.save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="make it anew"):
        Clip.load(path)
    with pytest.raises(ValueError, match="parts of shape"):
        replace(clip, parts=clip.parts[:, :2])


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"times": []}, ValueError, "times"), ({"times": [0, np.nan]}, ValueError, "times"),
    ({"times": [[0.0]]}, ValueError, "times"), ({"times": ["soon"]}, ValueError, "numbers"),
    ({"azimuths": []}, ValueError, "azimuths"), ({"azimuths": [np.inf]}, ValueError, "azimuths"),
    ({"elevations": [0, 1]}, ValueError, "elevation"), ({"elevations": [np.nan]}, ValueError, "elevations"),
    ({"elevations": 91}, ValueError, "elevations"), ({"size": 0}, ValueError, "size"),
    ({"size": -4}, ValueError, "size"), ({"size": 32.0}, ValueError, "size"), ({"fill": 0}, ValueError, "fill"),
    ({"fov": 180}, ValueError, "fov"),
    ({"animation": "fly"}, KeyError, "wave"), ({"animation": 7}, KeyError, "no number 7"),
    ({"engine": "pencil"}, ValueError, "engine"),
    ({"parts": Parts(np.zeros(3, int), np.zeros(3, int), np.array([-1]), ("all",))}, ValueError, "parts label")])
def test_bad_input_gives_one_clear_error(change, error, message):
    arguments = {"animation": "wave", "times": [0.0], "azimuths": [0.0, 10, 20], "size": 16} | change
    with pytest.raises(error, match=message):
        make_clip(arm(), **arguments)


def test_a_pose_that_is_not_finite_is_refused():
    rig = arm()
    wave = replace(rig.animations[0], translation=np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        make_clip(rig, wave, [0], [0], size=16)


def test_bind_pose_and_a_single_bone():
    rig = arm((1,))
    clip = make_clip(rig, None, [0, 5], [0], size=24)
    assert clip.source == "arm/bind" and len(clip.names) == 1
    np.testing.assert_array_equal(clip.rgb[0], clip.rgb[1])


def test_stray_vertices_do_not_move_the_cameras():
    rig = arm()
    stray = rig.replace(vertices=np.vstack([rig.vertices, [[100, 100, 100]]]),
                        weights=np.vstack([rig.weights, [[1, 0, 0]]]), appearance=None)
    clip = make_clip(stray, "wave", [0], [0, 90], size=32)
    expected = fit_cameras(rig.pose("wave", [0]), [0, 90], 0, 32)
    np.testing.assert_allclose(clip.cameras.normalize, expected.normalize)
    assert clip.cameras.distance == pytest.approx(expected.distance)
    np.testing.assert_allclose(clip.cameras.rotation(1), orbit_rotation(90, 0))
