"""The whole way: labels or part maps to an animated rig, and motion from one rig to another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifting_meshes import animal, thirds, tube
from scipy.spatial.transform import Rotation

from sp4dlib.clips import MergeRule, kinematic_parts, make_clip
from sp4dlib.lifting import auto_rig, extract_skeleton, part_drivers, retarget, wiggle
from sp4dlib.lifting.motion import rest_pose, split
from sp4dlib.rigs import Rig, Skeleton, load, save
from sp4dlib.rigs import assets as registry
from sp4dlib.rigs.rig import compose


def recovered(rig, views=None, width=0.3):
    """A rig from another's surface and parts alone, with its motion; and the labels."""
    parts = kinematic_parts(rig, MergeRule(motion=0))
    if views:
        azimuths, elevations = np.arange(views) * 360 / views, np.resize([0.0, 30.0, -20.0], views)
        clip = make_clip(rig, None, [0], azimuths, elevations, 256, parts=parts)
        new = auto_rig(rig.strip(), clip.parts, clip.cameras, names=parts.names, width=width)
    else:
        new = auto_rig(rig.strip(), labels=parts.labels, names=parts.names, width=width)
    _, joint_part = extract_skeleton(rig, parts.labels, parts.names, return_parts=True)
    return new, parts, joint_part


def test_auto_rig_from_part_maps_is_a_rig():
    rig = animal(1500)
    new, parts, _ = recovered(rig, views=6)
    assert isinstance(new, Rig) and new.appearance is rig.appearance and new.name == rig.name
    np.testing.assert_array_equal(new.vertices, rig.vertices)
    np.testing.assert_array_equal(new.faces, rig.faces)
    assert set(parts.names) <= set(new.skeleton.names) and [a.name for a in new.animations] == ["wiggle"]
    ends = [j for j, n in enumerate(new.skeleton.names) if n.endswith("_end")]
    assert ends and np.all(new.weights[:, ends] == 0)
    assert (new.weights > 0).sum(1).max() <= 4
    columns = [new.skeleton.names.index(n) for n in parts.names]
    truth = np.stack([rig.weights[:, parts.joint_part == k].sum(1) for k in range(len(parts))], axis=1)
    assert np.abs(new.weights[:, columns] - truth).sum(1).mean() < 0.16


def test_rigid_parts_are_driven_exactly():
    source = animal(1500)
    labels = source.weights.argmax(1)
    source = source.replace(weights=np.eye(len(source.skeleton))[labels])
    new = auto_rig(source, labels=labels, names=source.skeleton.names, width=0)
    _, joint_part = extract_skeleton(source, labels, return_parts=True)
    walk = retarget(new.skeleton, source, "walk", part_drivers(source, labels, joint_part), fps=5)
    grid = np.arange(6) / 5 * source.animation("walk").duration
    times = np.union1d(grid, source.animation("walk").tracks[-1].times)         # the source's own keys are kept too
    np.testing.assert_allclose(new.pose(walk, times), source.pose("walk", times), atol=1e-6 * source.size)


def test_the_walk_survives_the_circle():
    rig = animal()
    new, parts, joint_part = recovered(rig)
    walk = retarget(new.skeleton, rig, "walk", part_drivers(rig, parts.labels, joint_part))
    times = np.linspace(0, 1, 9)
    error = np.linalg.norm(new.pose(walk, times) - rig.pose("walk", times), axis=-1) / rig.size
    moved = np.linalg.norm(rig.pose("walk", times) - rig.pose("walk", [0]), axis=-1) / rig.size
    assert error.mean() < 1e-3                                      # measured 0.00055, the motion 0.018
    assert error.mean() < 0.05 * moved.mean()


def test_a_real_wolf_walks_again(assets):
    rig = registry.load("Wolf")
    new, parts, joint_part = recovered(rig)
    walk = retarget(new.skeleton, rig, "walk", part_drivers(rig, parts.labels, joint_part))
    times = np.linspace(0, rig.animation("walk").duration, 7)
    error = np.linalg.norm(new.pose(walk, times) - rig.pose("walk", times), axis=-1) / rig.size
    assert error.mean() < 0.01


def test_recovered_rig_survives_a_file(tmp_path):
    rig = animal(1500)
    new, parts, joint_part = recovered(rig)
    walk = retarget(new.skeleton, rig, "walk", part_drivers(rig, parts.labels, joint_part))
    new = new.replace(animations=(*new.animations, walk))
    save(new, tmp_path / "new.glb")
    again = load(tmp_path / "new.glb")
    for animation in ("wiggle", "walk"):
        times = np.linspace(0, new.animation(animation).duration, 5)
        np.testing.assert_allclose(again.pose(animation, times), new.pose(animation, times), atol=1e-5 * rig.size)


