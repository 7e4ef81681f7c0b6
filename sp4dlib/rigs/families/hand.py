"""Hands: one welded skin over five fingers of three bones, nails, and a sleeve."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, turn_about
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Material, Skeleton
from sp4dlib.rigs.shells import Shell, ball, turned, welded
from sp4dlib.rigs.welded import Body, Cone, Limb

VERTICES, SPACING = 3500, 0.03
RANGES = {"palm_length": (0.40, 0.52), "palm_width": (0.19, 0.24), "finger_length": (0.40, 0.56),
          "finger_radius": (0.042, 0.054),
          "spread": (0.7, 1.3), "forearm": (0.22, 0.36), "tempo": (0.7, 1.4)}
CHOICES = {"side": ("left", "right"), "wear": ("bare", "glove", "ringed"),
           "colors": (("#e0ac86", "#2f6fb3", "#f0d5c4"), ("#8a5a3c", "#e0b52e", "#d9b8a0"),
                      ("#f2cdb2", "#c0392b", "#fbe6da"),
                      ("#c68f63", "#3f8f7b", "#ecd0b8"),
                      ("#5a3a28", "#f2efe6", "#c79a80"), ("#7fae5a", "#7a4a86", "#2d3a1c"))}
FINGERS = (("index", 0.30, 0.95, 9), ("middle", 0.10, 1.05, 2), ("ring", -0.10, 0.98, -5), ("little", -0.29, 0.80, -13))
PARTS = ("base", "middle", "tip")
GOLD = Material("gold", (1.0, 0.9, 0.6, 1.0), double_sided=False)
SPLAY = 3.0         # palm widths between index and little finger, over the share that FINGERS gives


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; the fingers point up, the palm looks to +z, and the thumb of a left hand to +x."""
    bones, s = Bones(), 1 if p.side == "left" else -1
    body = Body(bones, 0.6 * p.palm_width, symmetric=False)
    thick, wide = 0.34 * p.palm_width, p.palm_width
    stump = np.array([0, 0.92 * thick, 0])
    wrist = stump + [0, p.forearm, 0]
    top = wrist + [0, 0.88 * p.palm_length, 0]
    bones.joint("forearm", None, stump)
    bones.joint("palm", "forearm", wrist)
    body.trunk = [Cone(0, stump, wrist, 0.92 * thick, 0.80 * thick, 1.35),
                  Cone(1, wrist + [0, 0.10 * p.palm_length, 0], top, 0.95 * thick, 0.85 * thick, 2.45),
                  Cone(1, wrist + [s * 0.22 * wide, 0.10 * p.palm_length, 0.02],
                       wrist + [s * 0.40 * wide, 0.40 * p.palm_length, 0.03],
                       0.8 * thick, 0.75 * thick, 1.3)]
    body.trunk_joints, body.trunk_widths = [0, 1], [1.2]
    for name, across, size, lean in FINGERS:
        root = top + [s * SPLAY * across * wide, 0.10 * p.palm_length - 0.25 * abs(across) * wide, 0]
        _finger(p, bones, body, name, root, np.radians(s * lean * p.spread), size * p.finger_length, p.finger_radius)
    root = wrist + [s * 0.62 * wide, 0.30 * p.palm_length, 0.03]
    _finger(p, bones, body, "thumb", root, np.radians(s * 40 * p.spread ** 0.3), 0.86 * p.finger_length,
            1.12 * p.finger_radius)
    skin, _ = welded(body, spacing)
    shells = [skin.painted(_tint(p, body, skin)), *_nails(p, body, spacing)]
    cuff = turned([[1.55 * thick, -0.16 * p.forearm], [1.55 * thick, 0.42 * p.forearm]], stump,
                  [0, 1, 0],
                  spacing, bevel=0.2 * thick)
    hoops = smooth_step((np.sin(2 * np.pi * cuff.points[:, 1] / (0.16 * p.forearm)) - 0.1) / 0.4)
    shells.append(cuff.on("forearm").marked(p.colors[1], "#f7f4ec", hoops))
    return bones, shells


def _finger(p: SimpleNamespace, bones: Bones, body: Body, name: str, root: np.ndarray, lean: float, length: float,
            r: float
            ) -> None:
    way = np.array([np.sin(lean), np.cos(lean), 0])
    parent, at, joints, cones = "palm", root, [], []
    for k, (part, share) in enumerate(zip(PARTS, (0.42, 0.32, 0.26))):
        joints.append(bones.joint(f"{name}_{part}", parent, at))
        parent, after = f"{name}_{part}", at + share * length * way
        cones.append(Cone(joints[-1], at, after, (1.08 - 0.10 * k) * r, (0.98 - 0.10 * k) * r))
        at = after
    body.limbs[name] = Limb(joints, cones, 0.7 * r)


