"""Insects: plates that do not bend, six legs, feelers, and for some wings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, reach, worlds
from sp4dlib.rigs.gait import step
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Skeleton
from sp4dlib.rigs.shells import Shell, ball, eye, fin, tube

VERTICES, SPACING = 3000, 0.036
RANGES = {"thorax": (0.12, 0.17), "abdomen": (0.34, 0.55), "girth": (0.13, 0.21), "head_radius": (0.09, 0.13),
          "height": (0.20, 0.34), "leg_reach": (0.34, 0.52), "leg_radius": (0.018, 0.028), "feelers": (0.26, 0.50),
          "tempo": (0.8, 1.6)}
CHOICES = {"wings": ("none", "cases", "clear"), "pattern": ("bands", "spots", "plain"),
           "colors": (("#2a2422", "#8a2b1c", "#d9a13a"), ("#c0392b", "#1d1a1a", "#1d1a1a"),
                      ("#2f6b4a", "#7fc08a", "#e0c14a"), ("#e0a92b", "#2a2016", "#4a3a1c"),
                      ("#34507c", "#79b7d6", "#16233a"), ("#5d3b2a", "#b98a5a", "#2c1c14"),
                      ("#6f4a86", "#c9a3d6", "#2d1b3a"))}
SIDES = (("left", 1), ("right", -1))
LEGS = (("front", 0.55, 45), ("middle", 0.0, -4), ("hind", -0.55, -42))


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; each shell follows one joint, as an outer skeleton does."""
    t, y = p.thorax, p.height
    bones = Bones()
    bones.joint("thorax", None, [0, y, 0])
    bones.joint("head", "thorax", [0, y + 0.1 * t, 0.95 * t])
    bones.joint("abdomen", "thorax", [0, y + 0.1 * t, -0.9 * t])
    chest = ball([0, y, 0], [0.82 * t, 0.75 * t, 1.05 * t], spacing).on("thorax")
    face = np.array([0, y + 0.15 * t, 0.95 * t + 0.75 * p.head_radius])
    skull = ball(face, p.head_radius * np.array([1.0, 0.85, 0.95]), spacing).on("head")
    shells = [chest.painted(p.colors[0]), skull.marked(p.colors[0], p.colors[1], np.full(len(skull.points), 0.5)),
              _abdomen(p, bones, y, spacing, generator)]
    for side, s in SIDES:
        hr = p.head_radius
        shells.append(eye(face + hr * np.array([s * 0.72, 0.28, 0.42]), 0.36 * hr, [s, 0.2, 0.6], spacing,
                          white=p.colors[2], pupil="#14100e").on("head"))
        jaw = face + hr * np.array([s * 0.32, -0.35, 0.72])
        bones.joint(f"mandible_{side}", "head", jaw)
        shells.append(tube([jaw, jaw + hr * np.array([s * 0.30, -0.1, 0.45]),
                            jaw + hr * np.array([-s * 0.05, -0.1, 0.85])],
                           [0.16 * hr, 0.14 * hr, 0.05 * hr], 0.3 * hr).on(f"mandible_{side}").painted("#2a1c16"))
        shells += _feeler(p, bones, face, side, s)
        for kind, z, turn in LEGS:
            shells += _leg(p, bones, kind, side, s, z * t, np.radians(turn), spacing)
        if p.wings != "none":
            shells += _wing(p, bones, side, s, y, spacing)
    return bones, shells


def _plain(p: SimpleNamespace, shell: Shell) -> np.ndarray:
    return np.broadcast_to(linear(p.colors[0]), (len(shell.points), 3))


def _abdomen(p: SimpleNamespace, bones: Bones, y: float, spacing: float, generator: np.random.Generator) -> Shell:
    back, g = bones.at("abdomen")[2], p.girth
    z = np.array([0.04, -0.12, -0.5, -0.82, -1.0]) * p.abdomen + back
    rise = y + np.array([0.1 * p.thorax, 0.2 * g, 0.3 * g, 0.15 * g, 0.0])
    shell = tube(np.stack([0 * z, rise, z], 1), np.array([0.40, 0.78, 1.0, 0.66, 0.22])[:, None] * [g, 0.85 * g],
                 spacing)
    share = _marks(p, shell, generator)
    return shell.on("abdomen").painted(mix(_plain(p, shell), p.colors[1], share))


def _marks(p: SimpleNamespace, shell: Shell, generator: np.random.Generator) -> np.ndarray:
    if p.pattern == "bands":
        return smooth_step((np.sin(2 * np.pi * shell.points[:, 2] / 0.16) - 0.05) / 0.3)
    if p.pattern == "spots":
        middles = shell.points[generator.choice(len(shell.points), 9)]
        return smooth_step((1.3 - np.linalg.norm(shell.points[:, None] - middles, axis=2).min(1) / 0.055) / 0.4)
    return np.full(len(shell.points), 0.15)


