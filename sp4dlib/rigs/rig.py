"""The type at both ends of the circle: a mesh, its skeleton, its weights and its motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

PATHS = {"translation": 3, "rotation": 4, "scale": 3}


class RigError(ValueError):
    """A file or an asset that cannot become a rig; the message names it and says how to mend it."""


@dataclass(frozen=True)
class Material:
    """How a surface looks: glTF's metallic-roughness base colour, and nothing else.

    Attributes
    ----------
    name : str
    base_color : tuple of 4 floats in [0, 1]
        Linear RGBA factor, multiplied with the texture and the vertex colour.
    texture : ndarray of uint8, shape (h, w, 4), or None
        sRGB colour with alpha; row 0 is ``v = 0`` (glTF's convention).
    alpha_mode : {"OPAQUE", "MASK", "BLEND"}
        What alpha (factor x texture x vertex colour) means: nothing, holes below ``alpha_cutoff``, or coverage, which
        a rasteriser without blending draws as holes below 1/2.
    alpha_cutoff : float
        Below it a ``MASK`` texel is a hole. Of no meaning in the other modes.
    double_sided : bool
    wrap : tuple of 2 str, each "REPEAT", "CLAMP" or "MIRROR"
        What the texture shows outside [0, 1], along u and along v: itself again, its edge, or itself mirrored.
    """

    name: str = "material"
    base_color: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 1.0)
    texture: np.ndarray | None = None
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    double_sided: bool = True
    wrap: tuple[str, str] = ("REPEAT", "REPEAT")


@dataclass(frozen=True)
class Appearance:
    """Materials of a mesh and what its vertices say about colour.

    Attributes
    ----------
    materials : tuple of Material
    face_material : ndarray of int, shape (F,)
        Index into ``materials``.
    uv : ndarray, shape (N, 2), or None
    vertex_colors : ndarray, shape (N, 4), or None
        Linear RGBA in [0, 1].
    """

    materials: tuple[Material, ...]
    face_material: np.ndarray
    uv: np.ndarray | None = None
    vertex_colors: np.ndarray | None = None


@dataclass(frozen=True)
class Mesh:
    """A surface without a rig.

    Attributes
    ----------
    vertices : ndarray, shape (N, 3)
    faces : ndarray of int, shape (F, 3)
    appearance : Appearance or None
    name : str
    """

    vertices: np.ndarray
    faces: np.ndarray
    appearance: Appearance | None = None
    name: str = "mesh"


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints at bind pose.

    Attributes
    ----------
    parents : ndarray of int, shape (J,)
        Index of each joint's parent, -1 at the root. Parents precede children.
    names : tuple of str, length J
    bind : ndarray, shape (J, 4, 4)
        Joint-to-world matrix of each joint at bind pose.
    """

    parents: np.ndarray
    names: tuple[str, ...]
    bind: np.ndarray

    def __post_init__(self) -> None:
        parents = np.asarray(self.parents, np.int64)
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "bind", np.asarray(self.bind, np.float64))
        joints = len(parents)
        if len(self.names) != joints or self.bind.shape != (joints, 4, 4):
            raise ValueError(f"skeleton with {joints} parents has {len(self.names)} names and bind matrices of shape "
                             f"{self.bind.shape}; give one name and one 4x4 matrix for each joint")
        if joints == 0 or parents[0] != -1 or np.any(parents[1:] < 0) or np.any(parents >= np.arange(joints)):
            raise ValueError("a skeleton needs one root, at index 0, and every parent before its children; "
                             f"got parents {parents.tolist()}")

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def joints(self) -> np.ndarray:
        """Positions of the joints at bind pose, shape (J, 3)."""
        return self.bind[:, :3, 3]

    def chain(self, local: np.ndarray) -> np.ndarray:
        """Joint-to-parent matrices (..., J, 4, 4) to joint-to-world matrices."""
        world = np.array(local, np.float64)
        for joints in self._levels[1:]:
            world[..., joints, :, :] = world[..., self.parents[joints], :, :] @ world[..., joints, :, :]
        return world

    @cached_property
    def _levels(self) -> list[np.ndarray]:
        depth = np.zeros(len(self), np.int64)
        for j, parent in enumerate(self.parents[1:], 1):        # parents precede children
            depth[j] = depth[parent] + 1
        return [np.flatnonzero(depth == d) for d in range(depth.max() + 1)]


