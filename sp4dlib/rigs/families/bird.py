"""Birds: a tube from rump to face, wings of blades and feathers, and legs that bend backwards."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, worlds
from sp4dlib.rigs.gait import leg_angles, leg_joints, step
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Skeleton
from sp4dlib.rigs.shells import Shell, eye, fin, tube

VERTICES, SPACING = 3000, 0.036
RANGES = {"body_length": (0.55, 0.75), "girth": (0.13, 0.20), "neck_length": (0.16, 0.42), "head_radius": (0.085, 0.12),
          "beak_length": (0.10, 0.26), "wing_length": (0.65, 1.05), "wing_chord": (0.24, 0.36),
          "leg_length": (0.26, 0.55), "tail_length": (0.22, 0.45), "flap": (0.5, 0.8), "tempo": (0.7, 1.4)}
CHOICES = {"crest": (False, False, True),
           "colors": (("#3c6fb0", "#f0e6d2", "#1d2a44", "#e8a33a"), ("#b5402f", "#f3d9bd", "#3a2320", "#e8c23a"),
                      ("#6a5340", "#e6d6bd", "#2d241d", "#d9a441"), ("#f1efe9", "#ffffff", "#3b3f45", "#e2792f"),
                      ("#3f8f4e", "#e9df6a", "#1f4a2c", "#d9552f"), ("#2b2d33", "#6c7078", "#111214", "#d8b23a"),
                      ("#d98fa5", "#f8dde2", "#6b3346", "#2c2422"))}
SIDES = (("left", 1), ("right", -1))


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; in bind pose it stands with its wings spread."""
    r, half, y = p.girth, p.body_length / 2, p.leg_length + 0.5 * p.girth
    bones = Bones()
    bones.joint("hips", None, [0, y, -0.3 * half])
    bones.joint("chest", "hips", [0, y + 0.1 * r, 0.25 * half])
    base = np.array([0, y + 0.55 * r, 0.85 * half])
    neck = p.neck_length * np.array([0, 0.87, 0.5])
    bones.joint("neck_1", "chest", base)
    bones.joint("neck_2", "neck_1", base + 0.5 * neck)
    bones.joint("head", "neck_2", base + neck)
    hr, head = p.head_radius, base + neck + [0, 0.5 * p.head_radius, 0.2 * p.head_radius]
    face = head + [0, -0.05 * hr, 0.75 * hr]
    path = np.array([[0, y + 0.1 * r, -1.05 * half], [0, y, -0.55 * half], [0, y - 0.05 * r, 0.15 * half],
                     [0, y + 0.2 * r, 0.65 * half], base + 0.35 * neck, base + 0.8 * neck, head, face])
    radii = np.array([0.40 * r, 0.86 * r, r, 0.84 * r, 0.30 * r + 0.28 * hr, 0.78 * hr, hr, 0.72 * hr])
    skin = tube(path, radii, spacing)
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    starts = [way[1] + 0.5 * (way[2] - way[1]), 0.6 * way[3] + 0.4 * way[4], 0.5 * (way[4] + way[5]),
              0.25 * way[6] + 0.75 * way[5]]
    skin = skin.chain(["hips", "chest", "neck_1", "neck_2", "head"], starts, [0.6 * r, 0.5 * r, 0.7 * hr, 0.5 * hr])
    shells = [skin.painted(_plumage(p, skin)), *_head(p, face, head, spacing), _tail(p, bones, y, half, spacing)]
    for side, s in SIDES:
        shells += _wing(p, bones, side, s, spacing) + _leg(p, bones, side, s, spacing)
    return bones, shells


def _head(p: SimpleNamespace, face: np.ndarray, head: np.ndarray, spacing: float) -> list[Shell]:
    hr = p.head_radius
    tip = face + p.beak_length * np.array([0, -0.25, 1.0])
    beak = tube([face, face + 0.5 * (tip - face) + [0, 0.02 * p.beak_length, 0], tip],
                [0.42 * hr, 0.28 * hr, 0.06 * hr],
                min(spacing, 0.5 * hr)).on("head").painted(p.colors[3])
    shells = [beak]
    for _, s in SIDES:
        shells.append(eye(head + hr * np.array([s * 0.80, 0.28, 0.50]), 0.26 * hr, [s, 0.1, 0.4], spacing).on("head"))
    if p.crest:
        for k in range(3):
            root = head + hr * np.array([0, 0.80, 0.25 - 0.4 * k])
            shells.append(fin([root + [0, 0, 0.2 * hr], root - [0, 0, 0.2 * hr]],
                              [root + hr * np.array([0, 1.1, -0.5]), root + hr * np.array([0, 1.0, -0.7])], 0.06 * hr,
                              spacing).on("head").painted(p.colors[2 if k % 2 else 3]))
    return shells


