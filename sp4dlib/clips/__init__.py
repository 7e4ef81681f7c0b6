"""Clips: rigs to paired colour and part video."""

from sp4dlib.clips.cameras import Cameras, fit_cameras, orbit_rotation
from sp4dlib.clips.clip import Clip, Parts

__all__ = ["Cameras", "Clip", "Parts", "fit_cameras", "orbit_rotation"]
