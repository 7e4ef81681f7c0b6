"""Creatures on two legs, from slim to stout: one welded skin in clothes, eyes, and for some ears or horns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, worlds
from sp4dlib.rigs.gait import leg_angles, leg_joints, step
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Skeleton
from sp4dlib.rigs.shells import Shell, ball, eye, tube, welded
from sp4dlib.rigs.welded import Body, Cone, Limb

VERTICES, SPACING = 3000, 0.035
RANGES = {"leg_length": (0.50, 0.85), "torso": (0.42, 0.60), "girth": (0.13, 0.20), "shoulders": (0.19, 0.26),
          "arm_length": (0.50, 0.70), "limb": (0.046, 0.068), "head_radius": (0.13, 0.20), "foot": (0.14, 0.21),
          "stride": (0.40, 0.60), "tempo": (0.75, 1.35)}
CHOICES = {"top": ("ears", "horns", "hair", "bald"), "sleeves": ("long", "short"),
           "colors": (("#d9a679", "#c0392b", "#2f4a6b", "#3a2417"), ("#8a5a3c", "#e0b52e", "#4a4f57", "#17120f"),
                      ("#f0c8a8", "#2f6fb3", "#d8c8a8", "#b5602f"), ("#7fae5a", "#7a4a86", "#4a3a2a", "#2d3a1c"),
                      ("#9cb8d6", "#e87722", "#34383f", "#22425f"), ("#b9855c", "#f2efe6", "#7a2f2a", "#4a3320"),
                      ("#c98fb0", "#3f8f7b", "#e6e0cf", "#5a2d4a"))}
SIDES = (("left", 1), ("right", -1))


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; in bind pose the arms hang at forty degrees."""
    bones = Bones()
    body = Body(bones, p.girth)
    head = _trunk(p, bones, body)
    for side, s in SIDES:
        _arm(p, bones, body, side, s)
        _leg(p, bones, body, side, s)
    skin, normals = welded(body, spacing)
    shells = [skin.painted(_clothes(p, body, skin, head))]
    hr = p.head_radius
    for _, s in SIDES:
        shells.append(eye(head + hr * np.array([s * 0.40, 0.12, 0.84]), 0.22 * hr, [0.1 * s, 0, 1], spacing).on("head"))
    shells.append(ball(head + hr * np.array([0, -0.18, 0.98]), 0.13 * hr, 0.12 * hr).on("head")
                  .painted(mix(np.zeros((1, 3)) + linear(p.colors[0]), "#b0402f", np.array([0.35]))[0]))
    return bones, shells + _top(p, bones, head, spacing)


def _trunk(p: SimpleNamespace, bones: Bones, body: Body) -> np.ndarray:
    g, hr, hip = p.girth, p.head_radius, p.leg_length + 0.25 * p.girth
    heights = (hip, hip + 0.34 * p.torso, hip + 0.68 * p.torso, hip + 1.02 * p.torso,
               hip + 1.02 * p.torso + 0.30 * hr + 0.04)
    names = ("pelvis", "spine", "chest", "neck", "head")
    for i, (name, y) in enumerate(zip(names, heights)):
        bones.joint(name, names[i - 1] if i else None, [0, y, 0])
    pelvis, spine, chest, neck, head = bones.heads
    middle = head + [0, 0.80 * hr, 0.10 * hr]
    wide = 0.92 * p.shoulders / g
    body.trunk = [Cone(0, pelvis, spine, 0.94 * g, 0.84 * g, 1.05), Cone(1, spine, chest, 0.84 * g, 0.90 * g, 1.05),
                  Cone(2, chest, chest + [0, 0.14 * p.torso, 0], 0.90 * g, 0.72 * g, wide),
                  Cone(3, neck - [0, 0.3 * hr, 0], head, 0.42 * hr, 0.38 * hr), Cone(4, middle, middle, hr, hr),
                  Cone(4, middle - [0, 0.30 * hr, -0.20 * hr], middle - [0, 0.45 * hr, -0.25 * hr], 0.66 * hr,
                       0.55 * hr)]
    body.trunk_joints, body.trunk_widths = list(range(5)), [0.8, 0.8, 0.7, 0.6]
    return middle


def _arm(p: SimpleNamespace, bones: Bones, body: Body, side: str, s: int) -> None:
    shoulder = bones.at("chest") + [s * p.shoulders, 0.20 * p.torso, 0]
    way = np.array([s * np.sin(np.radians(50)), -np.cos(np.radians(50)), 0])
    elbow = shoulder + 0.46 * p.arm_length * way - [0, 0, 0.015]
    wrist = shoulder + 0.86 * p.arm_length * way + [0, 0, 0.015]
    parent, joints = "chest", []
    for part, at in (("upper", shoulder), ("lower", elbow), ("hand", wrist)):
        joints.append(bones.joint(f"arm_{part}_{side}", parent, at))
        parent = f"arm_{part}_{side}"
    r, palm = p.limb, wrist + 0.12 * p.arm_length * way
    thumb = wrist + 0.06 * p.arm_length * way + [0, 0, 1.3 * r]
    cones = [Cone(joints[0], shoulder, elbow, 1.25 * r, r), Cone(joints[1], elbow, wrist, r, 0.80 * r),
             Cone(joints[2], wrist, palm, 0.90 * r, 1.15 * r), Cone(joints[2], wrist, thumb, 0.7 * r, 0.55 * r)]
    body.limbs[f"arm_{side}"] = Limb(joints, cones, 0.5 * p.girth)


