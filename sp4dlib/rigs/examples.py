"""A rig to start with, wherever the reader is."""

from __future__ import annotations

import logging

from sp4dlib.rigs import assets
from sp4dlib.rigs.families import creature
from sp4dlib.rigs.rig import Rig

log = logging.getLogger(__name__)


def example(name: str = "Wolf", seed: int = 0, family: str = "quadruped", **options) -> Rig:
    """A rig of the register by name; a procedural creature where the register's files cannot be had.

    Parameters
    ----------
    name : str
        As :func:`sp4dlib.rigs.assets.load` takes it.
    seed : int
        Of the creature that stands in.
    family : str
        Of the creature that stands in, as :func:`sp4dlib.rigs.creature` takes it.
    **options
        Of that creature.

    Returns
    -------
    Rig
        Which of the two it is stands in its name; a warning says why the files are missing.

    Raises
    ------
    AssetError
        If the register lists no such rig.
    """
    assets.find(name)
    try:
        return assets.load(name)
    except assets.AssetError as error:
        kind = "animal" if family == "quadruped" else family.replace("_", " ")
        log.warning("%s. A procedural %s stands in for %s.", error, kind, name)
        return creature(family, seed, **options).replace(name=f"procedural {kind} {seed}")