@dataclass(frozen=True)
class Track:
    """Keyframes of one property of one joint, as glTF samplers hold them.

    Attributes
    ----------
    joint : int
    path : {"translation", "rotation", "scale"}
    times : ndarray, shape (S,)
        Seconds, increasing.
    values : ndarray, shape (S, D), or (S, 3, D) for CUBICSPLINE (in-tangent, value, out-tangent)
        D is 3, or 4 for rotations (unit quaternions, x y z w).
    interpolation : {"LINEAR", "STEP", "CUBICSPLINE"}
    """

    joint: int
    path: str
    times: np.ndarray
    values: np.ndarray
    interpolation: str = "LINEAR"

    def at(self, times: np.ndarray) -> np.ndarray:
        """Interpolate at ``times`` (T,), holding the ends; returns (T, D)."""
        return _interpolate(self.path, self.interpolation, self.times, self.values, times)


@dataclass(frozen=True)
class Animation:
    """Motion of a skeleton: local transforms over time.

    The local transform of joint j (relative to its parent joint, or to the world at the root) at time t is
    ``before[j] @ T(t) @ R(t) @ S(t)``. Properties without a track keep the value in ``translation``,
    ``rotation`` and ``scale``: the file's default node pose, which need not be the bind pose.

    Attributes
    ----------
    name : str
    duration : float
        Seconds; 0 for a still pose.
    translation, rotation, scale : ndarray, shapes (J, 3), (J, 4), (J, 3)
        Values of properties that no track moves. Quaternions are x y z w.
    tracks : tuple of Track
    before : ndarray, shape (J, 4, 4)
        Constant matrix of nodes that are no joints, between a joint and its parent.
    """

    name: str
    duration: float
    translation: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    tracks: tuple[Track, ...] = ()
    before: np.ndarray | None = None

    def local(self, times: np.ndarray) -> np.ndarray:
        """Local transforms of all joints at ``times`` (T,) in seconds; returns (T, J, 4, 4)."""
        times = np.atleast_1d(np.asarray(times, np.float64))
        if not np.isfinite(times).all():
            raise ValueError(f"animation {self.name!r} was asked for a time that is not a finite number of seconds")
        state = {path: np.repeat(getattr(self, path)[None], len(times), axis=0).astype(np.float64) for path in PATHS}
        for path, interpolation, joints, keys, values in self._groups:
            state[path][:, joints] = _interpolate(path, interpolation, keys, values, times)
        local = compose(state["translation"], state["rotation"], state["scale"])     # (T, J, 4, 4)
        return local if self.before is None else self.before @ local

    @cached_property
    def _groups(self) -> list[tuple]:
        # Exporters key all joints at the same times: a few interpolations of many joints, not many of one.
        groups: dict[tuple, list[Track]] = {}
        for track in self.tracks:
            keys = np.asarray(track.times, np.float64)
            groups.setdefault((track.path, track.interpolation, keys.tobytes()), []).append(track)
        out = []
        for (path, interpolation, _), tracks in groups.items():
            values = np.stack([track.values for track in tracks], axis=-2)      # (S, G, D) or (S, 3, G, D)
            out.append((path, interpolation, [t.joint for t in tracks], np.asarray(tracks[0].times, float), values))
        return out


