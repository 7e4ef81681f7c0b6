"""Rigs: what moves, and how."""

from sp4dlib.rigs.examples import example
from sp4dlib.rigs.families import FAMILIES, creature, family_options
from sp4dlib.rigs.gltf import load, save
from sp4dlib.rigs.humans import human
from sp4dlib.rigs.meshes import load_mesh
from sp4dlib.rigs.procedural import quadruped
from sp4dlib.rigs.proportions import Proportions, sample_proportions
from sp4dlib.rigs.rig import Animation, Appearance, Material, Mesh, Rig, RigError, Skeleton, Track

__all__ = ["FAMILIES", "Animation", "Appearance", "Material", "Mesh", "Proportions", "Rig", "RigError", "Skeleton",
           "Track", "creature", "example", "family_options", "human", "load", "load_mesh", "quadruped",
           "sample_proportions", "save"]
