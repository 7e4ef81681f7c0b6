"""Lifting: part maps and a mesh to vertex labels, a skeleton and skinning weights."""

from sp4dlib.lifting.auto import auto_rig
from sp4dlib.lifting.dual import dual_quaternion_pose, dual_quaternion_skin
from sp4dlib.lifting.harmonic import harmonic_weights, literal_harmonic_weights
from sp4dlib.lifting.heat import bone_weights
from sp4dlib.lifting.hull import mesh_from_image, paint, visual_hull
from sp4dlib.lifting.motion import part_drivers, retarget, wiggle
from sp4dlib.lifting.part_files import load_parts
from sp4dlib.lifting.refine import Refined, refine_weights
from sp4dlib.lifting.skeleton import extract_skeleton
from sp4dlib.lifting.votes import label_report, vertex_labels

__all__ = ["Refined", "auto_rig", "bone_weights", "dual_quaternion_pose", "dual_quaternion_skin", "extract_skeleton",
           "harmonic_weights", "label_report", "literal_harmonic_weights", "load_parts", "mesh_from_image", "paint",
           "part_drivers", "refine_weights", "retarget", "vertex_labels", "visual_hull", "wiggle"]