def _feeler(p: SimpleNamespace, bones: Bones, face: np.ndarray, side: str, s: int) -> list[Shell]:
    root = face + p.head_radius * np.array([s * 0.40, 0.55, 0.60])
    knee = root + p.feelers * np.array([s * 0.22, 0.38, 0.10])
    tip = knee + p.feelers * np.array([s * 0.20, 0.10, 0.50])
    bones.joint(f"feeler_{side}", "head", root)
    bones.joint(f"feeler_tip_{side}", f"feeler_{side}", knee)
    r = 0.55 * p.leg_radius
    return [tube([root, knee], [1.1 * r, 0.9 * r], 3 * r).on(f"feeler_{side}").painted("#2a1c16"),
            tube([knee, 0.5 * (knee + tip) + [0, 0.03, 0], tip], [0.9 * r, 0.8 * r, 1.3 * r], 3 * r)
            .on(f"feeler_tip_{side}").painted(p.colors[2])]


def _leg(p: SimpleNamespace, bones: Bones, kind: str, side: str, s: int, z: float, turn: float, spacing: float
         ) -> list[Shell]:
    out = np.array([s * np.cos(turn), 0, np.sin(turn)])
    hip = np.array([s * 0.60 * p.thorax, p.height - 0.25 * p.thorax, z])
    reaches = p.leg_reach * (1.15 if kind == "hind" else 1.0)
    upper = hip + 0.10 * reaches * out
    knee = hip + 0.48 * reaches * out + [0, 0.42 * reaches, 0]
    foot = hip + reaches * out
    foot[1] = 0.0
    names = [f"{kind}_{part}_{side}" for part in ("coxa", "femur", "tibia")]
    for name, parent, at in zip(names, ["thorax"] + names[:2], (hip, upper, knee)):
        bones.joint(name, parent, at)
    r = p.leg_radius
    fine = min(spacing, 2.2 * r)
    heel = foot + [0, 0.7 * r, 0]
    toe = heel + 0.16 * reaches * out + [0, -0.1 * r, 0]
    return [ball(0.5 * (hip + upper), 1.9 * r, fine).on(names[0]).painted(p.colors[0]),
            tube([upper, knee], [1.5 * r, r], fine).on(names[1]).painted(p.colors[1]),
            tube([knee, heel, toe], [1.05 * r, 0.75 * r, 0.6 * r], fine,
                 straight=True).on(names[2]).painted(p.colors[0])]


def _wing(p: SimpleNamespace, bones: Bones, side: str, s: int, y: float, spacing: float) -> list[Shell]:
    g, length, top = p.girth, p.abdomen, y + 0.72 * p.thorax
    root = np.array([s * 0.28 * p.thorax, top, -0.45 * p.thorax])
    bones.joint(f"wing_{side}", "thorax", root)
    if p.wings == "cases":
        middle = np.array([s * 0.5 * g, y + 0.62 * g, root[2] - 0.56 * length])
        case = ball(middle, [0.56 * g, 0.52 * g, 0.60 * length], spacing, axis=(0, 0, 1))
        dots = np.stack([np.full(3, middle[0]), np.full(3, middle[1] + 0.5 * g),
                         middle[2] + length * np.array([-0.28, 0.0, 0.28])], 1)
        near = np.linalg.norm((case.points[:, None] - dots) * [1, 0.3, 1], axis=2).min(1)
        share = smooth_step((1.3 - near / (0.24 * g)) / 0.4)
        return [case.on(f"wing_{side}").marked(p.colors[1], p.colors[2], share)]
    shells = []
    for size, turn in ((1.45, 20), (1.05, 48)):
        way = np.array([s * np.cos(np.radians(turn)), 0.10, -np.sin(np.radians(turn))])
        across = np.array([s * way[2] * s, 0, -way[0]]) * 0.13 * size * length
        tip = root + size * length * way
        shells.append(fin([root + 0.25 * across, root - 0.25 * across], [tip + across, tip - across], 0.010, spacing)
                      .on(f"wing_{side}").painted(mix(np.full((1, 3), 0.78), p.colors[1], np.array([0.18]))[0]))
    return shells


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """The tripod gait, a threat with raised forelegs, and with wings a flight on the spot."""
    phase = np.linspace(0, 1, 33)
    turn = 2 * np.pi * phase
    walk, threat = _walk(p, skeleton, phase, turn), _threat(p, skeleton, phase, turn)
    return (walk, threat) if p.wings == "none" else (walk, threat, _fly(p, skeleton, phase, turn))


def _feet(p: SimpleNamespace, skeleton: Skeleton) -> dict[tuple[str, str], np.ndarray]:
    feet = {}
    for kind, _, _ in LEGS:
        for side, _ in SIDES:
            hip, upper = (skeleton.joints[skeleton.names.index(f"{kind}_{part}_{side}")] for part in ("coxa", "femur"))
            out = (upper - hip) / np.linalg.norm(upper - hip)
            foot = hip + p.leg_reach * (1.15 if kind == "hind" else 1.0) * out
            feet[kind, side] = foot * [1, 0, 1]
    return feet


