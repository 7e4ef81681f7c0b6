"""Orbit cameras that look at the origin of a clip's unit cube."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FOV = 33.8          # degrees, vertical; the lens of SV3D's renders, which SV4D 2.0 continues


@dataclass(frozen=True)
class Cameras:
    """V perspective cameras on a sphere round the clip's origin.

    Camera coordinates are x right, y up, z towards the camera (the camera looks along -z). Azimuth moves the camera
    counter-clockwise seen from above, 0 looks from +z; elevation is absolute, up positive.

    Attributes
    ----------
    azimuths, elevations : ndarray, shape (V,)
        Degrees. ``azimuths[0]`` is 0: view 0 defines the clip's frame.
    fov : float
        Vertical field of view in degrees; images are square.
    distance : float
        From the origin to every camera, in unit-cube lengths.
    fill : float
        Share of the image that the object reaches in the fullest view.
    normalize : ndarray, shape (4, 4)
        Rig space to the clip's unit cube: a turn about y, one scale, one shift.
    size : int
        Pixels of an image side.
    """

    azimuths: np.ndarray
    elevations: np.ndarray
    fov: float
    distance: float
    fill: float
    normalize: np.ndarray
    size: int

    def __post_init__(self) -> None:
        for name in ("azimuths", "elevations", "normalize"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        if self.azimuths.ndim != 1 or self.azimuths.shape != self.elevations.shape or not len(self.azimuths):
            raise ValueError(f"give as many elevations as azimuths, at least one; got {self.azimuths.shape} azimuths "
                             f"and {self.elevations.shape} elevations")

    def __len__(self) -> int:
        return len(self.azimuths)

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.size / (2 * np.tan(np.radians(self.fov) / 2))

    def rotation(self, view: int) -> np.ndarray:
        """Rotation from the clip's axes to the axes of ``view``, shape (3, 3)."""
        return orbit_rotation(self.azimuths[view], self.elevations[view])

    def view_matrix(self, view: int) -> np.ndarray:
        """Rig space to camera space of ``view``, shape (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation(view)
        matrix[2, 3] = -self.distance
        return matrix @ self.normalize

    def position(self, view: int) -> np.ndarray:
        """Camera centre of ``view`` in rig space, shape (3,)."""
        return np.linalg.inv(self.view_matrix(view))[:3, 3]

    def project(self, points: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Project points of rig space.

        Parameters
        ----------
        points : ndarray, shape (..., 3)
        view : int

        Returns
        -------
        pixels : ndarray, shape (..., 2)
            Column and row; (0, 0) is the upper left corner of the image, pixel centres lie at +0.5.
        depth : ndarray, shape (...)
            Distance in front of the camera along its axis, in unit-cube lengths.
        """
        matrix = self.view_matrix(view)
        camera = np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        depth = -camera[..., 2]
        pixels = self.focal * camera[..., :2] * [1, -1] / depth[..., None] + self.size / 2
        return pixels, depth

    def resized(self, size: int) -> Cameras:
        """The same cameras with images of another size."""
        return replace(self, size=size)


def orbit_rotation(azimuth: float, elevation: float) -> np.ndarray:
    """World-to-camera rotation (3, 3) of an orbit camera; degrees."""
    a, e = np.radians([azimuth, elevation])
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return about_x @ about_y


def fit_cameras(points: np.ndarray, azimuths, elevations, size: int, fill: float = 0.9, fov: float = FOV) -> Cameras:
    """The nearest cameras that keep all points within ``fill`` of the image, in all views.

    Parameters
    ----------
    points : ndarray, shape (..., 3)
        Vertices of all frames, rig space.
    azimuths, elevations : array_like, shape (V,)
        Degrees in rig space; ``azimuths[0]`` is turned to 0 by ``normalize``.
    size : int
        Pixels of an image side.
    fill : float
        In (0, 1].
    fov : float
        Degrees.

    Returns
    -------
    Cameras
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    azimuths = np.atleast_1d(np.asarray(azimuths, np.float64))
    elevations = np.broadcast_to(np.asarray(elevations, np.float64), azimuths.shape).copy()
    if not 0 < fill <= 1:
        raise ValueError(f"fill is the share of the image that the object takes, in (0, 1]; got {fill}")
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("cannot aim cameras: there are no points, or some are not finite")
    low, high = points.min(0), points.max(0)
    longest = (high - low).max()
    if longest <= 0:
        raise ValueError("cannot aim cameras: all points coincide")
    turn = np.eye(4)
    turn[:3, :3] = orbit_rotation(azimuths[0], 0) / longest
    turn[:3, 3] = -turn[:3, :3] @ (low + high) / 2
    unit = points @ turn[:3, :3].T + turn[:3, 3]
    reach = fill * np.tan(np.radians(fov) / 2)          # |x| / depth at the border that `fill` allows
    distance = 0.0
    for azimuth, elevation in zip(azimuths - azimuths[0], elevations):
        x, y, z = (unit @ orbit_rotation(azimuth, elevation).T).T
        distance = max(distance, float((np.maximum(np.abs(x), np.abs(y)) / reach + z).max()))
    return Cameras((azimuths - azimuths[0]) % 360, elevations, fov, distance, fill, turn, size)
