"""Clips: rigs to paired colour and part video."""

from sp4dlib.clips.cameras import Cameras, fit_cameras, orbit_rotation
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.make import make_clip
from sp4dlib.clips.parts import kinematic_parts
from sp4dlib.clips.engines import NoOpenGL, render
from sp4dlib.clips.scene import Light, Shading

__all__ = ["Cameras", "Clip", "Light", "NoOpenGL", "Parts", "Shading", "fit_cameras", "kinematic_parts", "make_clip",
           "orbit_rotation", "render"]
