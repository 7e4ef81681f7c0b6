"""Robot arms: a turning column, two beams, a wrist and a gripper, all stiff."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, reach, turn_about
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Material, Skeleton
from sp4dlib.rigs.shells import Shell, box, tube, turned

VERTICES, SPACING = 3000, 0.05
RANGES = {"base_radius": (0.18, 0.28), "column": (0.22, 0.40), "upper": (0.42, 0.65), "lower": (0.38, 0.60),
          "thickness": (0.055, 0.085), "finger": (0.14, 0.24), "tempo": (0.7, 1.3)}
CHOICES = {"fingers": (2, 3, 4), "beams": ("round", "square"), "hazard": (False, True),
           "colors": (("#e87722", "#3a3d42", "#c9ccd1"), ("#f2c230", "#2a2c30", "#8f959c"),
                      ("#e9ebee", "#2f6fb3", "#50555c"), ("#3f8f7b", "#f4f1e4", "#2a3231"),
                      ("#b8322a", "#2b2d31", "#d7dade"), ("#5a6472", "#e07b2e", "#23272d"))}
PAINT = Material("paint", (1.0, 1.0, 1.0, 1.0), double_sided=False)
METAL = Material("metal", (0.9, 0.9, 0.92, 1.0), double_sided=False)


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells; in bind pose it reaches forward with its gripper down."""
    bones, t = Bones(), p.thickness
    shoulder = np.array([0, p.column, 0.06])
    elbow = shoulder + p.upper * np.array([0, 0.90, 0.44])
    wrist = elbow + p.lower * np.array([0, -0.26, 0.966])
    palm = wrist - [0, 1.9 * t, 0]
    for name, parent, at in (("base", None, [0, 0, 0]), ("turret", "base", [0, 0.4 * p.column, 0]),
                             ("shoulder", "turret", shoulder), ("elbow", "shoulder", elbow), ("wrist", "elbow", wrist),
                             ("palm", "wrist", palm)):
        bones.joint(name, parent, at)
    r, h = p.base_radius, p.column
    foot = turned([[1.25 * r, 0], [1.25 * r, 0.06], [r, 0.07], [0.9 * r, 0.40 * h]], [0, 0, 0], [0, 1, 0], spacing,
                  0.015)
    rim = smooth_step((0.075 - foot.points[:, 1]) / 0.01)
    ring = smooth_step(np.sin(12 * foot.angle) / 0.4 + 0.5) if p.hazard else np.zeros(len(rim))
    base = mix(np.broadcast_to(linear(p.colors[1]), (len(rim), 3)), "#f2c230", rim * ring)
    column = turned([[0.80 * r, 0.41 * h], [0.74 * r, 0.62 * h], [0.5 * r, 0.9 * h]], [0, 0, 0], [0, 1, 0], spacing,
                    0.015)
    shells = [foot.on("base").painted(base).made_of(METAL), column.on("turret").painted(p.colors[0]).made_of(PAINT)]
    for name, at, joint, size in (("shoulder", shoulder, "turret", 1.7), ("elbow", elbow, "shoulder", 1.35),
                                  ("wrist", wrist, "elbow", 1.0)):
        drum = turned([[size * t, -1.25 * t], [size * t, 1.25 * t]], at, [1, 0, 0], 0.7 * spacing, 0.2 * t)
        shells.append(drum.on(joint).painted(p.colors[2]).made_of(METAL))
        cap = turned([[0.6 * size * t, -1.45 * t], [0.6 * size * t, 1.45 * t]], at, [1, 0, 0], 0.7 * spacing, 0.1 * t)
        shells.append(cap.on(name).painted(p.colors[1]).made_of(METAL))
    shells += [_beam(p, shoulder, elbow, 1.15 * t, spacing).on("shoulder"),
               _beam(p, elbow, wrist, 0.9 * t, spacing).on("elbow")]
    return bones, shells + _gripper(p, bones, wrist, palm, spacing)


def _beam(p: SimpleNamespace, start: np.ndarray, end: np.ndarray, t: float, spacing: float) -> Shell:
    way = (end - start) / np.linalg.norm(end - start)
    a, b = start + 0.6 * t * way, end - 0.6 * t * way
    if p.beams == "round":
        beam = tube([a, 0.5 * (a + b), b], [1.05 * t, 0.85 * t, 0.75 * t], spacing, round_ends=(0.3, 0.3))
        share = beam.along / np.linalg.norm(b - a)
    else:
        length = np.linalg.norm(b - a)
        beam = box([0, 0, 0], [1.7 * t, 1.9 * t, length], spacing, 0.25 * t)
        turn = np.stack([[1.0, 0, 0], np.cross(way, [1, 0, 0]), way], 1)
        share = beam.points[:, 2] / length + 0.5
        beam = Shell(beam.points @ turn.T + (a + b) / 2, beam.faces, beam.along, beam.angle, {}, beam.colors,
                     beam.material)
    band = smooth_step((0.10 - np.abs(share - 0.62)) / 0.03)
    return beam.marked(p.colors[0], p.colors[1], band).made_of(PAINT)


