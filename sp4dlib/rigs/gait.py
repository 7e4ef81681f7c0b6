"""Legs that step by inverse kinematics; walk and look of the procedural quadruped.

All assume bind matrices that only translate, so that a rotation about x swings a limb fore and aft.
"""

from __future__ import annotations

import numpy as np

from sp4dlib.rigs.bones import animate, quaternions, two_bone, worlds, wrap
from sp4dlib.rigs.rig import Animation, Skeleton

# Lateral-sequence walk (Hildebrand 1965): hind, then fore foot of one side, then the other side, a quarter apart.
# A trot moves diagonal pairs together.
PHASES = {"walk": {"hind_left": 0.0, "front_left": 0.25, "hind_right": 0.5, "front_right": 0.75},
          "trot": {"hind_left": 0.0, "front_left": 0.5, "hind_right": 0.5, "front_right": 0.0}}
DUTY = 0.64         # share of the cycle that a foot stands; above 0.5 it is a walk
TROT_DUTY = 0.52


def walk(skeleton: Skeleton, toes: dict[str, np.ndarray], duration: float = 1.0, keys: int = 32,
         stride: float = 0.52, lift: float = 0.16, gait: str = "walk") -> Animation:
    """A walk or a trot in place that loops.

    Standing toes move backwards at constant speed and constant height, as on a treadmill; swinging toes come
    forward on a raised arc. Hip and knee follow by two-bone inverse kinematics in the sagittal plane.

    Parameters
    ----------
    skeleton : Skeleton
        Of :func:`~sp4dlib.rigs.procedural.quadruped`.
    toes : dict
        Where each leg (``front_left``, ...) stands at bind pose, shape (3,).
    duration : float
        Seconds of one cycle.
    keys : int
        Keyframes of one cycle.
    stride, lift : float
        Length and height of a step, in leg lengths.
    gait : {"walk", "trot"}
        Which feet move together; it names the animation.

    Returns
    -------
    Animation
    """
    duty, bounce = (DUTY, 0.010) if gait == "walk" else (TROT_DUTY, 0.022)
    phase = np.linspace(0, 1, keys + 1)
    turn = 2 * np.pi * phase
    leg = skeleton.joints[skeleton.names.index("hind_upper_left"), 1]
    bob = np.stack([0.012 * np.sin(turn), -0.035 + bounce * np.cos(2 * turn), np.zeros_like(turn)], 1) * leg
    angles = {"pelvis": _axis(0.00, y=0.05 * np.sin(turn), z=0.03 * np.sin(turn)),
              "spine": _axis(0.02 * np.sin(2 * turn), y=-0.05 * np.sin(turn)),
              "chest": _axis(0.00, y=-0.05 * np.sin(turn), z=-0.04 * np.cos(turn)),
              "neck": _axis(0.05 * np.sin(2 * turn + 0.6), y=0.03 * np.sin(turn)),
              "head": _axis(-0.05 * np.sin(2 * turn + 0.6), y=0.02 * np.sin(turn)),
              "ear_left": _axis(0.06 * np.sin(2 * turn + 0.9)), "ear_right": _axis(0.06 * np.sin(2 * turn + 0.9))}
    for i in range(3):
        sway = 0.16 + 0.06 * i
        angles[f"tail_{i + 1}"] = _axis(0.05 * np.sin(2 * turn - i), y=sway * np.sin(turn - 0.9 * i))
    rotations = {name: quaternions(value, keys + 1) for name, value in angles.items()}
    body = worlds(skeleton, phase, rotations, {"pelvis": bob})
    for name, offset in PHASES[gait].items():
        path, pitch = step((phase + offset) % 1, toes[name], stride * leg, lift * leg, duty)
        for joint, swing in leg_angles(skeleton, body, leg_joints(name), toes[name], path, pitch).items():
            rotations[joint] = quaternions(_axis(swing), keys + 1)
    return animate(gait, skeleton, phase, duration, rotations, {"pelvis": bob})