def _tail(p: SimpleNamespace, bones: Bones, y: float, half: float, spacing: float) -> Shell:
    root = np.array([0, y + 0.1 * p.girth, -1.0 * half])
    bones.joint("tail", "hips", root)
    tip = root + p.tail_length * np.array([0, -0.10, -1.0])
    wide = np.array([0.32 * p.tail_length, 0, 0])
    blade = fin([root + [0.4 * p.girth, 0, 0.05], root - [0.4 * p.girth, 0, -0.05]], [tip + wide, tip - wide],
                0.022, spacing).on("tail")
    bands = smooth_step((np.sin(3.2 * blade.points[:, 2] / p.tail_length * np.pi) - 0.1) / 0.3)
    return blade.marked(p.colors[0], p.colors[2], bands)


def _wing(p: SimpleNamespace, bones: Bones, side: str, s: int, spacing: float) -> list[Shell]:
    shoulder = bones.at("chest") + [s * 0.62 * p.girth, 0.55 * p.girth, 0.1 * p.body_length]
    out, c = s * p.wing_length, p.wing_chord
    parent = "chest"
    for part, share, z in (("upper", 0.0, 0.0), ("lower", 0.30, -0.02), ("hand", 0.60, 0.03)):
        bones.joint(f"wing_{part}_{side}", parent, shoulder + [out * share, 0, z])
        parent = f"wing_{part}_{side}"
    joints = [f"wing_{part}_{side}" for part in ("upper", "lower", "hand")]
    blade = fin([shoulder + [0, 0, 0.35 * c], shoulder + [0, 0, -0.65 * c]],
                [shoulder + [0.74 * out, 0, 0.30 * c], shoulder + [0.70 * out, 0, -0.45 * c]], 0.028, spacing)
    start = 0.31 * p.wing_length
    blade = blade.chain(joints, [start, 0.60 * p.wing_length], 0.07 * p.wing_length)
    back = (blade.points[:, 2] - shoulder[2]) / c
    coat = mix(np.broadcast_to(linear(p.colors[0]), (len(back), 3)), p.colors[2], smooth_step((-back - 0.30) / 0.12))
    shells = [blade.painted(mix(coat, p.colors[1], smooth_step(0.5 - 6 * np.abs(back + 0.12)) * 0.7))]
    for k in range(6):
        turn = np.radians(8 + 15 * k)
        reach = p.wing_length * (0.36 - 0.022 * k)
        root = shoulder + [out * (0.70 - 0.035 * k), 0, c * (0.24 - 0.13 * k)]
        way = np.array([s * np.cos(turn), 0, -np.sin(turn)])
        across = 0.065 * c / 0.3 * np.array([s * np.sin(turn), 0, np.cos(turn)])
        feather = fin([root + across, root - across],
                      [root + reach * way + 0.5 * across, root + reach * way - 0.5 * across],
                      0.012, spacing)
        shells.append(feather.on(joints[2]).painted(p.colors[2 if k % 2 == 0 else 0]))
    return shells


def _leg(p: SimpleNamespace, bones: Bones, side: str, s: int, spacing: float) -> list[Shell]:
    h, r = p.leg_length, 0.026
    hip = bones.at("hips") + [s * 0.48 * p.girth, -0.35 * p.girth, 0.06]
    knee = np.array([hip[0], 0.55 * h, hip[2] - 0.22 * h])
    ankle = np.array([hip[0], 1.2 * r, hip[2] + 0.02 * h])
    names = [f"leg_{part}_{side}" for part in ("upper", "lower", "foot")]
    for name, parent, at in zip(names, ["hips"] + names[:2], (hip, knee, ankle)):
        bones.joint(name, parent, at)
    leg = tube([hip, knee, ankle], [2.6 * r, 1.1 * r, r], min(spacing, 1.2 * r), straight=True)
    reach = np.linalg.norm(knee - hip)
    leg = leg.chain(names[:2], [reach], 1.5 * r)
    thigh = smooth_step((0.62 * reach - leg.along) / (0.1 * reach))
    shells = [leg.marked(p.colors[3], p.colors[0], thigh)]
    for turn in (-0.5, 0.0, 0.5, np.pi):
        length = 0.13 if turn != np.pi else 0.07
        tip = ankle + [length * np.sin(turn), -0.55 * r, length * np.cos(turn)]
        toe = tube([ankle, 0.5 * (ankle + tip) + [0, -0.1 * r, 0], tip], [0.8 * r, 0.65 * r, 0.5 * r], 1.2 * r)
        shells.append(toe.on(names[2]).painted(p.colors[3]))
    return shells


