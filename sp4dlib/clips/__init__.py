"""Clips: rigs to paired colour and part video."""

from sp4dlib.clips.cameras import Cameras, fit_cameras, orbit_rotation
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.curate import Kept, Signature, part_motion, signature
from sp4dlib.clips.draw import ClipDraw, DrawRule, Skip, draw_clip, plan_clip, render_draw
from sp4dlib.clips.engines import NoOpenGL, render
from sp4dlib.clips.make import make_clip
from sp4dlib.clips.merging import MergeRule, Pair
from sp4dlib.clips.parts import MergeStep, TooManyParts, connected_pairs, kinematic_parts, merge_steps
from sp4dlib.clips.scene import Light, Shading

__all__ = ["Cameras", "Clip", "ClipDraw", "DrawRule", "Kept", "Light", "MergeRule", "MergeStep", "NoOpenGL", "Pair",
           "Parts", "Shading", "Signature", "Skip", "TooManyParts", "connected_pairs", "draw_clip", "fit_cameras",
           "kinematic_parts", "make_clip", "merge_steps", "orbit_rotation", "part_motion", "plan_clip", "render",
           "render_draw", "signature"]
