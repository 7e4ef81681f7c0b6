"""A mesh and its part maps in, an animated rig out."""

from __future__ import annotations

import numpy as np

from sp4dlib.clips.cameras import Cameras
from sp4dlib.lifting.harmonic import WIDTH, harmonic_weights
from sp4dlib.lifting.motion import wiggle
from sp4dlib.lifting.skeleton import extract_skeleton
from sp4dlib.lifting.votes import vertex_labels
from sp4dlib.rigs.rig import Appearance, Rig


def auto_rig(mesh, parts=None, cameras: Cameras | None = None, *, labels=None, vertices=None, names=None,
             appearance: Appearance | None = None, width=WIDTH, max_influences: int | None = 4,
             name: str | None = None) -> Rig:
    """Rig a mesh: part maps to labels, labels to a skeleton and to skinning weights.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
        A :class:`Rig` lends its appearance and name; its skeleton and weights are not looked at.
    parts : array_like, shape (T, V, H, W) of int or (T, V, H, W, 3) of uint8, optional
        Part ids, -1 = background, or part colours on white; needs ``cameras``.
    cameras : Cameras, optional
    labels : array_like of int, shape (N,), optional
        Part of each vertex, instead of part maps.
    vertices : array_like, shape (T, N, 3), optional
        Vertices of each frame of ``parts``, or known poses beside ``labels``; default the mesh's own. Two or more also
        place the joints. The rig's bind pose is the mesh's own.
    names : sequence of str, optional
        Name of each part id; default ``part_<id>``.
    appearance : Appearance, optional
    width : float or array_like, shape (K,)
        See :func:`sp4dlib.lifting.harmonic.harmonic_weights`.
    max_influences : int or None
    name : str, optional

    Returns
    -------
    Rig
        One joint for each part, weightless end joints, and an animation ``wiggle`` that swings every joint in turn.

    Raises
    ------
    ValueError
        If neither part maps with cameras nor labels are given, or both; and whatever the stages raise.
    """
    if (parts is None) == (labels is None):
        raise ValueError("give either part maps with their cameras, or labels")
    if labels is None:
        if cameras is None:
            raise ValueError("part maps need the cameras that they were seen by")
        labels = vertex_labels(mesh, parts, cameras, vertices)
    poses = vertices if vertices is not None and len(vertices) > 1 else None
    skeleton, joint_part = extract_skeleton(mesh, labels, names, poses=poses, return_parts=True)
    columns = harmonic_weights(mesh, labels, width, max_influences=max_influences)
    weights = np.zeros((len(columns), len(skeleton)))
    real = joint_part >= 0
    weights[:, real] = columns[:, joint_part[real]]
    return Rig(mesh.vertices, mesh.faces, weights, skeleton, (wiggle(skeleton),),
               appearance if appearance is not None else getattr(mesh, "appearance", None),
               name or getattr(mesh, "name", None) or "rig")