@dataclass(frozen=True)
class Rig:
    """A rigged mesh.

    Attributes
    ----------
    vertices : ndarray, shape (N, 3)
        Bind pose, right-handed, y up, scene units.
    faces : ndarray of int, shape (F, 3)
    weights : ndarray, shape (N, J)
        Skinning weights, rows sum to 1.
    skeleton : Skeleton
    animations : tuple of Animation
    appearance : Appearance or None
    name : str
    notes : tuple of str
        What a file held that the rig does not (morph targets, lines, textures in unknown formats), and what had to be
        mended (weights that are no numbers), one sentence each. Empty for a file that was taken as it is.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    skeleton: Skeleton
    animations: tuple[Animation, ...] = ()
    appearance: Appearance | None = None
    name: str = "rig"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "vertices", np.asarray(self.vertices, np.float64))
        set_(self, "faces", np.asarray(self.faces, np.int64))
        set_(self, "weights", np.asarray(self.weights, np.float64))
        set_(self, "animations", tuple(self.animations))
        set_(self, "notes", tuple(self.notes))
        n, j = len(self.vertices), len(self.skeleton)
        if self.vertices.shape != (n, 3) or self.faces.ndim != 2 or self.faces.shape[1:] != (3,):
            raise ValueError(f"{self.name}: vertices must be (N, 3) and faces (F, 3); got {self.vertices.shape} "
                             f"and {self.faces.shape}")
        if self.weights.shape != (n, j):
            raise ValueError(f"{self.name}: weights must be (N, J) = {(n, j)}; got {self.weights.shape}")
        if not np.isfinite(self.vertices).all():
            raise ValueError(f"{self.name}: vertices hold NaN or infinity")
        if len(self.faces) and (self.faces.min() < 0 or self.faces.max() >= n):
            raise ValueError(f"{self.name}: a face names a vertex outside 0..{n - 1}")
        if not np.allclose(self.weights.sum(1), 1, atol=1e-4) or self.weights.min(initial=0) < 0:
            raise ValueError(f"{self.name}: weights must be non-negative with rows that sum to 1")

    def animation(self, animation: Animation | str | int | None) -> Animation | None:
        """Look an animation up by name or index; None stays None (the bind pose).

        ``walk`` also finds ``AnimalArmature|Walk``: case and what stands before a bar do not matter where no name
        is equal.
        """
        if animation is None or isinstance(animation, Animation):
            return animation
        if isinstance(animation, (int, np.integer)):
            return self.animations[animation]
        for candidate in self.animations:
            if candidate.name == animation:
                return candidate
        for candidate in self.animations:
            if candidate.name.rsplit("|", 1)[-1].lower() == str(animation).lower():
                return candidate
        raise KeyError(f"{self.name} has no animation {animation!r}; it has {[a.name for a in self.animations]}")

    def joint_transforms(self, animation: Animation | str | int | None, times) -> np.ndarray:
        """Joint-to-world matrices at ``times`` (seconds, (T,)); returns (T, J, 4, 4)."""
        times = np.atleast_1d(np.asarray(times, np.float64))
        chosen = self.animation(animation)
        if chosen is None:
            return np.repeat(self.skeleton.bind[None], len(times), axis=0)
        return self.skeleton.chain(chosen.local(times))

    def pose(self, animation: Animation | str | int | None, times) -> np.ndarray:
        """Vertices moved by linear blend skinning.

        ``v'_i(t) = sum_j w_ij  G_j(t) inv(B_j)  v_i`` with G the joint-to-world matrices at time t and B those at
        bind pose.

        Parameters
        ----------
        animation : Animation, str, int or None
            An animation, its name or its index; None repeats the bind pose.
        times : array_like, shape (T,)
            Seconds. Outside [0, duration] the ends are held.

        Returns
        -------
        ndarray, shape (T, N, 3)
        """
        transforms = self.joint_transforms(animation, times) @ self._inverse_bind     # (T, J, 4, 4)
        return self.skin(transforms)

    def skin(self, transforms: np.ndarray) -> np.ndarray:
        """Blend ``transforms`` (T, J, 4, 4), bind space to posed space, over the vertices; returns (T, N, 3)."""
        frames, joints = transforms.shape[:2]
        flat = transforms[:, :, :3, :].transpose(1, 3, 0, 2).reshape(joints * 4, frames * 3)
        moved = self._weighted_vertices @ flat
        return np.ascontiguousarray(moved.reshape(len(self.vertices), frames, 3).transpose(1, 0, 2))

    def replace(self, **changes) -> Rig:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def strip(self) -> Mesh:
        """The bind-pose surface alone: what is left when skeleton, weights and motion are taken away."""
        return Mesh(self.vertices, self.faces, self.appearance, self.name)

    @property
    def size(self) -> float:
        """Longest side of the bind pose's bounding box."""
        return float(np.ptp(self.vertices, axis=0).max())

    @cached_property
    def _inverse_bind(self) -> np.ndarray:
        return np.linalg.inv(self.skeleton.bind)

    @cached_property
    def _weighted_vertices(self):
        # Row i holds w_ij (x, y, z, 1) of vertex i for every joint j: all frames are then one product. It is sparse,
        # as most vertices follow one to four of some fifty joints.
        from scipy.sparse import csr_matrix

        i, j = np.nonzero(self.weights)
        homogeneous = np.concatenate([self.vertices, np.ones((len(self.vertices), 1))], 1)
        data = self.weights[i, j][:, None] * homogeneous[i]
        columns = 4 * j[:, None] + np.arange(4)
        starts = np.concatenate([[0], 4 * np.cumsum(np.bincount(i, minlength=len(self.vertices)))])
        return csr_matrix((data.ravel(), columns.ravel(), starts), shape=(len(self.vertices), 4 * len(self.skeleton)))


