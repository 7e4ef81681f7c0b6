"""Dual-quaternion skinning: blends rigid motions, not matrices, so that a twisted limb keeps its thickness."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sp4dlib.lifting.motion import split
from sp4dlib.rigs.rig import Rig


def dual_quaternion_pose(rig: Rig, animation, times) -> np.ndarray:
    """Vertices moved by dual-quaternion skinning; parameters and returns are those of :meth:`Rig.pose`, (T, N, 3)."""
    transforms = rig.joint_transforms(animation, times) @ np.linalg.inv(rig.skeleton.bind)
    return dual_quaternion_skin(rig.vertices, rig.weights, transforms)


def dual_quaternion_skin(vertices, weights, transforms) -> np.ndarray:
    """Blend joint motions as unit dual quaternions (Kavan et al. 2008, "Geometric Skinning with Approximate Dual
    Quaternion Blending").

    Each transform is split into a rigid motion and the scale and shear that precede it. These are blended linearly
    and applied first. Quaternions q and -q are one rotation, so each joint's is turned to the side of the vertex's
    heaviest joint.

    Parameters
    ----------
    vertices : array_like, shape (N, 3)
    weights : array_like, shape (N, J)
    transforms : array_like, shape (T, J, 4, 4)
        From bind space to posed space.

    Returns
    -------
    ndarray, shape (T, N, 3)

    Raises
    ------
    ValueError
        If a transform flattens space.
    """
    vertices, weights = np.asarray(vertices, np.float64), np.asarray(weights, np.float64)
    transforms = np.asarray(transforms, np.float64)
    translation, real, _ = split(transforms)
    rotation = Rotation.from_quat(real.reshape(-1, 4)).as_matrix().reshape(*real.shape[:-1], 3, 3)
    stretch = np.einsum("tjba,tjbc->tjac", rotation, transforms[..., :3, :3])
    dual = 0.5 * _product(np.concatenate([translation, np.zeros_like(translation[..., :1])], -1), real)
    heaviest = weights.argmax(1)
    out = np.empty((len(transforms), len(vertices), 3))
    for frame in range(len(transforms)):
        along = real[frame] @ real[frame].T
        signed = weights * np.where(along[heaviest] < 0, -1, 1)                        # (N, J)
        q, d = signed @ real[frame], signed @ dual[frame]
        length = np.linalg.norm(q, axis=1, keepdims=True)
        q, d = q / length, d / length
        shaped = np.einsum("nj,jab,nb->na", weights, stretch[frame], vertices, optimize=True)
        shift = 2 * _product(d, q * [-1, -1, -1, 1])[:, :3]
        out[frame] = Rotation.from_quat(q).apply(shaped) + shift
    return out


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions x y z w, (..., 4)."""
    vector = a[..., 3:] * b[..., :3] + b[..., 3:] * a[..., :3] + np.cross(a[..., :3], b[..., :3])
    scalar = a[..., 3:] * b[..., 3:] - np.sum(a[..., :3] * b[..., :3], axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1)