def _leg(p: SimpleNamespace, bones: Bones, body: Body, side: str, s: int) -> None:
    x, h, r = s * max(0.50 * p.girth, 1.45 * p.limb), p.leg_length, 1.25 * p.limb
    knots = [np.array([x, h, 0]), np.array([x, 0.53 * h, 0.035]), np.array([x, 1.1 * r, -0.02])]
    parent, joints = "pelvis", []
    for part, at in zip(("upper", "lower", "foot"), knots):
        joints.append(bones.joint(f"leg_{part}_{side}", parent, at))
        parent = f"leg_{part}_{side}"
    heel, toe = knots[2] - [0, 0.1 * r, 0.2 * r], np.array([x, 0.80 * r, p.foot - 0.02])
    cones = [Cone(joints[0], knots[0], knots[1], 1.45 * r, 1.05 * r),
             Cone(joints[1], knots[1], knots[2], 1.05 * r, 0.9 * r),
             Cone(joints[2], heel, toe, r, 0.8 * r)]
    body.limbs[f"leg_{side}"] = Limb(joints, cones, 0.5 * p.girth)


def _clothes(p: SimpleNamespace, body: Body, skin: Shell, head: np.ndarray) -> np.ndarray:
    """Skin, shirt, trousers, shoes and hair, by the joint that a vertex follows and by height."""
    points, bones = skin.points, body.bones
    share = {name: np.asarray(value) for name, value in skin.weights.items()}

    def of(*parts: str) -> np.ndarray:
        return sum(value for name, value in share.items() if name.startswith(parts))

    color = np.broadcast_to(linear(p.colors[0]), (len(points), 3))
    belt = bones.at("pelvis")[1] + 0.20 * p.torso
    sleeve = ("arm_upper",) if p.sleeves == "short" else ("arm_upper", "arm_lower")
    neckline = np.maximum(smooth_step((bones.at("neck")[1] + 0.01 - points[:, 1]) / 0.03), of("arm"))
    color = mix(color, p.colors[1],
                smooth_step((of("spine", "chest", "pelvis", "neck", *sleeve) - 0.45) / 0.1) * neckline)
    legs = smooth_step((of("pelvis", "spine", "leg") - 0.5) / 0.1) * smooth_step((belt - points[:, 1]) / 0.02)
    color = mix(color, p.colors[2], legs)
    color = mix(color, "#2a211c", smooth_step((of("leg_foot") - 0.25) / 0.1))
    color = mix(color, "#2a211c", 0.9 * legs * smooth_step((0.025 - np.abs(points[:, 1] - belt + 0.03)) / 0.01))
    if p.top == "hair":
        above = (points - head) / p.head_radius
        hair = smooth_step((above[:, 1] - 0.30 + 0.55 * np.minimum(-above[:, 2], 0.8)) / 0.12) * of("head")
        color = mix(color, p.colors[3], smooth_step((hair - 0.3) / 0.3))
    return color