def _interpolate(path: str, interpolation: str, keys: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values at ``times`` (T,) from keys (S,) and values (S, ..., D), or (S, 3, ..., D) for CUBICSPLINE."""
    cubic = interpolation == "CUBICSPLINE"
    if len(keys) == 1:
        return np.repeat(values[:, 1] if cubic else values, len(times), axis=0)
    t = np.clip(np.asarray(times, np.float64), keys[0], keys[-1])
    i = np.clip(np.searchsorted(keys, t, side="right") - 1, 0, len(keys) - 2)
    span = keys[i + 1] - keys[i]
    wide = (-1,) + (1,) * (values.ndim - 1 - cubic)
    u = np.clip((t - keys[i]) / np.where(span > 0, span, 1), 0, 1).reshape(wide)
    if cubic:       # glTF 2.0, appendix C.4: Hermite spline, tangents scaled by the key distance
        h = span.reshape(wide)
        out = ((2 * u**3 - 3 * u**2 + 1) * values[i, 1] + h * (u**3 - 2 * u**2 + u) * values[i, 2]
               + (-2 * u**3 + 3 * u**2) * values[i + 1, 1] + h * (u**3 - u**2) * values[i + 1, 0])
    elif interpolation == "STEP":
        out = np.where(u < 1, values[i], values[i + 1])
    elif path == "rotation":
        return slerp(values[i], values[i + 1], u)
    else:
        out = (1 - u) * values[i] + u * values[i + 1]
    return out / np.linalg.norm(out, axis=-1, keepdims=True) if path == "rotation" else out


def compose(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """4x4 matrices T R S from translations (..., 3), quaternions x y z w (..., 4) and scales (..., 3)."""
    x, y, z, w = np.moveaxis(rotation / np.linalg.norm(rotation, axis=-1, keepdims=True), -1, 0)
    out = np.zeros((*translation.shape[:-1], 4, 4))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
    out[..., :3, :3] *= scale[..., None, :]
    out[..., :3, 3] = translation
    out[..., 3, 3] = 1
    return out


def slerp(a: np.ndarray, b: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Spherical interpolation of unit quaternions (..., 4), the short way round; ``u`` broadcasts."""
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(dot < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(dot), 0, 1))
    small = angle < 1e-6                       # nearly equal: sin(angle) loses its digits, a straight line does not
    s = np.where(small, 1, np.sin(angle))
    out = np.where(small, 1 - u, np.sin((1 - u) * angle) / s) * a + np.where(small, u, np.sin(u * angle) / s) * b
    return out / np.linalg.norm(out, axis=-1, keepdims=True)
