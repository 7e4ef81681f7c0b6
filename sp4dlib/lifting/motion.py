"""Motion for a recovered skeleton: a preview that bends every joint, and motion copied from another rig."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sp4dlib.lifting.skeleton import END
from sp4dlib.rigs.rig import Animation, Rig, Skeleton, Track


def rest_pose(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local translations (J, 3), quaternions x y z w (J, 4) and scales (J, 3) that put a skeleton in its bind pose."""
    return split(_localise(skeleton.bind[None], skeleton.parents)[0])


def split(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translation, rotation and scale of affine matrices (..., 4, 4); shear, which glTF nodes cannot hold, is dropped.

    The rotation is that of the polar decomposition (the nearest one), the scale the diagonal of what remains.

    Returns
    -------
    translation, rotation, scale : ndarray, shapes (..., 3), (..., 4) as x y z w, (..., 3)
    """
    linear = np.asarray(matrices, np.float64)[..., :3, :3]
    left, singular, right = np.linalg.svd(linear)
    if np.any(singular[..., -1] <= 1e-12 * singular[..., 0]):
        raise ValueError("a joint's matrix is singular: it flattens space, and no rotation and scale make that")
    mirror = np.linalg.det(left @ right) < 0
    left[mirror, :, 2] *= -1
    rotation = left @ right
    scale = np.einsum("...ba,...ba->...a", rotation, linear)
    quaternion = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat().reshape(*linear.shape[:-2], 4)
    return matrices[..., :3, 3], quaternion, scale


def _localise(world: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """World matrices (T, J, 4, 4) relative to each joint's parent."""
    local = world.copy()
    child = parents >= 0
    local[:, child] = np.linalg.solve(world[:, parents[child]], world[:, child])
    return local


def wiggle(skeleton: Skeleton, *, degrees: float = 25.0, seconds: float = 0.6, together: bool = False,
           name: str = "wiggle") -> Animation:
    """Swing every joint to and fro across its bone: a look at what the weights do.

    Parameters
    ----------
    skeleton : Skeleton
    degrees : float
        Largest turn, to either side.
    seconds : float
        For one swing of one joint; with ``together``, of all at once.
    together : bool
        Swing all joints at once, a quarter of a turn behind their parents, rather than in turn from the root.
    name : str

    Returns
    -------
    Animation
        Starts and ends in the bind pose.
    """
    if seconds <= 0:
        raise ValueError(f"a swing must last longer than {seconds} seconds")
    translation, rotation, scale = rest_pose(skeleton)
    axes = _swing_axes(skeleton)
    moving = [j for j in range(len(skeleton)) if not skeleton.names[j].endswith(END)]
    depth = np.zeros(len(skeleton), int)
    for j in range(1, len(skeleton)):
        depth[j] = depth[skeleton.parents[j]] + 1
    phase = np.linspace(0, 1, 17)
    duration = 2 * seconds if together else seconds * len(moving)
    tracks = []
    for turn, joint in enumerate(moving):
        if together:
            # The envelope sin(pi p) makes both ends the bind pose, whatever the phase.
            angle = np.sin(np.pi * phase) * np.sin(2 * np.pi * phase - np.pi / 2 * depth[joint])
            times = phase * duration
        else:
            angle = np.sin(2 * np.pi * phase)
            times = (turn + phase) * seconds
        swing = Rotation.from_rotvec(np.radians(degrees) * angle[:, None] * axes[joint])
        values = (Rotation.from_quat(rotation[joint]) * swing).as_quat()
        tracks.append(Track(joint, "rotation", times, values))
    return Animation(name, float(duration), translation, rotation, scale, tuple(tracks))


def _swing_axes(skeleton: Skeleton) -> np.ndarray:
    """Unit axis of each joint, in its own frame: across the bone and as level as can be, (J, 3)."""
    axes = np.zeros((len(skeleton), 3))
    for j in range(len(skeleton)):
        children = np.flatnonzero(skeleton.parents == j)
        target = skeleton.joints[children].mean(0) if len(children) else 2 * skeleton.joints[j] - skeleton.joints[
            max(skeleton.parents[j], 0)]
        bone = target - skeleton.joints[j]
        axis = np.cross(bone, [0.0, 1.0, 0.0])
        if np.linalg.norm(axis) <= 0.2 * np.linalg.norm(bone):      # an upright bone swings about x
            axis = np.cross([0.0, bone[1] or 1.0, 0.0], [0.0, 0.0, 1.0])
        local = np.linalg.solve(skeleton.bind[j, :3, :3], axis / np.linalg.norm(axis))
        axes[j] = local / np.linalg.norm(local)
    return axes


def part_drivers(rig: Rig, labels, joint_part) -> np.ndarray:
    """For each joint of a recovered skeleton, the joint of ``rig`` that moves its part most.

    Parameters
    ----------
    rig : Rig
        The source of the motion; its vertices are those that ``labels`` label.
    labels : array_like of int, shape (N,)
    joint_part : array_like of int, shape (J,)
        Part of each recovered joint, -1 at end joints (:func:`sp4dlib.lifting.skeleton.extract_skeleton`).

    Returns
    -------
    ndarray of int, shape (J,)
        -1 at end joints.
    """
    labels, joint_part = np.asarray(labels), np.asarray(joint_part)
    if labels.shape != (len(rig.vertices),):
        raise ValueError(f"labels must name a part for each of the rig's {len(rig.vertices)} vertices; got shape "
                         f"{labels.shape}")
    missing = np.setdiff1d(joint_part[joint_part >= 0], labels)
    if len(missing):
        raise ValueError(f"parts {missing.tolist()} have a joint but no vertex in the labels")
    return np.array([-1 if part < 0 else rig.weights[labels == part].sum(0).argmax() for part in joint_part])


def retarget(skeleton: Skeleton, source: Rig, animation, drivers, *, fps: float = 30.0) -> Animation:
    """Copy a rig's motion onto a recovered skeleton of the same object.

    Joint k moves as the source joint s(k) that drives its part does: with G the source's joint-to-world matrices and
    B those at bind, its world matrix is ``G_s(t) inv(B_s) bind_k``. Local rotations and translations follow;
    translations are kept, because two parts that turn about another point than the recovered joint slide.

    Parameters
    ----------
    skeleton : Skeleton
        In the bind space of ``source``.
    source : Rig
    animation : Animation, str or int
        Of ``source``.
    drivers : array_like of int, shape (J,)
        Source joint of each joint of ``skeleton``; -1 follows the parent (:func:`part_drivers`).
    fps : float
        Keys per second, besides those at the key times of ``animation``.

    Returns
    -------
    Animation
    """
    chosen = source.animation(animation)
    drivers = np.asarray(drivers)
    if chosen is None:
        raise ValueError("name the animation to copy; None is the bind pose")
    if drivers.shape != (len(skeleton),) or drivers.max() >= len(source.skeleton):
        raise ValueError(f"drivers must name one of {len(source.skeleton)} source joints for each of "
                         f"{len(skeleton)} joints; got shape {drivers.shape}, highest {drivers.max()}")
    if drivers[0] < 0:
        raise ValueError("the root joint needs a driver")
    times = _sample_times(chosen, fps)
    motion = source.joint_transforms(chosen, times) @ np.linalg.inv(source.skeleton.bind)
    world = np.empty((len(times), len(skeleton), 4, 4))
    for joint, driver in enumerate(drivers):
        if driver >= 0:
            world[:, joint] = motion[:, driver] @ skeleton.bind[joint]
        else:
            parent = skeleton.parents[joint]
            world[:, joint] = world[:, parent] @ np.linalg.solve(skeleton.bind[parent], skeleton.bind[joint])
    local = _localise(world, skeleton.parents)
    still = rest_pose(skeleton)
    moved = split(local)
    # q and -q are one rotation; a sign that jumps between keys makes some players turn the long way round.
    signs = np.where(np.sum(moved[1][1:] * moved[1][:-1], axis=-1) < 0, -1, 1)
    moved[1][1:] *= np.cumprod(signs, axis=0)[..., None]
    tracks = []
    for path, values, rest in zip(("translation", "rotation", "scale"), moved, still):
        for joint in np.flatnonzero(np.abs(values - rest).max((0, 2)) > 1e-7 * (1 + np.abs(rest).max())):
            tracks.append(Track(int(joint), path, times, values[:, joint]))
    return Animation(chosen.name, float(chosen.duration), *still, tuple(tracks))


def _sample_times(animation: Animation, fps: float) -> np.ndarray:
    """A steady grid and the animation's own keys, where its motion may break; seconds, increasing."""
    grid = np.linspace(0, animation.duration, int(np.ceil(animation.duration * fps)) + 1)
    keys = np.concatenate([grid, *(track.times for track in animation.tracks)])
    keys = np.unique(np.round(keys[(keys >= 0) & (keys <= animation.duration)], 6))
    return keys.astype(np.float64)