def _top(p: SimpleNamespace, bones: Bones, head: np.ndarray, spacing: float) -> list[Shell]:
    """Ears and horns are rigid, and ears have a joint of their own."""
    shells, hr = [], p.head_radius
    for side, s in SIDES:
        root = head + hr * np.array([s * 0.62, 0.66, 0.0])
        if p.top == "ears":
            bones.joint(f"ear_{side}", "head", root)
            tip = root + hr * np.array([s * 0.55, 0.95, -0.1])
            shells.append(tube([root, 0.5 * (root + tip), tip],
                               hr * np.array([[0.22, 0.12], [0.34, 0.14], [0.16, 0.08]]),
                               min(spacing, 0.3 * hr), side=[s * 0.8, -0.5, 0]).on(f"ear_{side}").painted(p.colors[3]))
        elif p.top == "horns":
            path = root + hr * np.array([[0, -0.1, 0], [s * 0.30, 0.40, 0], [s * 0.30, 0.90, 0.1]])
            shells.append(tube(path, hr * np.array([0.20, 0.15, 0.04]),
                               min(spacing, 0.3 * hr)).on("head").painted("#e8dcc0"))
    return shells


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Walking by inverse kinematics, waving, and jumping."""
    phase = np.linspace(0, 1, 33)
    turn = 2 * np.pi * phase
    return _walk(p, skeleton, phase, turn), _wave(p, skeleton, phase, turn), _jump(p, skeleton, phase, turn)


def _legs(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turns: dict, bob: np.ndarray, path_of) -> dict:
    """Turns with those of both legs, whose toes follow ``path_of(toe, late)``: places (S, 3) and pitch (S,)."""
    body = worlds(skeleton, phase, turns, {"pelvis": bob})
    out = dict(turns)
    for (side, _), late in zip(SIDES, (0.0, 0.5)):
        ankle = skeleton.joints[skeleton.names.index(f"leg_foot_{side}")]
        toe = np.array([ankle[0], 0.0, p.foot])
        path, pitch = path_of(toe, late)
        for joint, swing in leg_angles(skeleton, body, leg_joints(f"leg_{side}"), toe, path, pitch).items():
            out[joint] = (swing, 0.0, 0.0)
    return out


def _walk(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    h = p.leg_length
    turns = {"pelvis": (0.04, 0.12 * np.cos(turn), 0.05 * np.sin(turn)),
             "spine": (0.02, -0.10 * np.cos(turn), -0.04 * np.sin(turn)),
             "chest": (0.03, -0.16 * np.cos(turn), 0.0), "neck": (-0.03, 0.08 * np.cos(turn), 0.0),
             "head": (0.03 * np.sin(2 * turn), 0.06 * np.cos(turn), 0.0)}
    for side, s in SIDES:
        swing = s * np.cos(turn)
        turns[f"arm_upper_{side}"] = (0.65 * swing, 0.0, -s * 0.55)
        turns[f"arm_lower_{side}"] = (-0.45 + 0.25 * swing, 0.0, 0.0)
        turns[f"ear_{side}"] = (0.1 * np.sin(2 * turn), 0.0, 0.0)
    turns = {name: value for name, value in turns.items() if name in skeleton.names}
    bob = np.stack([0.02 * np.sin(turn), -0.05 + 0.018 * np.cos(2 * turn), 0 * turn], 1) * h
    turns = _legs(p, skeleton, phase, turns, bob, lambda toe,
                  late: step((phase + late) % 1, toe, p.stride * h, 0.14 * h))
    return animate("walk", skeleton, phase, 1.1 / p.tempo, turns, {"pelvis": bob})


def _wave(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    up, shake = smooth_step(2.5 * (0.5 - np.abs(phase - 0.5))), np.sin(4 * turn)
    turns = {"chest": (0.0, 0.12 * up, 0.06 * up), "spine": (0.0, 0.05 * np.sin(turn), 0.0),
             "head": (0.06 * np.sin(2 * turn), 0.15 * np.sin(turn), -0.16 * up),
             "arm_upper_left": (-0.5 * up, 0.0, 1.35 * up - 0.5 * (1 - up)),
             "arm_lower_left": (0.0, 0.0, (0.75 + 0.45 * shake) * up),
             "arm_hand_left": (0.0, 0.0, 0.3 * shake * up), "arm_upper_right": (0.15 * np.sin(turn), 0.0, 0.5),
             "arm_lower_right": (-0.35 - 0.1 * np.sin(turn), 0.0, 0.0),
             "pelvis": (0.0, 0.08 * np.sin(turn), 0.03 * np.sin(turn))}
    bob = np.stack([0.03 * np.sin(turn), -0.03 + 0.01 * np.cos(2 * turn), 0 * turn], 1) * p.leg_length
    turns = _legs(p, skeleton, phase, turns, bob, lambda toe, _: (np.repeat(toe[None], len(phase), 0), 0 * phase))
    return animate("wave", skeleton, phase, 2.4 / p.tempo, turns, {"pelvis": bob})


def _jump(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    air = np.clip((phase - 0.35) / 0.35, 0, 1)
    crouch = np.sin(np.pi * np.clip(phase / 0.35, 0, 1)) ** 2 + np.sin(np.pi * np.clip((phase - 0.7) / 0.3, 0, 1)) ** 2
    rise, up = 4 * air * (1 - air), smooth_step(2 * np.sin(np.pi * np.clip((phase - 0.15) / 0.7, 0, 1)) - 0.4)
    turns = {"pelvis": (0.30 * crouch, 0.0, 0.0), "spine": (0.20 * crouch, 0.0, 0.0),
             "chest": (0.10 * crouch - 0.1 * rise, 0.0, 0.0),
             "head": (-0.30 * crouch, 0.0, 0.0)}
    for side, s in SIDES:
        turns[f"arm_upper_{side}"] = (0.5 * crouch - 0.6 * up, 0.0, s * (1.5 * up - 0.45))
        turns[f"arm_lower_{side}"] = (-0.4 * crouch - 0.1, 0.0, 0.0)
    h = p.leg_length
    bob = np.stack([0 * turn, -0.02 - 0.22 * crouch + 0.35 * rise, -0.04 * crouch], 1) * h
    lift = np.stack([0 * turn, 0.30 * rise * h, 0 * turn], 1)
    turns = _legs(p, skeleton, phase, turns, bob, lambda toe, _: (toe + lift, 0.6 * rise))
    return animate("jump", skeleton, phase, 1.5 / p.tempo, turns, {"pelvis": bob})
