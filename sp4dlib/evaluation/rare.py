"""Poses that no training animation shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from sp4dlib.clips import Parts, Skip
from sp4dlib.clips.motions import first_joints, local_bind
from sp4dlib.rigs import Animation, Rig

BEYOND = (10.0, 30.0)   # degrees past the largest angle of training
MOST = 110.0            # degrees: a joint whose training animations go further is left alone
SHARE = 0.5             # of the joints that can be turned
SAMPLES = 24            # of each animation
MAX_GROWTH = 3.0        # against the bind pose


def joint_angles(rig: Rig, samples: int = SAMPLES) -> np.ndarray:
    """The largest turn of each joint in any animation, against its place in bind pose: degrees, shape (J,).

    The turn is that of ``inv(L_bind) L(t)`` with L the matrix from a joint to its parent: no turn of a parent counts.
    """
    local = local_bind(rig)
    largest = np.zeros(len(rig.skeleton))
    for animation in rig.animations:
        times = np.linspace(0, animation.duration, samples if animation.duration > 0 else 1)
        world = rig.joint_transforms(animation, times)                              # (T, J, 4, 4)
        moved = world.copy()
        moved[:, 1:] = np.linalg.inv(world[:, rig.skeleton.parents[1:]]) @ world[:, 1:]
        turn = _rotation(local).transpose(0, 2, 1) @ _rotation(moved)               # (T, J, 3, 3)
        angle = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
        largest = np.maximum(largest, np.nan_to_num(angle, nan=180.0).max(0))
    return largest


def joint_limits(rigs: Iterable[Rig]) -> dict[str, float]:
    """The largest turn of each joint in any animation of some rigs, by the joint's name; degrees."""
    limits: dict[str, float] = {}
    for rig in rigs:
        for name, angle in zip(rig.skeleton.names, joint_angles(rig)):
            limits[name] = max(limits.get(name, 0.0), float(angle))
    return limits


def rare_pose(rig: Rig, parts: Parts, limits: Mapping[str, float], generator: np.random.Generator) -> Animation | Skip:
    """A pose in which joints turn further than in any training animation.

    The first joint of each part but the root's can be turned, unless that would take more than `MOST` degrees; half of
    those that can, at least one, are turned from bind pose about a random axis, by `BEYOND` more than the largest angle
    at which training animations have a joint of this name, or the rig's own animations have this joint.

    Parameters
    ----------
    rig : Rig
    parts : Parts
    limits : mapping of str to float
        Degrees, of :func:`joint_limits` of the training rigs.
    generator : numpy Generator

    Returns
    -------
    Animation, or Skip
        Of duration 0, named ``rare``.
    """
    own = joint_angles(rig)
    limit = np.array([max(angle, limits.get(name, 0.0)) for name, angle in zip(rig.skeleton.names, own)])
    free = [joint for joint in first_joints(parts) if limit[joint] + BEYOND[1] <= MOST]
    if not free:
        return Skip("no rare pose", f"training animations turn every joint of {rig.name} by more than "
                                    f"{MOST - BEYOND[1]:.0f} degrees")
    turned = generator.permutation(free)[:max(1, round(SHARE * len(free)))]
    rotation = np.tile([0.0, 0, 0, 1], (len(rig.skeleton), 1))
    for joint in turned:
        axis = generator.normal(size=3)
        angle = np.radians(limit[joint] + generator.uniform(*BEYOND))
        rotation[joint] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_quat()
    count = len(rig.skeleton)
    pose = Animation("rare", 0.0, np.zeros((count, 3)), rotation, np.ones((count, 3)), before=local_bind(rig))
    growth = float(np.ptp(rig.pose(pose, [0.0])[0], axis=0).max()) / rig.size
    if not 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
        return Skip("broken", f"{rig.name} in a rare pose is {growth:.2g} times as large as in bind pose")
    return pose


def _rotation(matrices: np.ndarray) -> np.ndarray:
    """The nearest rotations (..., 3, 3) of affine matrices (..., 4, 4)."""
    left, _, right = np.linalg.svd(matrices[..., :3, :3])
    flip = np.ones(left.shape[:-1])
    flip[..., 2] = np.sign(np.linalg.det(left @ right))
    return left * flip[..., None, :] @ right
