"""Clips: rigs to paired colour and part video."""

from sp4dlib.clips.build import build_set
from sp4dlib.clips.cameras import Cameras, fit_cameras, orbit_rotation
from sp4dlib.clips.check import check_set
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.config import SetConfig, parse_sources, read_config
from sp4dlib.clips.curate import Kept, Signature, part_motion, signature
from sp4dlib.clips.draw import ClipDraw, DrawRule, Skip, draw_clip, plan_clip, render_draw
from sp4dlib.clips.engines import NoOpenGL, render, render_surface
from sp4dlib.clips.make import make_clip
from sp4dlib.clips.merging import MergeRule, Pair
from sp4dlib.clips.parts import MergeStep, TooManyParts, connected_pairs, kinematic_parts, merge_steps
from sp4dlib.clips.scene import Light, Shading
from sp4dlib.clips.sources import Entry, Source, list_entries

__all__ = ["Cameras", "Clip", "ClipDraw", "DrawRule", "Entry", "Kept", "KinematicParts", "Light", "LiveKinematicParts",
           "MergeRule", "MergeStep", "NoOpenGL", "Pair", "Parts", "SetConfig", "Shading", "Signature", "Skip",
           "Source", "TooManyParts", "build_set", "check_set", "connected_pairs", "draw_clip", "fit_cameras",
           "kinematic_parts", "list_entries", "make_clip", "merge_steps", "orbit_rotation", "parse_sources",
           "part_motion", "plan_clip", "read_config", "render", "render_draw", "render_surface", "signature"]
_LAZY = ("KinematicParts", "LiveKinematicParts")        # they need torch, which nothing else here does


def __getattr__(name: str):
    if name in _LAZY:
        from sp4dlib.clips import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
