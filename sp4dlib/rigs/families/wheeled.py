"""Machines on wheels: a car with doors, a truck that tips, a tank whose turret turns. Nothing on them bends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate
from sp4dlib.rigs.paint import smooth_step
from sp4dlib.rigs.rig import Animation, Material, Skeleton
from sp4dlib.rigs.shells import Shell, ball, box, tube, turned

VERTICES, SPACING = 6000, 0.06
RANGES = {"length": (1.3, 1.9), "width": (0.65, 0.85), "height": (0.22, 0.34), "wheel_radius": (0.15, 0.22),
          "wheel_width": (0.10, 0.15), "cabin": (0.26, 0.40), "barrel": (0.6, 1.0), "tempo": (0.7, 1.4)}
CHOICES = {"kind": ("car", "truck", "tank"), "stripe": (False, True),
           "colors": (("#c0392b", "#f2efe6", "#2a2c30"), ("#2f6fb3", "#f2d24a", "#23272d"),
                      ("#5f6f3a", "#a8a878", "#2b2d26"), ("#e0a92b", "#3a3a3e", "#2a2a2c"),
                      ("#3f8f7b", "#f4f1e4", "#2a3231"), ("#8a8f98", "#c0542f", "#26282c"),
                      ("#b99a66", "#6b5334", "#2e2a24"))}
SIDES = (("left", 1), ("right", -1))
METAL = Material("metal", (0.9, 0.9, 0.92, 1.0), double_sided=False)
RUBBER = Material("rubber", (0.55, 0.55, 0.55, 1.0), double_sided=False)
PAINT = Material("paint", (1.0, 1.0, 1.0, 1.0), double_sided=False)
GLASS = Material("glass", (0.6, 0.75, 0.85, 1.0), double_sided=False)


def grow(p: SimpleNamespace, spacing: float, generator: np.random.Generator) -> tuple[Bones, list[Shell]]:
    """Joints and shells."""
    bones = Bones()
    bones.joint("chassis", None, [0, p.wheel_radius, 0])
    shells = {"car": _car, "truck": _truck, "tank": _tank}[p.kind](p, bones, spacing)
    return bones, shells


def _wheel(p: SimpleNamespace, bones: Bones, name: str, parent: str, at, spacing: float, width: float) -> list[Shell]:
    """Tyre, and a hub whose spokes show that it turns."""
    bones.joint(name, parent, at)
    r, w = p.wheel_radius, width / 2
    fine = min(spacing, 0.5 * r)
    tyre = turned([[0.62 * r, -w], [0.92 * r, -w], [r, -0.6 * w], [r, 0.6 * w], [0.92 * r, w], [0.62 * r, w]], at,
                  [1, 0, 0],
                  fine, bevel=0.06 * r, around=20)
    groove = 0.35 * smooth_step((np.sin(10 * tyre.angle + 0.4) - 0.2) / 0.5)
    tyre = tyre.marked("#34363a", "#0c0d0e", groove)
    hub = turned([[0.60 * r, -1.06 * w], [0.60 * r, 1.06 * w]], at, [1, 0, 0], 0.25 * r, bevel=0.05 * r, around=20)
    spokes = smooth_step((np.cos(5 * hub.angle) - 0.1) / 0.3)
    hub = hub.marked(p.colors[2], "#d7dade", spokes)
    return [tyre.made_of(RUBBER).on(name), hub.made_of(METAL).on(name)]


def _wheels(p: SimpleNamespace, bones: Bones, spacing: float, rows: tuple, steered: str) -> list[Shell]:
    shells = []
    for side, s in SIDES:
        for row, z in rows:
            at = np.array([s * (p.width / 2 - 0.1 * p.wheel_width), p.wheel_radius, z * p.length])
            parent = "chassis"
            if row == steered:
                parent = f"steering_{side}"
                bones.joint(parent, "chassis", at)
            shells += _wheel(p, bones, f"wheel_{row}_{side}", parent, at, spacing, p.wheel_width)
    return shells


def _striped(p: SimpleNamespace, shell: Shell) -> Shell:
    """Painted, with two racing stripes for some."""
    share = smooth_step((0.09 - np.abs(np.abs(shell.points[:, 0]) - 0.12)) / 0.04)
    return shell.marked(p.colors[0], p.colors[1], share if p.stripe else 0 * share).made_of(PAINT)


def _cab(p: SimpleNamespace, center, size, taper, glass: tuple[float, float], spacing: float) -> list[Shell]:
    """A cab with windows on all sides between two shares of its height, and pillars at its corners."""
    center, size = np.asarray(center, float), np.asarray(size, float)
    shells = [box(center, size, spacing, 0.05, taper=taper).painted(p.colors[0]).made_of(PAINT)]
    low, high = (1 + share * (np.array(taper) - 1) for share in glass)
    middle = center + [0, size[1] * (sum(glass) / 2 - 0.5), 0]
    for across, along in ((1.02, 0.80), (0.84, 1.02)):
        pane = np.array([size[0] * low[0] * across, size[1] * (glass[1] - glass[0]), size[2] * low[1] * along])
        window = box(middle, pane, spacing, 0.01, taper=tuple(high / low))
        shells.append(window.painted("#9fc4d6").made_of(GLASS))
    return [shell.on("chassis") for shell in shells]


def _lamps(p: SimpleNamespace, y: float, spacing: float) -> list[Shell]:
    shells = []
    for _, s in SIDES:
        for z, color in ((0.5, "#fff3c4"), (-0.5, "#c4201f")):
            at = [s * 0.34 * p.width, y, z * p.length]
            shells.append(ball(at, [0.06, 0.045, 0.03], min(spacing, 0.05)).on("chassis").painted(color).made_of(METAL))
    return shells


def _car(p: SimpleNamespace, bones: Bones, spacing: float) -> list[Shell]:
    floor = 0.75 * p.wheel_radius
    top = floor + p.height
    body = box([0, (floor + top) / 2, 0], [p.width * 0.92, p.height, p.length], spacing, 0.07, taper=(0.94, 0.97))
    cabin = _cab(p, [0, top + p.cabin / 2 - 0.02, -0.08 * p.length], [p.width * 0.84, p.cabin, 0.56 * p.length],
                 (0.82, 0.62), (0.22, 0.80), spacing)
    shells = [_striped(p, body).on("chassis"), *cabin, *_lamps(p, floor + 0.6 * p.height, spacing),
              *_wheels(p, bones, spacing, (("front", 0.31), ("rear", -0.31)), "front")]
    for side, s in SIDES:
        hinge = np.array([s * 0.46 * p.width, (floor + top) / 2, 0.14 * p.length])
        bones.joint(f"door_{side}", "chassis", hinge)
        door = box(hinge - [0, -0.05 * p.height, 0.14 * p.length], [0.05, 0.80 * p.height, 0.27 * p.length], spacing,
                   0.015)
        handle = box(hinge + [s * 0.03, 0.25 * p.height, -0.23 * p.length], [0.025, 0.02, 0.07], spacing, 0.006)
        shells += [door.on(f"door_{side}").painted(p.colors[1] if p.stripe else p.colors[0]).made_of(PAINT),
                   handle.on(f"door_{side}").painted("#d7dade").made_of(METAL)]
    bones.joint("hood", "chassis", [0, top, 0.20 * p.length])
    hood = box([0, top + 0.012, 0.345 * p.length], [0.76 * p.width, 0.035, 0.27 * p.length], spacing, 0.012)
    return [*shells, _striped(p, hood).on("hood")]


def _truck(p: SimpleNamespace, bones: Bones, spacing: float) -> list[Shell]:
    floor, cabin = 1.05 * p.wheel_radius, 1.25 * p.cabin + 0.15
    frame = box([0, floor, 0], [0.5 * p.width, 0.10, 0.98 * p.length], spacing, 0.02).on("chassis").painted(p.colors[2])
    cab = _cab(p, [0, floor + cabin / 2, 0.34 * p.length], [0.90 * p.width, cabin, 0.28 * p.length], (0.94, 0.86),
               (0.50, 0.86), spacing)
    shells = [frame.made_of(METAL), *cab, *_lamps(p, floor + 0.12, spacing)]
    bumper = box([0, floor, 0.49 * p.length], [0.92 * p.width, 0.10, 0.05], spacing, 0.02)
    shells.append(bumper.on("chassis").painted("#d7dade").made_of(METAL))
    low, back, front = floor + 0.10, -0.49 * p.length, 0.17 * p.length
    bones.joint("bed", "chassis", [0, low, back + 0.04])
    high, wide, long = 0.9 * p.height, 0.94 * p.width, front - back
    planks = (([0, low, (back + front) / 2], [wide, 0.05, long]),
              *(([s * wide / 2, low + high / 2, (back + front) / 2], [0.045, high, long]) for _, s in SIDES),
              ([0, low + high / 2 + 0.03, front], [wide, high + 0.06, 0.045]))
    for center, size in planks:
        plank = box(center, size, spacing, 0.012)
        ribs = 0.6 * smooth_step((np.sin(2 * np.pi * plank.points[:, 2] / 0.16) - 0.55) / 0.2)
        shells.append(plank.marked(p.colors[1], p.colors[2], ribs).on("bed")
                      .made_of(PAINT))
    bones.joint("tailgate", "bed", [0, low + high, back])
    gate = box([0, low + high / 2, back], [wide, high, 0.04], spacing, 0.012)
    shells.append(gate.on("tailgate").painted(p.colors[0]).made_of(PAINT))
    rows = (("front", 0.33), ("middle", -0.20), ("rear", -0.40))
    return shells + _wheels(p, bones, spacing, rows, "front")


def _tank(p: SimpleNamespace, bones: Bones, spacing: float) -> list[Shell]:
    r, floor = p.wheel_radius, 0.9 * p.wheel_radius
    top = floor + 1.1 * p.height
    hull = box([0, (floor + top) / 2, 0], [0.92 * p.width, top - floor, 0.98 * p.length], spacing, 0.04,
               taper=(0.98, 0.80))
    camouflage = _blotches(p, hull)
    shells = [camouflage.on("chassis")]
    for side, s in SIDES:
        guard = box([s * 0.52 * p.width, 2.12 * r, 0], [1.5 * p.wheel_width, 0.05, 1.02 * p.length], spacing, 0.015)
        shells.append(guard.on("chassis").painted(p.colors[0]).made_of(PAINT))
        for k in range(5):
            at = np.array([s * 0.52 * p.width, r, (0.42 - 0.21 * k) * p.length])
            shells += _wheel(p, bones, f"wheel_{k + 1}_{side}", "chassis", at, spacing, 1.25 * p.wheel_width)
    bones.joint("turret", "chassis", [0, top, -0.04 * p.length])
    t, rise = 0.36 * p.width + 0.06, 0.8 * p.cabin
    ring = turned([[1.04 * t, 0], [t, 0.35 * rise], [0.72 * t, rise]], bones.at("turret"), [0, 1, 0], spacing,
                  bevel=0.05)
    shells.append(_blotches(p, ring).on("turret"))
    hatch = turned([[0.28 * t, 0], [0.28 * t, 0.06]], bones.at("turret") + [0.25 * t, rise, -0.2 * t], [0, 1, 0], 0.06,
                   0.012)
    shells.append(hatch.on("turret").painted(p.colors[2]).made_of(METAL))
    pivot = bones.at("turret") + [0, 0.5 * rise, 0.70 * t]
    bones.joint("barrel", "turret", pivot)
    b = 0.055
    gun = turned([[1.7 * b, -0.06], [1.7 * b, 0.12], [b, 0.14], [b, p.barrel - 0.12], [1.5 * b, p.barrel - 0.11],
                  [1.5 * b, p.barrel]], pivot, [0, 0, 1], 0.08, bevel=0.012)
    tip = smooth_step((gun.points[:, 2] - pivot[2] - p.barrel + 0.12) / 0.02)
    shells.append(gun.on("barrel").marked(p.colors[1], p.colors[2], tip).made_of(METAL))
    aerial = tube([bones.at("turret") + [-0.5 * t, 0.8 * rise, -0.4 * t],
                   bones.at("turret") + [-0.55 * t, 0.8 * rise + 0.4, -0.5 * t]],
                  [0.012, 0.008], 0.05)
    return [*shells, aerial.on("turret").painted("#1c1d1f").made_of(METAL)]


def _blotches(p: SimpleNamespace, shell: Shell) -> Shell:
    x, y, z = shell.points.T
    wave = np.sin(7 * z + 2 * np.sin(5 * x + 1)) + np.sin(6 * x + 3 * y + 1.7)
    share = smooth_step((wave - 0.5) / 0.25) if p.stripe else np.zeros(len(x))
    return shell.marked(p.colors[0], p.colors[1], share).made_of(PAINT)


def move(p: SimpleNamespace, skeleton: Skeleton) -> tuple[Animation, ...]:
    """Driving with turning wheels, and what the kind can do: doors, tipping, aiming."""
    phase = np.linspace(0, 1, 49)
    turn = 2 * np.pi * phase
    skill = {"car": _doors, "truck": _tip, "tank": _aim}[p.kind]
    return _drive(p, skeleton, phase, turn), skill(p, skeleton, phase, turn)


def _drive(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    turns = {"chassis": (0.02 * np.sin(2 * turn), 0.06 * np.sin(turn), 0.03 * np.sin(turn))}
    for name in skeleton.names:
        if name.startswith("wheel"):
            turns[name] = (2 * turn, 0.0, 0.0)                  # whole turns, so that the cycle closes
        elif name.startswith("steering"):
            turns[name] = (0.0, 0.45 * np.sin(turn), 0.0)
    bob = np.stack([0 * turn, 0.010 * np.sin(4 * turn), 0 * turn], 1)
    return animate("drive", skeleton, phase, 2.0 / p.tempo, turns, {"chassis": bob})


def _doors(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    left, right, hood = (0.5 - 0.5 * np.cos(np.clip(1.8 * turn - late, 0, 2 * np.pi)) for late in (0.0, 2.5, 5.0))
    turns = {"door_left": (0.0, -1.1 * left, 0.0), "door_right": (0.0, 1.1 * right, 0.0),
             "hood": (-0.95 * hood, 0.0, 0.0),
             "chassis": (0.0, 0.0, 0.02 * np.sin(turn))}
    return animate("doors", skeleton, phase, 3.2 / p.tempo, turns)


def _tip(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    up = smooth_step(3 * (0.5 - np.abs(phase - 0.5)) - 0.1)
    turns = {"bed": (-0.85 * up, 0.0, 0.0), "tailgate": (0.95 * smooth_step(2 * up - 0.6), 0.0, 0.0),
             "steering_left": (0.0, 0.3 * np.sin(turn), 0.0), "steering_right": (0.0, 0.3 * np.sin(turn), 0.0)}
    return animate("tip", skeleton, phase, 3.2 / p.tempo, turns)


def _aim(p: SimpleNamespace, skeleton: Skeleton, phase: np.ndarray, turn: np.ndarray) -> Animation:
    recoil = np.exp(-((phase - 0.55) / 0.025) ** 2)
    turns = {"turret": (0.0, 1.2 * np.sin(turn), 0.0), "barrel": (-0.17 + 0.17 * np.cos(2 * turn), 0.0, 0.0),
             "chassis": (-0.05 * recoil, 0.0, 0.0)}
    for k in range(5):
        for side, s in SIDES:
            turns[f"wheel_{k + 1}_{side}"] = (-s * 0.8 * np.sin(turn), 0.0, 0.0)
    back = np.stack([0 * turn, 0 * turn, -0.10 * recoil], 1)
    return animate("aim", skeleton, phase, 3.2 / p.tempo, turns, {"barrel": back})
