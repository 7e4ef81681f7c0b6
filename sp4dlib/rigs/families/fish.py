"""Fish: a tall tube that bends behind its head, and fins."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Skeleton
from sp4dlib.rigs.shells import Shell, eye, fin, tube

VERTICES, SPACING = 3000, 0.032
RANGES = {"length": (0.9, 1.3), "height": (0.16, 0.34), "width": (0.10, 0.17), "fin_size": (0.8, 1.4),
          "sweep": (0.35, 0.6), "tempo": (0.8, 1.5)}
CHOICES = {"tail": ("fork", "fan", "crescent"), "pattern": ("bands", "stripes", "spots", "plain"),
           "colors": (("#e8642c", "#fbe9d8", "#fdfdfd", "#2a1d1a"), ("#5a7184", "#eef2f3", "#33434f", "#4a5c69"),
                      ("#2f6fb3", "#f2d24a", "#123a6b", "#f2d24a"), ("#e2a72c", "#fff0c2", "#c0432b", "#d8741f"),
                      ("#3f9c86", "#d9f2e2", "#1d4f55", "#e08a3c"), ("#c2476e", "#f7d5dc", "#6a2148", "#8d2f5e"),
                      ("#8fa0a8", "#f6f8f8", "#3b4a50", "#b8483a"))}


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; the root sits behind the gills."""
    length, h, w = p.length, p.height, p.width
    y = 0.5 + h
    bones = Bones()
    bones.joint("body", None, [0, y, 0.18 * length])
    bones.joint("head", "body", [0, y, 0.27 * length])
    spine = ["spine_1", "spine_2", "spine_3", "tail"]
    for i, (name, z) in enumerate(zip(spine, (0.02, -0.14, -0.28, -0.40))):
        bones.joint(name, spine[i - 1] if i else "body", [0, y, z * length])
    profile = np.array([(-0.44, 0.10, 0.16), (-0.36, 0.16, 0.20), (-0.22, 0.42, 0.50), (0.0, 0.86, 0.92),
                        (0.16, 1.0, 1.0), (0.32, 0.84, 0.78), (0.44, 0.50, 0.44), (0.49, 0.26, 0.22)])
    path = np.stack([0 * profile[:, 0], y + 0.12 * h * profile[:, 0], length * profile[:, 0]], 1)
    skin = tube(path, profile[:, 1:] * [w, h], spacing)
    joints = spine[::-1] + ["body", "head"]
    starts = [bones.at(name)[2] + 0.44 * length for name in spine[::-1] + ["head"]]
    skin = skin.chain(joints, starts, 0.07 * length)
    shells = [skin.painted(_scales(p, skin, generator))]
    for s in (1, -1):
        side = "left" if s == 1 else "right"
        place = np.array([s * 0.66 * w, y + 0.22 * h, 0.36 * length])
        shells.append(eye(place, 0.26 * w + 0.02 * h, [s, 0.1, 0.4], spacing).on("head"))
        root = np.array([s * 0.86 * w, y - 0.30 * h, 0.20 * length])
        bones.joint(f"pectoral_{side}", "body", root)
        f = p.fin_size * length
        shells.append(fin([root + [-s * 0.02, 0, 0.035 * f], root + [-s * 0.02, 0, -0.035 * f]],
                          [root + [s * 0.13 * f, -0.06 * f, -0.05 * f], root + [s * 0.10 * f, -0.09 * f, -0.15 * f]],
                          0.012, spacing).on(f"pectoral_{side}").painted(p.colors[3]))
    return bones, shells + _fins(p, bones, y, spacing)


