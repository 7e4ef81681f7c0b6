"""Random clips: which motion, moments, views and lights, and which draws are not worth a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.curate import part_motion
from sp4dlib.clips.make import make_clip
from sp4dlib.clips.parts import kinematic_parts
from sp4dlib.clips.scene import Light, Shading
from sp4dlib.rigs.rig import Rig

SHORTENED = 3           # times that a span is halved before a motion is given up as travelling too far


@dataclass(frozen=True)
class DrawRule:
    """What random clips are drawn from; ranges are (lowest, highest), uniform.

    Attributes
    ----------
    frames, views : int
        T and V; the paper renders 24 x 24 and trains on 4 x 12 of them.
    size : int
        Pixels of an image side.
    layout : {"ring", "scatter"}
        ``ring``: azimuths evenly round the object and one elevation, as in the paper. ``scatter``: all drawn.
    elevation : tuple of 2 floats
        Degrees above the horizon.
    fill : tuple of 2 floats
        Share of the image that the object reaches.
    seconds : tuple of 2 floats
        How long a clip lasts; an animation that is shorter is shown whole.
    key_elevation, key_strength, fill_strength, ambient : tuple of 2 floats
        Degrees, and shares of base colour. The key light comes from any azimuth, the fill light from the other side.
    flat : float
        Probability of flat shading.
    min_motion : float
        In object sizes, of the part that moves most (:func:`~sp4dlib.clips.curate.part_motion`): a clip with less is
        static.
    max_travel : float
        The box of all frames may be this many times as large as that of the median frame; a motion that goes
        further is shown for a shorter time, or not at all.
    max_growth : float
        A frame may be this many times larger or smaller than the bind pose; beyond, the skinning is broken.
    min_cover : float
        Share of the images that the object covers at least, on average.
    """

    frames: int = 24
    views: int = 24
    size: int = 256
    layout: str = "ring"
    elevation: tuple[float, float] = (-10.0, 40.0)
    fill: tuple[float, float] = (0.6, 0.9)
    seconds: tuple[float, float] = (0.8, 3.0)
    key_elevation: tuple[float, float] = (15.0, 75.0)
    key_strength: tuple[float, float] = (0.8, 1.1)
    fill_strength: tuple[float, float] = (0.15, 0.45)
    ambient: tuple[float, float] = (0.08, 0.18)
    flat: float = 0.1
    min_motion: float = 0.02
    max_travel: float = 2.0
    max_growth: float = 8.0
    min_cover: float = 0.01

    def __post_init__(self) -> None:
        if self.layout not in ("ring", "scatter"):
            raise ValueError(f"layout is ring or scatter; got {self.layout!r}")
        if self.frames < 2 or self.views < 1:
            raise ValueError(f"a clip in motion needs two frames and a view at least; got {self.frames}, {self.views}")
        for name in ("elevation", "fill", "seconds", "key_elevation", "key_strength", "fill_strength", "ambient"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be (lowest, highest); got {(low, high)}")


DRAWS = DrawRule()


@dataclass(frozen=True)
class ClipDraw:
    """All that was drawn for one clip: with the rig and its parts, it gives the same pictures again.

    Attributes
    ----------
    animation : int
        Index in ``rig.animations``.
    times : tuple of float
        Seconds.
    azimuths, elevations : tuple of float
        Degrees, in the rig's axes.
    size : int
    fill : float
    shading : Shading
    motion : float
        In object sizes; what the motion filter saw.
    """

    animation: int
    times: tuple[float, ...]
    azimuths: tuple[float, ...]
    elevations: tuple[float, ...]
    size: int
    fill: float
    shading: Shading
    motion: float

    def record(self) -> dict:
        """The draw as plain numbers, lists and dicts, for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> ClipDraw:
        """What :meth:`record` wrote."""
        shading = record["shading"]
        lights = tuple(Light(tuple(light["direction"]), light["strength"]) for light in shading["lights"])
        values = {name: tuple(record[name]) for name in ("times", "azimuths", "elevations")}
        return cls(**{**record, **values, "shading": Shading(**{**shading, "lights": lights})})


@dataclass(frozen=True)
class Skip:
    """Why there is no clip.

    Attributes
    ----------
    reason : {"unanimated", "one part", "static", "travels", "broken", "hidden"}
        For counting.
    detail : str
        For reading: names the rig, says what was found and what the rule asks.
    """

    reason: str
    detail: str


def draw_clip(rig: Rig, generator: np.random.Generator, rule: DrawRule = DRAWS, *, parts: Parts | None = None,
              animation: int | None = None, engine: str = "auto") -> Clip | Skip:
    """Draw a clip at random.

    Parameters
    ----------
    rig : Rig
    generator : numpy Generator
        The same state gives the same clip, byte for byte on one machine.
    rule : DrawRule
    parts : Parts, optional
        :func:`~sp4dlib.clips.parts.kinematic_parts` of the rig by default.
    animation : int, optional
        Index of the animation; drawn from those that move by default.
    engine : {"auto", "gl", "embree"}

    Returns
    -------
    Clip, or Skip
        What was drawn, or the reason why it is not worth keeping.
    """
    parts = kinematic_parts(rig) if parts is None else parts
    draw = plan_clip(rig, generator, rule, parts=parts, animation=animation)
    return draw if isinstance(draw, Skip) else render_draw(rig, draw, rule, parts=parts, engine=engine)


