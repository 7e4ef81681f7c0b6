"""From a rig and its motion to a clip."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sp4dlib.clips.cameras import FOV, Cameras, fit_cameras
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.parts import kinematic_parts, vertex_areas
from sp4dlib.clips.engines import render
from sp4dlib.clips.scene import Shading
from sp4dlib.rigs.rig import Animation, Rig


def make_clip(rig: Rig, animation: Animation | str | int | None, times, azimuths, elevations=0.0, size: int = 256, *,
              parts: Parts | None = None, fill: float = 0.9, fov: float = FOV, shading: Shading | None = None,
              engine: str = "auto") -> Clip:
    """Pose a rig at some times, aim cameras, and draw colour and parts.

    Parameters
    ----------
    rig : Rig
    animation : Animation, str, int or None
        As for :meth:`Rig.pose`; None repeats the bind pose.
    times : array_like, shape (T,)
        Seconds.
    azimuths : array_like, shape (V,)
        Degrees in the rig's axes, counter-clockwise seen from above, 0 looks from +z; the first is view 0.
    elevations : array_like, shape (V,), or float
        Degrees above the horizon, in [-90, 90].
    size : int
        Pixels of an image side.
    parts : Parts, optional
        :func:`~sp4dlib.clips.parts.kinematic_parts` of the rig by default.
    fill : float
        Share of the image that the object reaches in its fullest frame and view, in (0, 1].
    fov : float
        Vertical field of view in degrees, in (0, 180).
    shading : Shading, optional
    engine : {"auto", "gl", "embree"}
        As for :func:`~sp4dlib.clips.engines.render`.

    Returns
    -------
    Clip

    Raises
    ------
    ValueError
        If an argument is empty, out of range, not finite, or does not fit another; the message says which.
    KeyError
        If the rig has no such animation; the message lists what it has.
    """
    times, azimuths, elevations = _checked(times, azimuths, elevations, size, fov)
    if isinstance(animation, (int, np.integer)) and not -len(rig.animations) <= animation < len(rig.animations):
        raise KeyError(f"{rig.name} has {len(rig.animations)} animations; there is no number {animation}")
    chosen = rig.animation(animation)
    parts = kinematic_parts(rig) if parts is None else parts
    if parts.labels.shape != (len(rig.vertices),):
        raise ValueError(f"parts label {parts.labels.shape[0]} vertices and {rig.name} has {len(rig.vertices)}: "
                         "make them from this rig")
    vertices = rig.pose(chosen, times)                                              # (T, N, 3)
    if not np.isfinite(vertices).all():
        raise ValueError(f"{rig.name}: animation {animation!r} moves vertices to NaN or infinity")
    drawn = np.unique(rig.faces)                     # vertices of no face are seen nowhere: cameras ignore them
    cameras = fit_cameras(vertices[:, drawn], azimuths, elevations, int(size), fill, fov)
    rgb, ids = render(vertices, rig.faces, parts.labels, cameras, rig.appearance, shading=shading, rest=rig.vertices,
                      engine=engine)
    unit = vertices @ cameras.normalize[:3, :3].T + cameras.normalize[:3, 3]
    source = f"{rig.name}/{chosen.name if chosen else 'bind'}"
    return Clip(rgb, ids, part_centers(unit, rig.faces, parts), _boxes(unit[:, drawn], cameras), cameras, parts.names,
                parts.parents, times, source)


def part_centers(vertices: np.ndarray, faces: np.ndarray, parts: Parts) -> np.ndarray:
    """Area-weighted mean of each part's vertices, a vertex having a third of the area of its faces.

    Parameters
    ----------
    vertices : ndarray, shape (T, N, 3)
    faces : ndarray of int, shape (F, 3)
    parts : Parts

    Returns
    -------
    ndarray, shape (T, K, 3)
        A part without area has the plain mean of its vertices, one without vertices the mean of all.
    """
    count = vertices.shape[1]
    members = csr_matrix((np.ones(count), (parts.labels, np.arange(count))), shape=(len(parts), count))
    weights = vertex_areas(vertices, faces).T                                       # (N, T)
    points = np.ascontiguousarray(vertices.transpose(1, 2, 0))                      # (N, 3, T)
    area = members @ weights                                                        # (K, T)
    total = (members @ (points * weights[:, None]).reshape(count, -1)).reshape(len(parts), 3, -1)
    sizes = np.asarray(members.sum(1))                                              # (K, 1)
    plain = (members @ points.reshape(count, -1)).reshape(total.shape) / np.maximum(sizes, 1)[:, None]
    plain[sizes[:, 0] == 0] = points.mean(0)
    centers = np.where(area[:, None] > 0, total / np.where(area > 0, area, 1)[:, None], plain)
    return np.ascontiguousarray(centers.transpose(2, 0, 1))


def _boxes(vertices: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Lowest and highest corner in the axes of each view, (T, V, 2, 3), of unit-cube vertices (T, N, 3)."""
    columns = np.ascontiguousarray(vertices.transpose(2, 0, 1))                     # (3, T, N): quick to reduce
    turned = [np.tensordot(cameras.rotation(view), columns, 1) for view in range(len(cameras))]
    corners = [np.stack([points.min(2), points.max(2)]) for points in turned]       # V of (2, 3, T)
    return np.stack(corners).transpose(3, 0, 1, 2)



def _checked(times, azimuths, elevations, size, fov) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        times, azimuths, elevations = (np.atleast_1d(np.asarray(x, np.float64)) for x in (times, azimuths, elevations))
    except (TypeError, ValueError) as error:
        raise ValueError(f"times, azimuths and elevations must be numbers: {error}") from error
    for name, values, unit in (("times", times, "seconds"), ("azimuths", azimuths, "degrees"),
                               ("elevations", elevations, "degrees")):
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} must be a list of at least one number of {unit}; got shape {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite numbers of {unit}; got {values.tolist()}")
    if len(elevations) not in (1, len(azimuths)):
        raise ValueError(f"give one elevation, or one for each azimuth; got {len(elevations)} for {len(azimuths)}")
    if np.abs(elevations).max() > 90:
        raise ValueError(f"elevations must lie in [-90, 90] degrees; got {elevations.tolist()}")
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
        raise ValueError(f"size is the pixels of an image side, a whole number of at least 1; got {size!r}")
    if not 0 < fov < 180:
        raise ValueError(f"fov must lie in (0, 180) degrees; got {fov}")
    return times, azimuths, np.broadcast_to(elevations, azimuths.shape).copy()
