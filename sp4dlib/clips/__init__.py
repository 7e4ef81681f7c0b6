"""Clips: rigs to paired colour and part video."""

from sp4dlib.clips.cameras import Cameras, fit_cameras, orbit_rotation
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.make import make_clip
from sp4dlib.clips.merging import MergeRule, Pair
from sp4dlib.clips.parts import MergeStep, TooManyParts, connected_pairs, kinematic_parts, merge_steps
from sp4dlib.clips.engines import NoOpenGL, render
from sp4dlib.clips.scene import Light, Shading

__all__ = ["Cameras", "Clip", "Light", "MergeRule", "MergeStep", "NoOpenGL", "Pair", "Parts", "Shading", "TooManyParts",
           "connected_pairs", "fit_cameras", "kinematic_parts", "make_clip", "merge_steps", "orbit_rotation", "render"]