def _plumage(p: SimpleNamespace, skin: Shell) -> np.ndarray:
    up, share = np.sin(skin.angle), skin.along / skin.along.max()
    color = np.broadcast_to(linear(p.colors[0]), (len(up), 3))
    color = mix(color, p.colors[1], smooth_step((-up - 0.05) / 0.4) * smooth_step((0.80 - share) / 0.08))
    cap = smooth_step((share - 0.84) / 0.04) * smooth_step((up - 0.15) / 0.25)
    return mix(color, p.colors[2], cap)


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Flapping flight, a walk with folded wings by inverse kinematics, and a gliding turn."""
    phase = np.linspace(0, 1, 33)
    turn = 2 * np.pi * phase
    return _fly(p, skeleton, phase, turn), _walk(p, skeleton, phase, turn), _glide(p, skeleton, phase, turn)


def _tucked(turns: dict) -> dict:
    for side, _ in SIDES:
        turns |= {f"leg_upper_{side}": (0.9, 0.0, 0.0), f"leg_lower_{side}": (0.5, 0.0, 0.0),
                  f"leg_foot_{side}": (0.6, 0.0, 0.0)}
    return turns


def _fly(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    down = np.cos(turn)
    turns = _tucked({"hips": (0.05 * down, 0.0, 0.0), "neck_1": (0.30 - 0.05 * down, 0.0, 0.0),
                     "head": (-0.30, 0.0, 0.0), "tail": (0.12 * np.sin(turn), 0.0, 0.0)})
    for side, s in SIDES:
        turns[f"wing_upper_{side}"] = (0.16 * np.sin(turn), 0.0, s * (0.12 + p.flap * np.sin(turn)))
        turns[f"wing_lower_{side}"] = (0.0, 0.0, s * (0.55 * p.flap * np.sin(turn - 0.8) - 0.05))
        turns[f"wing_hand_{side}"] = (0.10 * np.sin(turn - 1), s * 0.12 * (1 + np.sin(turn)), s * 0.6 * p.flap
                                      * np.sin(turn - 1.4))
    bob = np.stack([0 * turn, -0.09 * np.sin(turn), 0 * turn], 1) * p.wing_length
    return animate("fly", skeleton, phase, 0.8 / p.tempo, turns, {"hips": bob})


def _glide(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    bank = np.sin(turn)
    turns = _tucked({"hips": (0.10 * np.sin(2 * turn), -0.35 * bank, -0.55 * bank),
                     "neck_1": (0.25, -0.15 * bank, 0.0), "head": (-0.2, -0.3 * bank, 0.35 * bank),
                     "tail": (0.1 * np.cos(turn), 0.0, 0.30 * bank)})
    for side, s in SIDES:
        turns[f"wing_upper_{side}"] = (0.0, s * 0.12, s * (0.16 + 0.05 * np.sin(3 * turn)))
        turns[f"wing_lower_{side}"] = (0.08 * bank * s, s * 0.05, s * 0.06 * np.sin(3 * turn - 0.5))
        turns[f"wing_hand_{side}"] = (0.0, s * (0.18 + 0.12 * bank * s), s * 0.12 * np.sin(3 * turn - 1))
    return animate("glide", skeleton, phase, 3.0 / p.tempo, turns)


def _walk(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    turns = {"hips": (0.03 * np.sin(2 * turn), 0.06 * np.sin(turn), 0.08 * np.sin(turn)),
             "neck_1": (0.16 * np.sin(2 * turn), 0.0, 0.0), "neck_2": (-0.10 * np.sin(2 * turn), 0.0, 0.0),
             "head": (-0.08 * np.sin(2 * turn), 0.0, 0.0), "tail": (0.05 * np.sin(2 * turn), 0.12 * np.sin(turn), 0.0)}
    for side, s in SIDES:
        turns[f"wing_upper_{side}"] = (1.15, s * 1.30, s * 0.10)
        turns[f"wing_lower_{side}"] = (0.0, s * 0.10, s * 0.04 * np.sin(2 * turn))
        turns[f"wing_hand_{side}"] = (0.0, -s * 0.75, 0.0)
    h = p.leg_length
    bob = np.stack([0.03 * np.sin(turn), -0.07 + 0.02 * np.cos(2 * turn), 0 * turn], 1) * h
    body = worlds(skeleton, phase, turns, {"hips": bob})
    swings = {}
    for (side, _), late in zip(SIDES, (0.0, 0.5)):
        ankle = skeleton.joints[skeleton.names.index(f"leg_foot_{side}")]
        toe = np.array([ankle[0], 0.0, ankle[2] + 0.11])
        path, pitch = step((phase + late) % 1, toe, 0.55 * h, 0.22 * h)
        for joint, swing in leg_angles(skeleton, body, leg_joints(f"leg_{side}"), toe, path, pitch).items():
            swings[joint] = (swing, 0.0, 0.0)
    return animate("walk", skeleton, phase, 1.0 / p.tempo, {**turns, **swings}, {"hips": bob})