def _gripper(p: SimpleNamespace, bones: Bones, wrist: np.ndarray, palm: np.ndarray, spacing: float) -> list[Shell]:
    t = p.thickness
    neck = turned([[0.7 * t, 0], [0.7 * t, 1.7 * t]], palm, [0, 1, 0], 0.7 * spacing, 0.1 * t).on("wrist")
    plate = turned([[1.5 * t, -0.35 * t], [1.5 * t, 0.25 * t]], palm, [0, 1, 0], 0.7 * spacing, 0.12 * t)
    mark = smooth_step((np.cos(plate.angle) - 0.8) / 0.1)
    shells = [neck.painted(p.colors[2]).made_of(METAL),
              plate.on("palm").marked(p.colors[1], p.colors[0], mark).made_of(METAL)]
    for k in range(p.fingers):
        turn = 2 * np.pi * k / p.fingers
        out = np.array([np.cos(turn), 0, np.sin(turn)])
        root = palm + 1.1 * t * out - [0, 0.2 * t, 0]
        name = f"finger_{k + 1}"
        bones.joint(name, "palm", root)
        middle = root + 0.45 * p.finger * out * 0.5 - [0, 0.5 * p.finger, 0]
        tip = root - 0.25 * t * out - [0, p.finger, 0]
        finger = tube([root, middle, tip], [0.30 * t, 0.28 * t, 0.16 * t], 0.6 * t, side=np.cross(out, [0, 1, 0]),
                      straight=True)
        pad = smooth_step((finger.along / finger.along.max() - 0.72) / 0.05)
        shells.append(finger.on(name).marked(p.colors[2], p.colors[0], pad)
                      .made_of(METAL))
    return shells


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Picking here and placing there, there and back, by inverse kinematics; and a wave."""
    phase = np.linspace(0, 1, 65)
    span = p.upper + p.lower
    low, high = 0.55 * p.column, p.column + 0.30 * span
    stops = []
    for at, grip in ((0.9, 1.0), (-0.9, 0.0)):                  # grasp on the left, let go on the right
        place = 0.66 * span * np.array([np.sin(at), 0, np.cos(at)])
        stops += [(place + [0, high, 0], 1 - grip), (place + [0, low, 0], 1 - grip), (place + [0, low, 0], grip),
                  (place + [0, high, 0], grip)]
    stops.append(stops[0])
    beats = np.array([0, 0.13, 0.20, 0.33, 0.53, 0.66, 0.73, 0.86, 1.0])
    i = np.clip(np.searchsorted(beats, phase, side="right") - 1, 0, len(beats) - 2)
    share = smooth_step((phase - beats[i]) / (beats[i + 1] - beats[i]))[:, None]
    path, grip = np.array([s[0] for s in stops]), np.array([s[1] for s in stops])
    angle = np.arctan2(path[:, 0], path[:, 2])
    angle = angle[i] * (1 - share[:, 0]) + angle[i + 1] * share[:, 0]
    rise = path[i, 1] * (1 - share[:, 0]) + path[i + 1, 1] * share[:, 0]
    targets = np.stack([0.66 * span * np.sin(angle), rise + 1.9 * p.thickness, 0.66 * span * np.cos(angle)], 1)
    turns = _reached(skeleton, targets)
    turns |= _grip(p, skeleton, grip[i] * (1 - share[:, 0]) + grip[i + 1] * share[:, 0])
    turns["palm"] = (0.0, 0.5 * np.sin(2 * np.pi * phase), 0.0)
    return animate("pick", skeleton, phase, 4.0 / p.tempo, turns), _wave(p, skeleton)


def _reached(skeleton: Skeleton, targets: np.ndarray) -> dict:
    still = np.repeat(np.eye(4)[None], len(targets), 0)         # the base stands at the origin and does not move
    wrist = skeleton.joints[skeleton.names.index("wrist")]
    turns, pitch = reach(skeleton, ("turret", "shoulder", "elbow"), wrist, targets, still)
    turns["wrist"] = turn_about([-1, 0, 0], -pitch)             # the gripper keeps pointing down
    return turns


def _grip(p: SimpleNamespace, skeleton: Skeleton, closed: np.ndarray) -> dict:
    out = {}
    for k in range(p.fingers):
        turn = 2 * np.pi * k / p.fingers
        out[f"finger_{k + 1}"] = turn_about(np.cross([0, 1.0, 0], [np.cos(turn), 0, np.sin(turn)]),
                                            0.22 * closed - 0.5 * (1 - closed))
    return out


def _wave(p: SimpleNamespace, skeleton: Skeleton) -> Animation:
    phase = np.linspace(0, 1, 49)
    turn = 2 * np.pi * phase
    turns = {"turret": (0.0, 0.7 * np.sin(turn), 0.0), "shoulder": (-0.15 + 0.35 * np.sin(2 * turn), 0.0, 0.0),
             "elbow": (-0.35 + 0.35 * np.cos(2 * turn), 0.0, 0.0), "wrist": (0.3 * np.sin(3 * turn), 0.0, 0.0),
             "palm": (0.0, 1.2 * np.sin(turn), 0.0), **_grip(p, skeleton, 0.5 + 0.5 * np.sin(3 * turn))}
    return animate("wave", skeleton, phase, 3.6 / p.tempo, turns)