@pytest.mark.parametrize("together", [False, True])
def test_wiggle_moves_every_joint_and_comes_home(together):
    mesh = tube(bend=1.0)
    rig = auto_rig(mesh, labels=thirds(mesh))
    motion = wiggle(rig.skeleton, degrees=30, seconds=1.0, together=together)
    times = np.linspace(0, motion.duration, 49)
    world = rig.joint_transforms(motion, times)
    np.testing.assert_allclose(world[[0, -1]], rig.skeleton.bind[None].repeat(2, axis=0), atol=1e-9)
    local = motion.local(times)
    for joint, name in enumerate(rig.skeleton.names):
        turned = Rotation.from_matrix(local[:, joint, :3, :3]).magnitude().max()
        low, high = (-1e-9, 1e-9) if name.endswith("_end") else np.radians([15, 31])
        assert low < turned < high
    if not together:                                                # in turn: never two at once
        busy = Rotation.from_matrix(local[:, :3, :3, :3].reshape(-1, 3, 3)).magnitude().reshape(-1, 3) > 1e-6
        assert busy.sum(1).max() == 1
    with pytest.raises(ValueError, match="longer"):
        wiggle(rig.skeleton, seconds=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_split_undoes_compose(seed):
    rng = np.random.default_rng(seed)
    translation, scale = rng.normal(size=(2, 3, 3)), rng.uniform(0.2, 3, size=(2, 3, 3))
    rotation = Rotation.random(6, rng).as_quat().reshape(2, 3, 4)
    # Polar decomposition finds R S only if S keeps R's axes: uniform scales always do.
    scale = np.repeat(scale[..., :1], 3, axis=-1)
    matrices = compose(translation, rotation, scale)
    np.testing.assert_allclose(compose(*split(matrices)), matrices, atol=1e-9)
    with pytest.raises(ValueError, match="singular"):
        split(np.diag([1.0, 1, 0, 1]))


def test_rest_pose_is_the_bind_pose():
    turn = compose(np.array([1.0, 2, 3]), Rotation.from_euler("xyz", [30, 40, 50], degrees=True).as_quat(), np.ones(3))
    skeleton = Skeleton(np.array([-1, 0]), ("a", "b"), np.stack([turn, turn @ turn]))
    local = compose(*rest_pose(skeleton))
    np.testing.assert_allclose(local, [turn, turn], atol=1e-12)
    world = Rig(np.zeros((1, 3)), np.zeros((0, 3), int), np.array([[1.0, 0]]), skeleton).joint_transforms(
        wiggle(skeleton), [0])
    np.testing.assert_allclose(world[0], skeleton.bind, atol=1e-12)


def test_inputs_of_auto_rig():
    mesh = tube(20, 8)
    labels = thirds(mesh, 20, 8)
    with pytest.raises(ValueError, match="either part maps"):
        auto_rig(mesh)
    with pytest.raises(ValueError, match="either part maps"):
        auto_rig(mesh, np.zeros((1, 1, 8, 8), int), labels=labels)
    with pytest.raises(ValueError, match="cameras"):
        auto_rig(mesh, np.zeros((1, 1, 8, 8), int))
    gaps = auto_rig(mesh, labels=2 * labels, name="odd")            # ids without vertices get no joint
    assert gaps.name == "odd" and len([n for n in gaps.skeleton.names if "_end" not in n]) == 3


def test_inputs_of_retarget():
    rig = animal(1500)
    new, parts, joint_part = recovered(rig)
    drivers = part_drivers(rig, parts.labels, joint_part)
    with pytest.raises(ValueError, match="name the animation"):
        retarget(new.skeleton, rig, None, drivers)
    with pytest.raises(ValueError, match="drivers must name"):
        retarget(new.skeleton, rig, "walk", drivers[:-1])
    with pytest.raises(ValueError, match="drivers must name"):
        retarget(new.skeleton, rig, "walk", np.full(len(drivers), 99))
    with pytest.raises(ValueError, match="root"):
        retarget(new.skeleton, rig, "walk", np.r_[-1, drivers[1:]])
    with pytest.raises(ValueError, match="labels must name"):
        part_drivers(rig, parts.labels[:-1], joint_part)
    with pytest.raises(ValueError, match="no vertex"):
        part_drivers(rig, parts.labels, np.r_[joint_part, 77])
