"""Snakes: one tube over some fifteen joints, a tongue, and for some a hood."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Skeleton
from sp4dlib.rigs.shells import Shell, eye, tube

VERTICES, SPACING = 3000, 0.035
RANGES = {"length": (1.9, 2.7), "thickness": (0.085, 0.13), "head_size": (1.15, 1.5), "waves": (1.3, 2.0),
          "sway": (0.75, 1.05), "tempo": (0.7, 1.4)}
CHOICES = {"hood": (False, False, True), "pattern": ("bands", "diamonds", "stripes", "plain"),
           "colors": (("#6f8f3a", "#e6e2a8", "#2e3d1c"), ("#b5482a", "#f0d9a0", "#2a1712"),
                      ("#c9a566", "#f3e8cf", "#5d3f22"), ("#3c4a57", "#b8c3c9", "#12171c"),
                      ("#3f8f7b", "#d8efdf", "#123a36"), ("#e0b52e", "#fff3c4", "#3a2a10"),
                      ("#8a5a86", "#e8d3e4", "#33203a"))}
FRONT, BACK = 6, 7


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; the joints run both ways from the middle, so that neither end whips the other."""
    step, height = p.length / (FRONT + BACK + 2), 0.85 * p.thickness
    bones = Bones()
    bones.joint("body", None, [0, height, 0])
    front = [f"front_{i + 1}" for i in range(FRONT)] + ["head"]
    back = [f"back_{i + 1}" for i in range(BACK)]
    for chain, sign in ((front, 1), (back, -1)):
        for i, name in enumerate(chain):
            bones.joint(name, chain[i - 1] if i else "body", [0, height, sign * (i + 0.5) * step])
    tail, snout = -(BACK + 0.5) * step, bones.at("head")[2] + 1.9 * p.head_size * p.thickness
    r, z = p.thickness, bones.at("head")[2]
    hood = 2.1 if p.hood else 1.0
    knots = [(tail, 0.12, 0.12), (tail + 0.12 * p.length, 0.55, 0.5), (tail + 0.3 * p.length, 0.95, 0.85),
             (0.15 * p.length, 1, 0.9), (z - 4.5 * r, 0.72, 0.7), (z - 2.6 * r, 0.7 * hood, 0.62),
             (z - 0.5 * r, 0.62, 0.6), (z + 0.75 * r, 0.86 * p.head_size, 0.6 * p.head_size),
             (z + 1.3 * r, 0.66 * p.head_size, 0.5 * p.head_size), (snout, 0.36 * p.head_size, 0.28 * p.head_size)]
    knots = np.array(knots)
    path = np.stack([0 * knots[:, 0], height + 0 * knots[:, 0], knots[:, 0]], 1)
    skin = tube(path, r * knots[:, 1:], spacing)
    order = back[::-1] + ["body"] + front
    starts = [bones.at(name)[2] - tail for name in back[::-1]] + [bones.at(name)[2] - tail for name in front]
    skin = skin.chain(order, starts, 0.45 * step).painted(_scales(p, skin, generator))
    shells = [skin]
    for s in (1, -1):
        place = np.array([s * 0.66 * p.head_size * r, height + 0.34 * p.head_size * r, z + 0.95 * r])
        shells.append(eye(place, 0.2 * p.head_size * r, [s, 0.3, 0.5], spacing, white="#e8c93a").on("head"))
    bones.joint("tongue", "head", [0, height - 0.1 * r, snout])
    for s in (1, -1):
        tine = tube([[0, height - 0.1 * r, snout - 0.3 * r], [0, height - 0.1 * r, snout + 0.8 * r],
                     [s * 0.3 * r, height - 0.1 * r, snout + 1.5 * r]], [0.07 * r, 0.06 * r, 0.03 * r], 0.3 * r)
        shells.append(tine.on("tongue").painted("#a8243a"))
    return bones, shells


def _scales(p: SimpleNamespace, skin: Shell, generator: np.random.Generator) -> np.ndarray:
    base, belly, mark = (linear(color) for color in p.colors)
    up, way = np.sin(skin.angle), skin.along / p.length
    phase = generator.uniform(0, 2 * np.pi)
    if p.pattern == "bands":
        share = smooth_step((np.sin(2 * np.pi * way * 13 + phase) - 0.2) / 0.3)
    elif p.pattern == "diamonds":
        share = smooth_step((np.sin(2 * np.pi * way * 11 + phase) + 2.2 * up - 2.0) / 0.4)
    elif p.pattern == "stripes":
        share = smooth_step((np.abs(np.cos(3 * skin.angle)) - 0.72) / 0.2) * (up > -0.3)
    else:
        share = 0.5 * smooth_step((up - 0.6) / 0.4)
    return mix(mix(np.broadcast_to(base, (len(up), 3)), mark, share), belly, smooth_step((-up - 0.45) / 0.3))


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Slithering after Hirose's serpenoid curve, and a raised, swaying head."""
    phase = np.linspace(0, 1, 33)
    turn = 2 * np.pi * phase
    z = skeleton.joints[:, 2] / p.length
    heading = p.sway * np.sin(turn[:, None] - 2 * np.pi * p.waves * (0.5 - z)) * np.clip(1.6 - 1.6 * z, 0, 1)
    heading[:, skeleton.names.index("tongue")] = heading[:, skeleton.names.index("head")]
    turns = {}
    for j, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents)):
        turns[name] = (0.0, heading[:, j] - (heading[:, parent] if parent >= 0 else 0), 0.0)
    turns["tongue"] = (0.25 * np.sin(4 * turn), 0.0, 0.0)
    slither = animate("slither", skeleton, phase, 1.6 / p.tempo, turns, {"body": _centred(skeleton, phase, turns)})
    up = 0.5 - 0.5 * np.cos(turn)
    slopes = {"front_1": -0.30, "front_2": -0.45, "front_3": -0.45, "front_4": -0.15, "front_5": 0.35, "front_6": 0.50,
              "head": 0.45}
    turns = {name: (slope * up, 0.14 * up * np.sin(2 * turn), 0.0) for name, slope in slopes.items()}
    turns |= {f"back_{i + 1}": (0.0, 0.20 * np.sin(turn - 0.6 * i), 0.0) for i in range(BACK)}
    turns["tongue"] = (0.3 * np.sin(6 * turn), 0.0, 0.0)
    return slither, animate("raise", skeleton, phase, 3.2 / p.tempo, turns)


def _centred(skeleton: Skeleton, phase: np.ndarray, turns: dict) -> np.ndarray:
    """Offset (S, 3) of the root that keeps the middle of all joints in place: motion is seen, not travel."""
    still = animate("", skeleton, phase, 1.0, turns).local(phase)
    places = skeleton.chain(still)[..., :3, 3].mean(1)
    return (skeleton.joints.mean(0) - places) * [1, 0, 1]
