"""Rigs: what moves, and how."""

from sp4dlib.rigs.procedural import Proportions, quadruped, sample_proportions
from sp4dlib.rigs.rig import Animation, Appearance, Material, Rig, Skeleton, Track

__all__ = ["Animation", "Appearance", "Material", "Proportions", "Rig", "Skeleton", "Track", "quadruped",
           "sample_proportions"]
