"""Motions that no file holds."""

import numpy as np
import pytest
from clips_rigs import arm
from scipy.spatial.transform import Rotation

from sp4dlib.clips import Parts, SetConfig, kinematic_parts
from sp4dlib.clips.motions import BENT, SECONDS, SWING, bind_pose, invent_motion
from sp4dlib.clips.objects import Job, make_object
from sp4dlib.clips.sources import Source, list_entries
from sp4dlib.rigs import Animation, quadruped


@pytest.fixture(scope="module")
def rig():
    return quadruped(2, vertices=1200)


def test_it_turns_joints_of_parts_and_comes_back(rig):
    parts = kinematic_parts(rig)
    motion = invent_motion(rig, parts, np.random.default_rng(1))
    moved = [track.joint for track in motion.tracks]
    assert moved and all(parts.parents[parts.joint_part[joint]] >= 0 for joint in moved)
    assert len({parts.joint_part[joint] for joint in moved}) == len(moved), "one joint of a part"
    assert len(moved) == max(1, round(0.7 * (len(parts) - 1)))
    for track in motion.tracks:
        angles = np.degrees(Rotation.from_quat(track.values).magnitude())
        assert angles.max() <= BENT + SWING[1] + 1e-9 and np.ptp(angles) > 1
    first, last = rig.pose(motion, [0.0, SECONDS])
    np.testing.assert_allclose(first, last, atol=1e-9 * rig.size)
    between = rig.pose(motion, np.linspace(0, SECONDS, 9))
    assert np.ptp(between, axis=0).max() > 0.02 * rig.size


def test_without_turns_it_would_be_the_bind_pose(rig):
    np.testing.assert_allclose(rig.pose(bind_pose(rig), [0.0])[0], rig.vertices, atol=1e-9 * rig.size)


def test_it_swings_about_the_default_pose_of_the_file(rig):
    still = bind_pose(rig)
    lean = Rotation.from_rotvec([0, 0.7, 0]).as_quat()
    rest = Animation("rest", 0.0, still.translation, np.tile(lean, (len(rig.skeleton), 1)), still.scale,
                     before=still.before)
    motion = invent_motion(rig.replace(animations=(rest,)), kinematic_parts(rig), np.random.default_rng(0))
    np.testing.assert_array_equal(motion.rotation, rest.rotation)
    for track in motion.tracks:
        off = np.degrees((Rotation.from_quat(lean).inv() * Rotation.from_quat(track.values)).magnitude())
        assert off.max() <= BENT + SWING[1] + 1e-9


def test_the_same_generator_gives_the_same_motion(rig):
    parts = kinematic_parts(rig)
    a, b, c = (invent_motion(rig, parts, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(s.values, t.values) for s, t in zip(a.tracks, b.tracks))
    assert [t.joint for t in a.tracks] != [t.joint for t in c.tracks] or not np.array_equal(
        a.tracks[0].values, c.tracks[0].values)


def test_one_part_stands_still():
    rig = arm((1.0,))
    parts = Parts(np.zeros(8, int), np.zeros(1, int), np.array([-1]), ("all",))
    assert not invent_motion(rig, parts, np.random.default_rng(0)).tracks


def test_a_rig_without_animations_gets_clips_and_keeps_its_parts(monkeypatch, rig):
    bare = rig.replace(animations=())
    monkeypatch.setattr("sp4dlib.clips.objects.load_entry", lambda entry: (bare, ""))
    (entry,), _ = list_entries([Source("procedural", "procedural", families=("quadruped",), count=1)])
    rule = SetConfig((Source("procedural", "procedural"),)).clips
    small = type(rule)(frames=2, views=2, size=32)
    job = Job(entry, small, SetConfig((Source("procedural", "p"),)).parts, 3, 0)
    assert make_object(job).report["reason"] == "unanimated"
    made = make_object(Job(entry, small, job.parts, 3, 0, invented=2))
    assert [clip["animation"] for clip in made.report["clips"] if clip["status"] == "kept"] in (
        ["invented 0", "invented 1"], ["invented 1", "invented 0"])
    assert made.report["parts"] == len(kinematic_parts(bare)) and made.report["animations"] == 0
