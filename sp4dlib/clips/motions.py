"""Motions that no file holds: joints that swing at random, for rigs without animations and for more poses of others."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sp4dlib.clips.clip import Parts
from sp4dlib.rigs.rig import Animation, Rig, Track

SHARE = 0.7             # of the parts that swing
BENT = 20.0             # degrees at the most that a joint is turned about which it swings
SWING = (5.0, 30.0)     # degrees to both sides
SECONDS = 2.0
KEYS = 13               # moments at which a turn is given; between them it is interpolated
REST = "rest"           # name of the default pose of a file, where it is not the bind pose


def invent_motion(rig: Rig, parts: Parts, generator: np.random.Generator, name: str = "invented") -> Animation:
    """A motion in which parts swing about their first joints, each round an axis and in a rhythm of its own.

    Seven tenths of the parts below the root, at least one, swing sinusoidally, once or twice in two seconds, by 5 to 30
    degrees about a place that is up to 20 degrees off that of the file's default pose.

    Parameters
    ----------
    rig : Rig
    parts : Parts
        :func:`~sp4dlib.clips.parts.kinematic_parts` of the rig.
    generator : numpy Generator
    name : str

    Returns
    -------
    Animation
        It ends as it begins. Where no part has a parent nothing moves.
    """
    base = next((animation for animation in rig.animations if animation.name == REST), None) or bind_pose(rig)
    first = first_joints(parts)
    count = max(1, round(SHARE * len(first)))
    times = np.linspace(0, SECONDS, KEYS)
    tracks = []
    for joint in sorted(generator.permutation(first)[:count]):
        axis = generator.normal(size=3)
        rest, swing = generator.uniform(-BENT, BENT), generator.uniform(*SWING)
        turns = generator.integers(1, 3) * times / SECONDS + generator.uniform()
        angle = np.radians(rest + swing * np.sin(2 * np.pi * turns))
        delta = Rotation.from_rotvec(angle[:, None] * axis / np.linalg.norm(axis))
        values = (Rotation.from_quat(base.rotation[joint]) * delta).as_quat()
        tracks.append(Track(int(joint), "rotation", times, values))
    return Animation(name, SECONDS, base.translation, base.rotation, base.scale, tuple(tracks), base.before)


def first_joints(parts: Parts) -> list[int]:
    """The joints about which parts turn: the first of each that has a parent."""
    return [int(np.flatnonzero(parts.joint_part == part)[0]) for part in range(len(parts))
            if parts.parents[part] >= 0 and (parts.joint_part == part).any()]


def bind_pose(rig: Rig) -> Animation:
    """The bind pose as an animation of duration 0: every joint rests at its matrix to its parent."""
    count = len(rig.skeleton)
    return Animation("bind", 0.0, np.zeros((count, 3)), np.tile([0.0, 0, 0, 1], (count, 1)), np.ones((count, 3)),
                     before=local_bind(rig))


def local_bind(rig: Rig) -> np.ndarray:
    """Matrices from each joint to its parent in bind pose, (J, 4, 4)."""
    local = rig.skeleton.bind.copy()
    local[1:] = np.linalg.inv(rig.skeleton.bind[rig.skeleton.parents[1:]]) @ rig.skeleton.bind[1:]
    return local