def _nails(p: SimpleNamespace, body: Body, spacing: float) -> list[Shell]:
    shells = []
    for name, limb in body.limbs.items():
        last = limb.cones[-1]
        at = last.a + 0.80 * (last.b - last.a) - [0, 0, 0.72 * last.rb]
        nail = ball([0, 0, 0], [0.62 * last.rb, 0.85 * last.rb, 0.42 * last.rb], 0.5 * last.rb)
        way = (last.b - last.a) / np.linalg.norm(last.b - last.a)
        turn = np.stack([np.cross(way, [0, 0, 1.0]), way, [0, 0, 1.0]], 1)
        nail = Shell(nail.points @ turn.T + at, nail.faces, nail.along, nail.angle, {}, nail.colors, nail.material)
        shells.append(nail.on(f"{name}_tip").painted(p.colors[1] if p.wear == "glove" else p.colors[2]))
        if p.wear == "ringed" and name == "ring":
            first = limb.cones[0]
            way, r = (first.b - first.a) / np.linalg.norm(first.b - first.a), 1.12 * first.ra
            band = turned([[r, -0.25 * r], [r, 0.25 * r]], first.a + 0.45 * (first.b - first.a), way, 0.5 * r,
                          0.08 * r, around=16)
            shells.append(band.on("ring_base").painted("#e8b93a").made_of(GOLD))
    return shells


def _tint(p: SimpleNamespace, body: Body, skin: Shell) -> np.ndarray:
    color = np.broadcast_to(linear(p.colors[0]), (len(skin.points), 3))
    if p.wear == "glove":
        tips = sum(value for name, value in skin.weights.items() if name.endswith("_tip"))
        cuff = body.bones.at("palm")[1] - 0.1 * p.forearm
        color = mix(color, p.colors[1], smooth_step((skin.points[:, 1] - cuff) / 0.02))
        return mix(color, p.colors[2], smooth_step((np.asarray(tips) - 0.45) / 0.1))
    folds = max(skin.points[:, 2].max(), 1e-6)
    palm = smooth_step((skin.points[:, 2] / folds - 0.15) / 0.5)
    color = mix(color, p.colors[2], 0.45 * palm)
    for limb in body.limbs.values():                            # knuckles: a little redder
        for cone in limb.cones:
            near = 1 - np.linalg.norm(skin.points - cone.a, axis=1) / (1.5 * cone.ra)
            color = mix(color, "#a8503c", 0.35 * smooth_step(near))
    return color


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Grasping, counting on the fingers, and waving."""
    phase = np.linspace(0, 1, 49)
    turn = 2 * np.pi * phase
    grasp = 0.5 - 0.5 * np.cos(turn)
    curls = {name: grasp for name in ("index", "middle", "ring", "little", "thumb")}
    turns = _curled(p, skeleton, curls)
    turns |= {"palm": (0.25 * grasp, 0.0, 0.0), "forearm": (0.0, 0.35 * np.sin(turn), 0.0)}
    grasps = animate("grasp", skeleton, phase, 1.8 / p.tempo, turns)
    order = ("thumb", "index", "middle", "ring", "little")
    counted = {name: 1 - smooth_step((np.clip(phase, 0, 0.9) - 0.14 * k) / 0.12) + smooth_step((phase - 0.86) / 0.13)
               for k, name in enumerate(order)}
    turns = _curled(p, skeleton, counted) | {"forearm": (0.0, 0.25 * np.sin(turn), 0.0)}
    counts = animate("count", skeleton, phase, 3.6 / p.tempo, turns)
    flow = {name: 0.22 + 0.2 * np.sin(2 * turn - 0.7 * k) for k, name in enumerate(order)}
    turns = _curled(p, skeleton, flow)
    turns |= {"palm": (0.15 * np.sin(turn), 0.0, 0.40 * np.sin(2 * turn)),
              "forearm": (0.0, 0.6 * np.sin(turn), 0.25 * np.sin(2 * turn - 0.5))}
    return grasps, counts, animate("wave", skeleton, phase, 2.0 / p.tempo, turns)


def _curled(p: SimpleNamespace, skeleton: Skeleton, shares: dict) -> dict:
    """Turns that curl each finger by its share of a fist, about the axis across it."""
    s, turns = (1 if p.side == "left" else -1), {}
    for name, share in shares.items():
        base, tip = (skeleton.joints[skeleton.names.index(f"{name}_{part}")] for part in ("base", "tip"))
        axis = np.cross((tip - base) / np.linalg.norm(tip - base), [0, 0, 1.0])
        bends = (1.25, 1.5, 1.0)
        if name == "thumb":                                     # it folds across the palm
            axis, bends = axis + [0, -s * 1.0, 0], (0.55, 0.6, 0.8)
        for part, bend in zip(PARTS, bends):
            turns[f"{name}_{part}"] = turn_about(axis, bend * np.broadcast_to(share, np.shape(share)))
    return turns
