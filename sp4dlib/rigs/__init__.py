"""Rigs: what moves, and how."""

from sp4dlib.rigs.rig import Animation, Appearance, Material, Rig, Skeleton, Track

__all__ = ["Animation", "Appearance", "Material", "Rig", "Skeleton", "Track"]
