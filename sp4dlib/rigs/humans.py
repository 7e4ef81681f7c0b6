"""People of any age and build, from the body model Anny (https://github.com/naver/anny), with motions of our own.

Anny (Brégier et al., "Human Mesh Modeling for Anny Body", ECCV 2026, arXiv 2511.03589) gives a body's surface, its
skeleton and its skinning weights as functions of age, gender, build and height; it has no motions and no clothes, so
this module adds both. The package is optional: ``pip install 'sp4dlib[humans]'``.

Licence, as of anny 0.6.2: its code is Apache 2.0, and the body data that ships inside its wheel comes from MakeHuman
(MPFB2) under CC0 1.0. Only its ``smplx`` and ``smpl`` topologies download data, for non-commercial use; they are never
asked for here, and nothing in this module needs a network. The first body takes a few minutes, in which anny writes
0.8 GB of prepared data to ``~/.cache/anny`` (or ``ANNY_CACHE_DIR``); after that a person takes a tenth of a second.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.bones import Bones, animate, turn_about, worlds
from sp4dlib.rigs.gait import leg_angles, step
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Appearance, Material, Rig, Skeleton

log = logging.getLogger(__name__)

SHAPE = {"gender": (0.0, 1.0), "age": (0.30, 1.0), "muscle": (0.2, 0.8), "weight": (0.15, 0.9), "height": (0.2, 0.8),
         "proportions": (0.2, 0.9)}
CLOTHES = {"sleeves": ("long", "short"), "legs": ("long", "short"), "hair": ("short", "long", "bald")}
SKINS = ("#f2cdb2", "#e0ac86", "#c68f63", "#a8714a", "#8a5a3c", "#5a3a28")
HAIRS = ("#17120f", "#3a2417", "#6b4226", "#b5602f", "#d9b36a", "#9a9a9a")
SHIRTS = ("#c0392b", "#2f6fb3", "#3f8f7b", "#e0b52e", "#f2efe6", "#7a4a86", "#e87722", "#34383f")
TROUSERS = ("#2f4a6b", "#4a4f57", "#7a2f2a", "#d8c8a8", "#23272d", "#5f6f3a")
INFLUENCES = 4      # of glTF's first joint set
SIDES = (("L", 1), ("R", -1))


def human(seed: np.random.Generator | int = 0, **options) -> Rig:
    """A person in simple clothes, facing +z, y up, in metres, standing at y = 0 with arms half lowered.

    Parameters
    ----------
    seed : int or numpy Generator
        Draws shape, colours and motion. The same seed gives the same bytes.
    **options
        ``gender`` (0 male to 1 female), ``age`` (0 baby, 1/3 child, 2/3 young adult, 1 old), ``muscle``, ``weight``,
        ``height``, ``proportions``: numbers in [0, 1] instead of the drawn ones. ``sleeves``, ``legs`` ("long",
        "short"), ``hair`` ("short", "long", "bald"), and ``skin``, ``hair_color``, ``shirt``, ``trousers`` as
        ``#rrggbb``.

    Returns
    -------
    Rig
        13,718 vertices, 104 joints with bind matrices that only translate, at most four influences; animations
        ``walk``, ``wave``, ``squat`` and ``sway`` (smooth random turns of every joint within what joints allow), all
        of which loop.

    Raises
    ------
    ImportError
        If the package anny is not installed.
    ValueError
        For an option or a value that does not exist.
    """
    name = "human" if isinstance(seed, np.random.Generator) else f"human_{seed}"
    p, generator = _drawn(np.random.default_rng(seed), options)
    vertices, faces, heads, parents, names, weights = _body({key: getattr(p, key) for key in SHAPE})
    bones = Bones()
    for joint, parent, head in zip(names, parents, heads):
        bones.joint(joint, None if parent < 0 else names[parent], head)
    skeleton = bones.skeleton()
    cloth = Material("person", (1.0, 1.0, 1.0, 1.0), double_sided=True)
    look = Appearance((cloth,), np.zeros(len(faces), np.int64),
                      vertex_colors=_colors(p, vertices, heads, weights, names))
    phase = np.linspace(0, 1, 33)
    poser = _Poser(skeleton, vertices, phase)
    motions = (_walk(p, poser), _wave(p, poser), _squat(p, poser), _sway(p, poser, generator))
    return Rig(vertices, faces, weights, skeleton, motions, look, name)


def _drawn(generator: np.random.Generator, options: dict) -> tuple[SimpleNamespace, np.random.Generator]:
    drawn = {key: float(generator.uniform(*bounds)) for key, bounds in SHAPE.items()}
    drawn |= {key: values[generator.integers(len(values))] for key, values in CLOTHES.items()}
    palettes = {"skin": SKINS, "hair_color": HAIRS, "shirt": SHIRTS, "trousers": TROUSERS}
    drawn |= {key: values[generator.integers(len(values))] for key, values in palettes.items()}
    drawn |= {"tempo": float(generator.uniform(0.8, 1.25)), "stride": float(generator.uniform(0.42, 0.62))}
    unknown = set(options) - set(drawn) | set(options) & {"tempo", "stride"}
    if unknown:
        raise ValueError(f"a human has no {', '.join(sorted(unknown))}; choose from "
                         f"{', '.join([*SHAPE, *CLOTHES, *palettes])}")
    for key, value in options.items():
        if key in SHAPE and not (isinstance(value, (int, float, np.number)) and 0 <= value <= 1):
            raise ValueError(f"{key} of a human must be a number in [0, 1]; got {value!r}")
        if key in CLOTHES and value not in CLOTHES[key]:
            raise ValueError(f"{key} of a human must be one of {', '.join(CLOTHES[key])}; got {value!r}")
    return SimpleNamespace(**drawn | options), generator


def prepared() -> bool:
    """Has anny written its body data, so that a body takes no minutes? False without anny, too."""
    try:
        from anny.paths import get_anny_cache_path
    except ImportError:
        return False
    return any(get_anny_cache_path().glob("*/*.safetensors"))


@lru_cache(maxsize=1)
def _model():
    try:
        import warp

        warp.config.log_level = warp.LOG_WARNING        # or it prints a banner that nobody asked for
        import anny
    except ImportError as error:
        raise ImportError("humans need the body model anny: pip install 'sp4dlib[humans]'") from error
    from anny.paths import get_anny_cache_path

    if not prepared():
        log.warning("anny prepares its body data in %s, once; this takes a few minutes", get_anny_cache_path())
    model = anny.Anny()
    model.requires_grad_(False)
    indices, shares = (getattr(model, f"vertex_bone_{what}").numpy() for what in ("indices", "weights"))
    weights = np.zeros((len(indices), len(model.bone_labels)))
    np.add.at(weights, (np.arange(len(indices))[:, None], indices), shares)
    least = np.sort(weights, 1)[:, -INFLUENCES][:, None]
    weights[(weights < least) | (weights < 1e-3)] = 0
    crowded = np.flatnonzero((weights > 0).sum(1) > INFLUENCES)                    # equal shares: the first ones stay
    for vertex in crowded:
        weights[vertex, np.flatnonzero(weights[vertex])[INFLUENCES:]] = 0
    return model, weights / weights.sum(1, keepdims=True)


def _body(shape: dict[str, float]):
    """Surface, joints and weights of one shape, y up, the lowest point at 0."""
    model, weights = _model()
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**shape))
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])                       # anny: z up, facing -y
    vertices = rest["rest_vertices"][0].numpy().astype(np.float64) @ upright.T
    heads = rest["rest_bone_heads"][0].numpy().astype(np.float64) @ upright.T
    ground = np.array([0, vertices[:, 1].min(), 0])
    return (vertices - ground, model.faces.numpy(), heads - ground, list(model.bone_parents), list(model.bone_labels),
            weights)


def _colors(p: SimpleNamespace, vertices: np.ndarray, heads: np.ndarray, weights: np.ndarray, names: list[str]
            ) -> np.ndarray:
    """Linear RGBA (N, 4): what a vertex wears follows from the joints that move it."""
    def of(*starts: str) -> np.ndarray:
        return weights[:, [name.startswith(starts) for name in names]].sum(1)

    color = np.broadcast_to(linear(p.skin), (len(vertices), 3))
    arms = ("upperarm",) + (("lowerarm",) if p.sleeves == "long" else ())
    hips = heads[names.index("upperleg01.L"), 1]
    belt = smooth_step((vertices[:, 1] - 1.07 * hips) / (0.015 * hips))
    trunk = of("root", "pelvis", "spine", "clavicle", "shoulder", "breast")
    shirt = trunk * belt + of(*arms)
    color = mix(color, p.shirt, smooth_step((shirt - 0.45) / 0.1))
    legs = (trunk + of("upperleg")) * (1 - belt) + (of("lowerleg") if p.legs == "long" else 0)
    color = mix(color, p.trousers, smooth_step((legs - 0.45) / 0.1))
    color = mix(color, "#2a211c", smooth_step((of("foot", "toe") - 0.45) / 0.1))
    head, eyes = of("head", "neck03"), of("eye")
    skull = vertices[head > 0.9]
    low, high = skull.min(0), skull.max(0)
    place = (vertices - low) / (high - low)                                       # 1 at the crown and at the nose
    if p.hair != "bald":
        fringe = 0.86 - 0.75 * smooth_step((0.72 - place[:, 2]) / 0.5) * (1.0 if p.hair == "long" else 0.62)
        above = smooth_step((place[:, 1] - fringe) / 0.03) * smooth_step((head - 0.5) / 0.2)
        color = mix(color, p.hair_color, above)
    color = mix(color, "#f4f1e8", smooth_step((eyes - 0.4) / 0.2))
    for side, _ in SIDES:
        ball = weights[:, names.index(f"eye.{side}")] > 0.5
        if ball.any():
            front = vertices[:, 2] - np.quantile(vertices[ball, 2], 0.93)
            color = mix(color, "#1b1512", ball * smooth_step(front / 0.002 + 0.5))
    return np.concatenate([color, np.ones((len(color), 1))], 1)


class _Poser:
    """Turns in words of the body: lowered arms, bent elbows, feet on the ground."""

    def __init__(self, skeleton: Skeleton, vertices: np.ndarray, phase: np.ndarray) -> None:
        self.skeleton, self.phase, self.turn = skeleton, phase, 2 * np.pi * phase
        self.at = dict(zip(skeleton.names, skeleton.joints))
        self.leg = self.at["upperleg01.L"][1]
        self.toe_z = vertices[vertices[:, 1] < 0.04 * vertices[:, 1].max(), 2].max()
        self.zero = np.zeros(len(phase))

    def arms(self, swing: dict[str, np.ndarray], raised: dict[str, np.ndarray], elbow: dict[str, np.ndarray]) -> dict:
        """Upper arms at ``raised`` radians from hanging, swung forward, elbows bent; arrays (S,) by side."""
        turns = {}
        for side, s in SIDES:
            way = self.at[f"lowerarm01.{side}"] - self.at[f"upperarm01.{side}"]
            hanging = np.arctan2(abs(way[0]), -way[1])                             # how far it stands off in bind pose
            turns[f"upperarm01.{side}"] = (-swing[side], self.zero, s * (raised[side] - hanging))
            fore = self.at[f"wrist.{side}"] - self.at[f"lowerarm01.{side}"]
            bent = np.arccos(way @ fore / np.linalg.norm(way) / np.linalg.norm(fore))
            turns[f"lowerarm01.{side}"] = turn_about(np.cross(fore, [0, 0, 1.0]), self.zero + elbow[side] - bent)
        return turns

    def legs(self, turns: dict, bob: np.ndarray, path_of) -> dict:
        """``turns`` with those of both legs; ``path_of(toe, late)`` gives the toe's way (S, 3) and the foot's pitch."""
        body, out = worlds(self.skeleton, self.phase, turns, {"root": bob}), dict(turns)
        for (side, s), late in zip(SIDES, (0.0, 0.5)):
            chain = tuple(f"{part}.{side}" for part in ("upperleg01", "lowerleg01", "foot"))
            toe = np.array([self.at[chain[2]][0], 0.0, self.toe_z])
            path, pitch = path_of(toe, late)
            swings = leg_angles(self.skeleton, body, chain, toe, path, pitch)
            inwards = -0.06 * s                                                    # bind pose straddles
            for joint, lean in zip(chain, (inwards, 0.0, -inwards)):
                out[joint] = (swings[joint], self.zero, lean)
        return out

    def planted(self, turns: dict, bob: np.ndarray) -> dict:
        """``turns`` with legs that keep both feet where they stand."""
        return self.legs(turns, bob, lambda toe, _: (np.repeat(toe[None], len(self.phase), 0), self.zero))

    def spine(self, x=0.0, y=0.0, z=0.0) -> dict:
        """A bend of the back, shared by its five joints; angles (S,) or numbers."""
        share = {"spine05": 0.1, "spine04": 0.25, "spine03": 0.25, "spine02": 0.2, "spine01": 0.2}
        return {name: (self.zero + part * x, self.zero + part * y, self.zero + part * z) for name,
                part in share.items()}

    def bob(self, x=0.0, y=0.0, z=0.0) -> np.ndarray:
        """Offset of the hips (S, 3), in leg lengths."""
        return np.stack([self.zero + x, self.zero + y, self.zero + z], 1) * self.leg

    def both(self, function) -> dict[str, np.ndarray]:
        return {side: self.zero + function(s) for side, s in SIDES}

    def play(self, name: str, duration: float, turns: dict, bob: np.ndarray) -> Animation:
        return animate(name, self.skeleton, self.phase, duration, turns, {"root": bob})


def _walk(p: SimpleNamespace, body: _Poser) -> Animation:
    turn, leg = body.turn, body.leg
    swing = np.cos(turn)
    turns = body.spine(0.05, -0.22 * swing, -0.04 * np.sin(turn))
    turns |= {"root": (0.02, 0.10 * swing, 0.04 * np.sin(turn)), "head": (-0.04, 0.10 * swing, 0.0)}
    turns |= body.arms(body.both(lambda s: -s * 0.45 * swing), body.both(lambda s: 0.14),
                       body.both(lambda s: 0.35 - s * 0.20 * swing))
    bob = body.bob(0.012 * np.sin(turn), -0.035 + 0.012 * np.cos(2 * turn))
    turns = body.legs(turns, bob, lambda toe, late: step((body.phase + late) % 1, toe, p.stride * leg, 0.12 * leg))
    return body.play("walk", 1.15 / p.tempo * (leg / 0.85) ** 0.5, turns, bob)


def _wave(p: SimpleNamespace, body: _Poser) -> Animation:
    turn = body.turn
    up, shake = smooth_step(3 * (0.5 - np.abs(body.phase - 0.5))), np.sin(5 * turn)
    turns = body.spine(0.0, 0.10 * np.sin(turn), 0.12 * up)
    turns |= {"head": (0.05 * np.sin(2 * turn), 0.20 * np.sin(turn), -0.15 * up),
              "root": (0.0, 0.05 * np.sin(turn), 0.0),
              "wrist.L": (0.0, 0.0, 0.25 * shake * up), "clavicle.L": (0.0, 0.0, 0.25 * up)}
    arms = body.arms({"L": 0.25 * up, "R": 0.08 * np.sin(turn)}, {"L": 0.14 + 1.65 * up, "R": 0.14 + body.zero},
                     {"L": 0.2 * (1 - up), "R": 0.25 + 0.08 * np.sin(turn)})
    arms["lowerarm01.L"] = turn_about([0, 0, 1], (0.85 + 0.40 * shake) * up)        # the raised forearm bends sideways
    turns = body.planted(turns | arms, body.bob(0.02 * np.sin(turn), -0.02))
    return body.play("wave", 2.6 / p.tempo, turns, body.bob(0.02 * np.sin(turn), -0.02))


def _squat(p: SimpleNamespace, body: _Poser) -> Animation:
    down = 0.5 - 0.5 * np.cos(body.turn)
    turns = body.spine(0.55 * down) | {"root": (0.25 * down, 0.0, 0.0), "head": (-0.45 * down, 0.0, 0.0)}
    turns |= body.arms(body.both(lambda s: 1.35 * down), body.both(lambda s: 0.14),
                       body.both(lambda s: 0.25 + 0.2 * down))
    bob = body.bob(0.0, -0.02 - 0.40 * down, -0.16 * down)
    return body.play("squat", 2.2 / p.tempo, body.planted(turns, bob), bob)


def _sway(p: SimpleNamespace, body: _Poser, generator: np.random.Generator) -> Animation:
    """Smooth random turns: three harmonics a joint, within limits; the feet stay where they are."""
    def drift(limit: float) -> np.ndarray:
        size = generator.normal(size=3) / [1, 1.5, 2.5]
        late = generator.uniform(0, 2 * np.pi, 3)
        wave = (size[:, None] * np.sin(np.arange(1, 4)[:, None] * body.turn + late[:, None])).sum(0)
        return limit * np.tanh(wave)

    turns = body.spine(drift(0.30), drift(0.45), drift(0.25))
    turns |= {"root": (drift(0.08), drift(0.22), drift(0.08)), "neck02": (drift(0.12), drift(0.20), drift(0.12)),
              "head": (drift(0.25), drift(0.45), drift(0.20))}
    swing, raised, elbow = ({side: drift(limit) for side, _ in SIDES} for limit in (0.9, 0.85, 0.7))
    turns |= body.arms(swing, {side: 0.95 + raised[side] for side in raised},
                       {side: 0.85 + elbow[side] for side in elbow})
    for side, s in SIDES:
        turns[f"clavicle.{side}"] = (0.0, drift(0.10), s * np.abs(drift(0.15)))
        turns[f"wrist.{side}"] = (drift(0.35), drift(0.2), drift(0.35))
        grip = 0.45 + drift(0.40)
        for finger in range(2, 6):
            for part in (1, 2, 3):
                joint = f"finger{finger}-{part}.{side}"
                way = body.at[f"finger{finger}-3.{side}"] - body.at[f"finger{finger}-1.{side}"]
                palm = np.cross(way, body.at[f"finger2-1.{side}"] - body.at[f"finger5-1.{side}"]) * s
                turns[joint] = turn_about(np.cross(way, palm), grip)
    bob = body.bob(drift(0.06), -0.10 + drift(0.07), drift(0.03))
    return body.play("sway", 4.0 / p.tempo, body.planted(turns, bob), bob)