def _fins(p: SimpleNamespace, bones: Bones, y: float, spacing: float) -> list[Shell]:
    length, h = p.length, p.height
    f = p.fin_size * length
    up, z = y + h, np.array([0, 0, length])
    dorsal = fin([[0, up - 0.12 * h, 0.14 * length], [0, up - 0.25 * h, -0.14 * length]],
                 [[0, up + 0.10 * f, -0.01 * length], [0, up + 0.06 * f, -0.16 * length]], 0.014, spacing)
    bones.joint("dorsal", "spine_1", [0, up - 0.1 * h, 0.0])
    low = y - 0.6 * h
    anal = fin([[0, low, -0.12 * length], [0, low + 0.2 * h, -0.26 * length]],
               [[0, low - 0.10 * f - 0.1 * h, -0.22 * length],
                [0, low - 0.06 * f - 0.1 * h, -0.30 * length]], 0.012, spacing)
    shells = [dorsal.on("dorsal").painted(p.colors[3]), anal.on("spine_2").painted(p.colors[3])]
    root = np.array([0, y, 0]) - 0.42 * z
    lobes = {"fork": ((0.20, 0.16, 0.06), (-0.20, 0.16, 0.06)), "crescent": ((0.27, 0.10, 0.04), (-0.27, 0.10, 0.04)),
             "fan": ((0.10, 0.19, 0.12), (-0.10, 0.19, 0.12))}[p.tail]
    for rise, back, chord in lobes:
        s = np.sign(rise)
        tip = root + [0, rise * f, -back * f]
        blade = fin([root + [0, s * 0.10 * h, 0.02 * f], root + [0, -s * 0.06 * h, -0.03 * f]],
                    [tip + [0, s * 0.2 * chord * f, 0.3 * chord * f], tip - [0, s * chord * f, 0.5 * chord * f]],
                    0.016, spacing, bow=[0, s * 0.02 * f, -0.02 * f])
        shells.append(blade.on("tail").painted(p.colors[3]))
    return shells


def _scales(p: SimpleNamespace, skin: Shell, generator: np.random.Generator) -> np.ndarray:
    base, belly, mark, _ = (linear(color) for color in p.colors)
    up, way = np.sin(skin.angle), skin.along / p.length
    phase = generator.uniform(0, 2 * np.pi)
    if p.pattern == "bands":
        share = smooth_step((np.sin(2 * np.pi * way * 3.2 + phase) - 0.45) / 0.25)
    elif p.pattern == "stripes":
        share = smooth_step((np.sin(9 * up + phase) - 0.3) / 0.4) * (up > -0.2)
    elif p.pattern == "spots":
        middles = skin.points[generator.choice(len(skin.points), 30)]
        share = smooth_step((1.3 - np.linalg.norm(skin.points[:, None] - middles, axis=2).min(1) / 0.035) / 0.4)
    else:
        share = 0.8 * smooth_step((up - 0.4) / 0.6)
    color = mix(mix(np.broadcast_to(base, (len(up), 3)), belly, smooth_step((-up - 0.25) / 0.5)), mark, share)
    gill = smooth_step(1 - np.abs(skin.along - 0.72 * p.length - 0.05 * p.height * up) / (0.014 * p.length))
    return mix(color, 0.4 * base, 0.8 * gill * (np.abs(up) < 0.7))


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Swimming with a wave that grows towards the tail, and hovering with paddling fins and a look round."""
    phase = np.linspace(0, 1, 33)
    turn = 2 * np.pi * phase
    bends = {"body": (0.10, 0.0), "head": (0.10, 2.8), "spine_1": (0.30, 0.4), "spine_2": (0.45, 1.1),
             "spine_3": (0.6, 1.8), "tail": (0.9, 2.6)}
    swim = {name: (0.0, p.sweep * size * np.sin(turn - late), 0.0) for name, (size, late) in bends.items()}
    hover = {name: (0.0, 0.35 * p.sweep * size * np.sin(2 * turn - late), 0.0) for name, (size, late) in bends.items()}
    hover["body"] = (0.14 * np.sin(turn), 0.35 * np.sin(turn), 0.10 * np.sin(turn))
    hover["spine_1"] = (0.0, 0.25 * np.cos(turn), 0.0)
    for s, side in ((1, "left"), (-1, "right")):
        swim[f"pectoral_{side}"] = (0.12 * np.sin(turn), 0.0, s * 0.15 * np.sin(turn + 0.6))
        hover[f"pectoral_{side}"] = (0.5 * np.sin(3 * turn), 0.0, s * (0.2 + 0.45 * np.sin(3 * turn + s * 0.8)))
    swim["dorsal"], hover["dorsal"] = (0.0, 0.0, 0.10 * np.sin(turn)), (0.0, 0.0, 0.25 * np.sin(2 * turn))
    bob = np.stack([0.02 * np.sin(turn), 0 * turn, 0 * turn], 1) * p.length
    return (animate("swim", skeleton, phase, 1.0 / p.tempo, swim, {"body": bob}),
            animate("hover", skeleton, phase, 3.0 / p.tempo, hover, {"body": bob[:, [1, 0, 2]]}))