def render_draw(rig: Rig, draw: ClipDraw, rule: DrawRule = DRAWS, *, parts: Parts | None = None,
                engine: str = "auto") -> Clip | Skip:
    """The clip of a draw; a :class:`Skip` where too little of it is to be seen."""
    clip = make_clip(rig, draw.animation, draw.times, draw.azimuths, draw.elevations, draw.size, parts=parts,
                     fill=draw.fill, shading=draw.shading, engine=engine)
    cover = float((clip.parts >= 0).mean())
    if cover < rule.min_cover:
        return Skip("hidden", f"{clip.source} covers {cover:.2%} of its images; at least {rule.min_cover:.2%} is asked")
    seen = len(np.unique(clip.parts)) - 1
    if seen < 2:
        return Skip("hidden", f"{clip.source}: only one part can be seen")
    return clip


def plan_clip(rig: Rig, generator: np.random.Generator, rule: DrawRule = DRAWS, *, parts: Parts | None = None,
              animation: int | None = None) -> ClipDraw | Skip:
    """Everything that :func:`draw_clip` draws, without a picture; arguments as there."""
    parts = kinematic_parts(rig) if parts is None else parts
    if len(parts) < 2:
        return Skip("one part", f"{rig.name} is one kinematic part: nothing in it moves against the rest")
    moving = [i for i, a in enumerate(rig.animations) if a.duration > 0]
    if not moving:
        return Skip("unanimated", f"{rig.name} has no animation; motions can be invented (SetConfig.invented)")
    if animation is not None:
        chosen = [range(len(rig.animations))[animation]]
    else:
        chosen = generator.permutation(moving)
    # Drawn before anything is judged, so that the cameras of a seed do not depend on which motions were refused.
    cameras, fill = draw_cameras(generator, rule), float(generator.uniform(*rule.fill))
    shading = draw_shading(generator, rule)
    for index in chosen:
        found = _times(rig, int(index), generator, rule, parts)
        if not isinstance(found, Skip):
            return ClipDraw(int(index), found[0], *cameras, rule.size, fill, shading, found[1])
    return found


def _times(rig: Rig, index: int, generator, rule: DrawRule, parts: Parts) -> tuple[tuple[float, ...], float] | Skip:
    """Moments of a span of an animation that moves enough and not too far, and how much it moves."""
    animation, size = rig.animations[index], rig.size
    source = f"{rig.name}/{animation.name}"
    span = min(animation.duration, float(generator.uniform(*rule.seconds)))
    start = float(generator.uniform(0, animation.duration - span))
    drawn = np.unique(rig.faces)
    for _ in range(SHORTENED + 1):
        times = start + span * np.arange(rule.frames) / rule.frames
        vertices = rig.pose(animation, times)
        if not np.isfinite(vertices).all():
            return Skip("broken", f"{source} moves vertices to NaN or infinity")
        low, high = vertices[:, drawn].min(1), vertices[:, drawn].max(1)
        own = (high - low).max(1)
        if own.max() > rule.max_growth * size or own.min() < size / rule.max_growth:
            return Skip("broken", f"{source} changes its size {own.min() / size:.2g} to {own.max() / size:.2g} times")
        travel = float((high.max(0) - low.min(0)).max() / np.median(own))
        if travel <= rule.max_travel:
            break
        span /= 2
    else:
        return Skip("travels", f"{source} travels {travel:.1f} times its size in {2 * span:.2g} s")
    motion = part_motion(vertices, rig.faces, parts, size)
    if motion < rule.min_motion:
        return Skip("static", f"{source} moves by {motion:.4f} of its size; at least {rule.min_motion} is asked")
    return tuple(times.tolist()), motion


def draw_cameras(generator: np.random.Generator, rule: DrawRule) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Azimuths and elevations of a clip's views, degrees."""
    if rule.layout == "ring":
        azimuths = (generator.uniform(0, 360) + np.arange(rule.views) * 360 / rule.views) % 360
        elevations = np.full(rule.views, generator.uniform(*rule.elevation))
    else:
        azimuths = generator.uniform(0, 360, rule.views)
        elevations = generator.uniform(*rule.elevation, rule.views)
    return tuple(azimuths.tolist()), tuple(elevations.tolist())


def draw_shading(generator: np.random.Generator, rule: DrawRule) -> Shading:
    """Lights of a clip."""
    azimuth, elevation = generator.uniform(0, 360), generator.uniform(*rule.key_elevation)
    key = Light(_direction(azimuth, elevation), float(generator.uniform(*rule.key_strength)))
    beyond = azimuth + 180 + generator.uniform(-60, 60)
    fill = Light(_direction(beyond, generator.uniform(-15, 30)), float(generator.uniform(*rule.fill_strength)))
    return Shading((key, fill), float(generator.uniform(*rule.ambient)), bool(generator.uniform() < rule.flat))


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector towards a light, degrees as for cameras."""
    a, e = np.radians([azimuth, elevation])
    return float(np.cos(e) * np.sin(a)), float(np.sin(e)), float(np.cos(e) * np.cos(a))
