"""A rig to start with, wherever the reader is."""

from __future__ import annotations

import logging

from sp4dlib.rigs import assets
from sp4dlib.rigs.procedural import quadruped
from sp4dlib.rigs.rig import Rig

log = logging.getLogger(__name__)


def example(name: str = "Wolf", seed: int = 0) -> Rig:
    """A rig of the register by name; a procedural animal where the register's files cannot be had.

    Parameters
    ----------
    name : str
        As :func:`sp4dlib.rigs.assets.load` takes it.
    seed : int
        Of the animal that stands in.

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
        log.warning("%s. A procedural animal stands in for %s.", error, name)
        return quadruped(seed).replace(name=f"procedural animal {seed}")