def _planted(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turns: dict, bob: np.ndarray,
             paths: dict) -> dict:
    body = worlds(skeleton, phase, turns, {"thorax": bob})[:, 0]
    turns = dict(turns)
    for (kind, side), foot in _feet(p, skeleton).items():
        chain = tuple(f"{kind}_{part}_{side}" for part in ("coxa", "femur", "tibia"))
        turns |= reach(skeleton, chain, foot, paths[kind, side], body)[0]
    return turns


def _walk(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    late = {("front", "left"): 0, ("middle", "right"): 0,
            ("hind", "left"): 0}      # one tripod; the other half a cycle on
    paths = {key: step((phase + late.get(key, 0.5)) % 1, foot, 0.5 * p.leg_reach, 0.16 * p.leg_reach)[0]
             for key, foot in _feet(p, skeleton).items()}
    bob = np.stack([0.02 * np.sin(turn), 0.015 * np.cos(2 * turn), 0 * turn], 1) * p.leg_reach
    turns = {"thorax": (0.02 * np.sin(2 * turn), 0.05 * np.sin(turn), 0.03 * np.sin(turn)),
             "head": (0.05 * np.sin(2 * turn), -0.10 * np.sin(turn), 0.0),
             "abdomen": (0.05 * np.sin(2 * turn + 1), -0.10 * np.sin(turn), 0.0)}
    for side, s in SIDES:
        turns[f"feeler_{side}"] = (0.22 * np.sin(turn + s), 0.25 * np.sin(turn * 2 + s), 0.0)
        turns[f"feeler_tip_{side}"] = (0.25 * np.sin(turn + s - 1), 0.2 * np.sin(turn * 2 + s - 1), 0.0)
        turns[f"mandible_{side}"] = (0.0, s * 0.12 * np.sin(turn), 0.0)
    return animate("walk", skeleton, phase, 0.9 / p.tempo, _planted(p, skeleton, phase, turns, bob, paths),
                   {"thorax": bob})


def _threat(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    up = 0.5 - 0.5 * np.cos(turn)
    bob = np.stack([0 * up, 0.16 * up, -0.10 * up], 1) * p.leg_reach
    paths = {key: np.repeat(foot[None], len(phase), 0) for key, foot in _feet(p, skeleton).items()}
    for side, s in SIDES:
        wave = np.stack([s * 0.10 * np.sin(3 * turn), 0.85 + 0.20 * np.sin(3 * turn + s), 0.15 + 0 * turn], 1)
        paths["front", side] = paths["front", side] + p.leg_reach * up[:, None] * wave
    turns = {"thorax": (-0.34 * up, 0.10 * up * np.sin(2 * turn), 0.0),
             "head": (-0.10 * up, 0.2 * up * np.sin(2 * turn), 0.0),
             "abdomen": (0.30 * up, 0.0, 0.0)}
    for side, s in SIDES:
        turns[f"feeler_{side}"] = (-0.35 * up + 0.2 * np.sin(2 * turn + s), s * 0.25 * up, 0.0)
        turns[f"feeler_tip_{side}"] = (0.3 * np.sin(3 * turn + s), 0.0, 0.0)
        turns[f"mandible_{side}"] = (0.0, s * 0.45 * up, 0.0)
        if p.wings != "none":
            turns[f"wing_{side}"] = (-0.15 * up, s * 0.35 * up, s * 0.30 * up)
    return animate("threat", skeleton, phase, 2.4 / p.tempo, _planted(p, skeleton, phase, turns, bob, paths),
                   {"thorax": bob})


def _fly(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    beat = np.sin(4 * turn)
    turns = {"thorax": (-0.20 + 0.06 * np.sin(turn), 0.15 * np.sin(turn), 0.12 * np.cos(turn)),
             "abdomen": (0.22 + 0.06 * np.sin(2 * turn), 0.0, 0.0), "head": (0.12, 0.2 * np.sin(turn), 0.0)}
    open_ = 1.0 if p.wings == "cases" else 0.15
    for side, s in SIDES:
        turns[f"wing_{side}"] = (-0.35 * open_, -s * 0.9 * open_, s * (0.25 + 0.55 * beat))
        turns[f"feeler_{side}"] = (-0.3 + 0.1 * np.sin(turn), 0.0, 0.0)
        for kind, _, _ in LEGS:
            swing = 0.25 * np.sin(turn + {"front": 0, "middle": 1, "hind": 2}[kind])
            turns[f"{kind}_femur_{side}"] = (0.1 * swing, 0.0, -s * (0.35 + 0.3 * swing))
            turns[f"{kind}_tibia_{side}"] = (0.0, 0.0, -s * (0.45 + 0.4 * swing))
    bob = np.stack([0.04 * np.sin(turn), 0.10 * np.sin(2 * turn), 0 * turn], 1) * p.leg_reach
    return animate("fly", skeleton, phase, 1.2 / p.tempo, turns, {"thorax": bob})
