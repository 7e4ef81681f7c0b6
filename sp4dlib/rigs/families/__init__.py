"""Families of rigs made from numbers alone: any seed of any family is a new rig with shape, colours and motion.

They need no file and no network, carry no licence but this library's, and their skinning weights are known exactly.
Build one with :func:`creature`; :data:`FAMILIES` lists the families.
"""

from __future__ import annotations

import numpy as np

from sp4dlib.rigs.procedural import quadruped
from sp4dlib.rigs.rig import Rig

_BUILDERS = {"quadruped": quadruped}
FAMILIES: tuple[str, ...] = tuple(_BUILDERS)


def creature(family: str, seed: np.random.Generator | int = 0, **options) -> Rig:
    """One rig of a family.

    Parameters
    ----------
    family : str
        One of :data:`FAMILIES`.
    seed : int or numpy Generator
        Draws proportions, colours, pattern and gait. The same seed gives the same bytes.
    **options
        ``vertices`` (wanted number, met to about a tenth) and any proportion of the family, instead of the drawn one.

    Returns
    -------
    Rig
        Facing +z, y up, standing at y = 0, its left towards +x; at least two animations, all of which loop. It is
        named ``<family>_<seed>`` where the seed is a number.

    Raises
    ------
    ValueError
        For a family or an option that does not exist; the message lists those that do.
    """
    if family not in _BUILDERS:
        raise ValueError(f"unknown family {family!r}; choose from {', '.join(FAMILIES)}")
    return _BUILDERS[family](seed, **options)
