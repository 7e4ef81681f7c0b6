"""Families of rigs made from numbers alone: any seed of any family is a new rig with shape, colours and motion.

They need no file and no network, carry no licence but this library's, and their skinning weights are known exactly.
Build one with :func:`creature`; :data:`FAMILIES` lists the families, and :func:`family_options` what each leaves open.
A module of this package is one family: ``RANGES`` and ``CHOICES`` say what is drawn, ``grow`` makes joints and shells,
``move`` makes the animations.
"""

from __future__ import annotations

import colorsys
from dataclasses import fields
from types import SimpleNamespace

import numpy as np

from sp4dlib.rigs.families import arm, biped, bird, fish, hand, insect, snake, wheeled
from sp4dlib.rigs.procedural import quadruped
from sp4dlib.rigs.proportions import RANGES, Proportions
from sp4dlib.rigs.rig import Rig
from sp4dlib.rigs.shells import assemble

_MODULES = {"biped": biped, "bird": bird, "fish": fish, "snake": snake, "insect": insect, "hand": hand,
            "robot_arm": arm,
            "wheeled": wheeled}
FAMILIES: tuple[str, ...] = ("quadruped", *_MODULES)
FEWEST = 1000


def creature(family: str, seed: np.random.Generator | int = 0, *, vertices: int | None = None, **options) -> Rig:
    """One rig of a family.

    Parameters
    ----------
    family : str
        One of :data:`FAMILIES`.
    seed : int or numpy Generator
        Draws proportions, colours, pattern and gait. The same seed gives the same bytes.
    vertices : int, optional
        Wanted number, by default the family's usual one (2,500 to 6,000). Met to about a tenth where the family's small
        shells, which do not get coarser, leave room.
    **options
        Any of :func:`family_options`, instead of the drawn one.

    Returns
    -------
    Rig
        Facing +z, y up, standing at y = 0 or above, its left towards +x; at least two animations, all of which loop.
        It is named ``<family>_<seed>`` where the seed is a number.

    Raises
    ------
    ValueError
        For a family, an option or a value that does not exist; the message lists those that do.

    Examples
    --------
    >>> rig = creature("snake", 3, length=3.0)
    >>> [animation.name for animation in rig.animations]
    ['slither', 'raise']
    """
    known = family_options(family)
    vertices = _usual(family) if vertices is None else vertices
    if vertices < FEWEST:
        raise ValueError(f"{vertices} vertices are too few for a {family}; ask for {FEWEST} or more")
    if family == "quadruped":
        return quadruped(seed, vertices=vertices, **options)
    unknown = set(options) - set(known)
    if unknown:
        raise ValueError(f"a {family} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    name = family if isinstance(seed, np.random.Generator) else f"{family}_{seed}"
    generator = np.random.default_rng(seed)
    module = _MODULES[family]
    drawn = {key: float(generator.uniform(*bounds)) for key, bounds in module.RANGES.items()}
    drawn |= {key: values[generator.integers(len(values))] for key, values in module.CHOICES.items()}
    drawn["colors"] = _jittered(drawn["colors"], generator)
    p = SimpleNamespace(**drawn | {key: _checked(family, key, value, known[key]) for key, value in options.items()})
    paint = int(generator.integers(2**62))
    bones, shells = _fitted(module, p, vertices, paint)
    return assemble(name, bones, shells, module.move(p, bones.skeleton()))


def family_options(family: str) -> dict[str, tuple]:
    """What :func:`creature` draws for a family.

    Returns
    -------
    dict of str to tuple
        Of lengths and other numbers the two bounds between which they are drawn; of choices the choices.

    Raises
    ------
    ValueError
        For a family that does not exist.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose from {', '.join(FAMILIES)}")
    if family == "quadruped":
        return {item.name: RANGES.get(item.name, ()) for item in fields(Proportions)}
    return {**_MODULES[family].RANGES, **_MODULES[family].CHOICES}


def _usual(family: str) -> int:
    return 2500 if family == "quadruped" else _MODULES[family].VERTICES


def _checked(family: str, key: str, value, known: tuple):
    if isinstance(known[0], float):
        if not isinstance(value, (int, float, np.number)) or not 0 < value < np.inf:
            raise ValueError(f"{key} of a {family} must be a positive number, drawn from {known}; got {value!r}")
    elif value not in known:
        raise ValueError(f"{key} of a {family} must be one of {known}; got {value!r}")
    return value


def _jittered(colors: tuple[str, ...], generator: np.random.Generator) -> tuple[str, ...]:
    """The same colours turned a little in hue, and lighter or darker, so that no two of a palette are alike."""
    turn, light = generator.uniform(-0.05, 0.05), generator.uniform(0.85, 1.12)
    out = []
    for color in colors:
        h, s, v = colorsys.rgb_to_hsv(*(int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)))
        rgb = colorsys.hsv_to_rgb((h + turn) % 1, s, min(v * light, 1))
        out.append("#" + "".join(f"{round(255 * x):02x}" for x in rgb))
    return tuple(out)


def _fitted(module, p: SimpleNamespace, vertices: int, paint: int):
    """Joints and shells with about ``vertices`` vertices: their number goes with 1 / spacing^2, but for a floor."""
    spacing = module.SPACING
    for _ in range(4):
        bones, shells = module.grow(p, spacing, np.random.default_rng(paint))
        count = sum(len(shell.points) for shell in shells)
        if abs(count / vertices - 1) < 0.08:
            break
        spacing *= np.sqrt(count / vertices)
    return bones, shells