def look(skeleton: Skeleton, duration: float = 3.0, keys: int = 48) -> Animation:
    """Look left, then right, with ears pricked and a wagging tail; loops."""
    turn = np.linspace(0, 2 * np.pi, keys + 1)
    side = np.sin(turn) * (1 + 0.25 * np.cos(2 * turn))
    angles = {"spine": _axis(0.0, y=0.05 * side), "chest": _axis(0.012 * np.sin(2 * turn), y=0.06 * side),
              "neck": _axis(-0.08 * (1 - np.cos(turn)), y=0.38 * side),
              "head": _axis(0.10 * np.sin(2 * turn), y=0.50 * side, z=0.22 * np.sin(turn)),
              "ear_left": _axis(0.20 * np.sin(2 * turn), z=-0.15 * (1 - np.cos(3 * turn))),
              "ear_right": _axis(0.20 * np.sin(2 * turn), z=0.15 * (1 - np.cos(2 * turn)))}
    for i in range(3):
        angles[f"tail_{i + 1}"] = _axis(0.06 * (1 - np.cos(turn)), y=0.30 * np.sin(5 * turn - 0.7 * i))
    return animate("look", skeleton, turn / (2 * np.pi), duration, angles)


def leg_joints(leg: str) -> tuple[str, str, str]:
    """Thigh, shank and foot of a leg called ``<kind>_<side>``."""
    kind, side = leg.split("_")
    return tuple(f"{kind}_{part}_{side}" for part in ("upper", "lower", "foot"))


def step(phase: np.ndarray, toe: np.ndarray, stride: float, lift: float, duty: float = DUTY
         ) -> tuple[np.ndarray, np.ndarray]:
    """One step of one leg.

    Parameters
    ----------
    phase : ndarray, shape (S,)
        Share of the cycle, in [0, 1); the foot stands while it is below ``duty``.
    toe : ndarray, shape (3,)
        Where the toe stands at bind pose.
    stride, lift : float
        Length and height of the step.
    duty : float
        Share of the cycle that the foot stands.

    Returns
    -------
    path, pitch : ndarray, shapes (S, 3), (S,)
        Place of the toe, and turn of the foot about x in radians, heel up.
    """
    stance = phase < duty
    u = np.where(stance, phase / duty, (phase - duty) / (1 - duty))
    swing = u - np.sin(2 * np.pi * u) / (2 * np.pi)         # leaves and lands with no horizontal jerk
    z = np.where(stance, 0.5 - u, swing - 0.5) * stride
    y = np.where(stance, 0, np.sin(np.pi * u) ** 2) * lift
    # The heel rises before the toe leaves, the foot folds back in swing and is level again at landing.
    pitch = np.where(stance, 0.55 * np.clip((u - 0.55) / 0.45, 0, 1) ** 2,
                     0.55 * (1 - u) ** 2 * (1 + 2 * u) + 0.5 * np.sin(np.pi * u) ** 2)
    return toe + np.stack([np.zeros_like(z), y, z], 1), pitch


def leg_angles(skeleton: Skeleton, body: np.ndarray, leg: tuple[str, str, str], toe: np.ndarray, path: np.ndarray,
               pitch: np.ndarray) -> dict[str, np.ndarray]:
    """Swing of a leg's three joints about x that puts its toe on ``path``.

    Parameters
    ----------
    skeleton : Skeleton
    body : ndarray, shape (S, J, 4, 4)
        Joint-to-world matrices of the body without leg motion; the turn of the leg's parent is undone first.
    leg : (str, str, str)
        Thigh, shank and foot.
    toe : ndarray, shape (3,)
        At bind pose.
    path, pitch : ndarray, shapes (S, 3), (S,)
        As :func:`step` gives them.

    Returns
    -------
    dict of str to ndarray, shape (S,)
        Radians.
    """
    joints = [skeleton.names.index(name) for name in leg]
    hip, knee, ankle = skeleton.joints[joints]
    parent = body[:, skeleton.parents[joints[0]]]
    inverse = np.linalg.inv(parent)
    local_toe = np.einsum("sab,sb->sa", inverse, np.concatenate([path, np.ones((len(path), 1))], 1))[:, 1:3]
    parent_bind = skeleton.joints[skeleton.parents[joints[0]]]
    hip, knee, ankle, toe = (v[1:] - parent_bind[1:] for v in (hip, knee, ankle, toe))      # (y, z) from here on
    target = local_toe + _turn(ankle - toe, pitch)
    swing_upper, swing_lower = two_bone(hip, knee, ankle, target)
    wrapped = [wrap(a) for a in (swing_upper, swing_lower - swing_upper, pitch - swing_lower)]
    return {skeleton.names[j]: a for j, a in zip(joints, wrapped)}


def _turn(vector: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn (y, z) ``vector`` about x by ``angle`` (S,); returns (S, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]], 1)


def _axis(x, y=0.0, z=0.0) -> tuple:
    """Turns about the three axes, radians, each a number or (S,)."""
    return x, y, z
