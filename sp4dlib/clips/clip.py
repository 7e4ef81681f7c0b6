"""What the data engine makes: paired colour and part video of one object from several views."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sp4dlib.clips.cameras import Cameras, orbit_rotation
from sp4dlib.coding import SPATIAL, ColorCode, encode

VERSION = 1         # of the file format
ARRAYS = ("rgb", "parts", "centers", "boxes", "part_parents", "times")
CAMERA_ARRAYS = ("azimuths", "elevations", "normalize")
CAMERA_NUMBERS = ("fov", "distance", "fill", "size")


@dataclass(frozen=True)
class Parts:
    """Kinematic parts of a rig: the regions that move with one bone.

    Attributes
    ----------
    labels : ndarray of int, shape (N,)
        Part of each vertex.
    joint_part : ndarray of int, shape (J,)
        Part that each joint belongs to.
    parents : ndarray of int, shape (K,)
        Parent part of each part, -1 at the root. Parents precede children.
    names : tuple of str, length K
    """

    labels: np.ndarray
    joint_part: np.ndarray
    parents: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Clip:
    """T frames of V views. View 0 is the input view.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (T, V, H, W, 3)
        White background.
    parts : ndarray of int16, shape (T, V, H, W)
        Part ids, -1 = background.
    centers : ndarray, shape (T, K, 3)
        Centre of each part, area-weighted, in the clip's unit cube.
    boxes : ndarray, shape (T, V, 2, 3)
        Lowest and highest corner of the object at frame t, in the axes of view v (unit-cube lengths).
    cameras : Cameras
    names : tuple of str, length K
    part_parents : ndarray of int, shape (K,)
    times : ndarray, shape (T,)
        Seconds into the animation.
    source : str
        Name of the rig and of the animation.
    code : ColorCode
        How `colors` are made; not stored in files.
    """

    rgb: np.ndarray
    parts: np.ndarray
    centers: np.ndarray
    boxes: np.ndarray
    cameras: Cameras
    names: tuple[str, ...]
    part_parents: np.ndarray
    times: np.ndarray
    source: str = ""
    code: ColorCode = SPATIAL

    def __post_init__(self) -> None:
        frames, views, size, parts = len(self.times), len(self.cameras), self.cameras.size, len(self.names)
        shapes = {"rgb": (frames, views, size, size, 3), "parts": (frames, views, size, size),
                  "centers": (frames, parts, 3), "boxes": (frames, views, 2, 3), "part_parents": (parts,)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"a clip of {frames} frames, {views} views of {size} pixels and {parts} parts needs "
                                 f"{name} of shape {shape}; got {np.shape(getattr(self, name))}")

    @property
    def colors(self) -> np.ndarray:
        """Colour of each part, shape (K, 3) in [0, 1]: by `code`, from frame 0 and view 0."""
        scaled = self.cameras.normalize[:3, :3].T                     # rotation and scale: from the clip's axes back
        return self.code.colors(self.centers[0], self.boxes[0, 0], self.cameras.rotation(0),
                                scaled / np.linalg.norm(scaled, axis=1, keepdims=True), self.source)

    @property
    def part_images(self) -> np.ndarray:
        """Part maps in their colours, uint8, shape (T, V, H, W, 3)."""
        return encode(self.parts, self.colors)

    def select(self, frames, views) -> Clip:
        """The clip of some frames and views, in that order; the first of each becomes frame 0 and view 0.

        Azimuths become relative to the new view 0, and with it the unit cube's axes turn.
        """
        frames, views = np.atleast_1d(frames), np.atleast_1d(views)
        turn = self.cameras.azimuths[views[0]]
        rotation = orbit_rotation(turn, 0)
        normalize = np.eye(4)
        normalize[:3, :3] = rotation
        cameras = replace(self.cameras, azimuths=(self.cameras.azimuths[views] - turn) % 360,
                          elevations=self.cameras.elevations[views], normalize=normalize @ self.cameras.normalize)
        grid = np.ix_(frames, views)
        return replace(self, rgb=self.rgb[grid], parts=self.parts[grid], centers=self.centers[frames] @ rotation.T,
                       boxes=self.boxes[grid], cameras=cameras, times=self.times[frames])

    def save(self, path: str | Path) -> None:
        """Write the clip to one compressed ``.npz`` file; it is complete or it is not there.

        Parameters
        ----------
        path : str or Path
            Its folder must exist.
        """
        path = Path(path)
        cameras = {name: getattr(self.cameras, name) for name in CAMERA_NUMBERS}
        text = json.dumps({"version": VERSION, "names": self.names, "source": self.source, "cameras": cameras},
                          default=lambda number: number.item())
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {name: getattr(self.cameras, name) for name in CAMERA_ARRAYS}
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with open(temporary, "wb") as file:
                np.savez_compressed(file, text=np.array(text), **arrays)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Clip:
        """Read a clip that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file holds no clip of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                text = json.loads(str(file["text"]))
                if text["version"] != VERSION:
                    raise ValueError(f"its version is {text['version']} and {VERSION} is read here: make it anew")
                arrays = {name: file[name] for name in ARRAYS}
                cameras = Cameras(**{name: file[name] for name in CAMERA_ARRAYS}, **text["cameras"])
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no clip that can be read: {error}") from error
        return cls(cameras=cameras, names=tuple(text["names"]), source=text["source"], **arrays)
