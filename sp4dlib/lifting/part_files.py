"""Part images on disk, as ours and other programs leave them, with the cameras that saw them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sp4dlib import coding
from sp4dlib.clips.cameras import Cameras, fit_cameras
from sp4dlib.clips.clip import Clip

FILL = 0.9
LAYOUT = ('a folder that `sp4d generate` wrote, a clip (.npz) of Clip.save, or a folder of pictures, one a view in the '
          'order of their names, with a cameras.json such as {"azimuths": [0, 90, 180, 270], "elevations": 0, '
          '"fill": 0.9}')


@dataclass(frozen=True)
class PartFiles:
    """Part maps that were read.

    Attributes
    ----------
    parts : ndarray of int16, shape (T, V, H, H)
        -1 = background.
    rgb : ndarray of uint8, shape (T, V, H, H, 3), or None
    names : tuple of str, or None
        Of the part ids, where the file names them.
    azimuths, elevations : ndarray, shape (V,)
        Degrees.
    fill : float
        Share of the image that the object takes.
    cameras : Cameras or None
        Exact ones, if the file knows the space of the mesh.
    """

    parts: np.ndarray
    rgb: np.ndarray | None
    names: tuple[str, ...] | None
    azimuths: np.ndarray
    elevations: np.ndarray
    fill: float
    cameras: Cameras | None = None

    def cameras_of(self, vertices: np.ndarray, front: float = 0.0) -> Cameras:
        """Cameras round a mesh: the exact ones if known, else fitted to ``vertices`` (N, 3) as in rendering a clip.

        Parameters
        ----------
        vertices : ndarray, shape (N, 3)
        front : float
            Degrees: where the camera of azimuth 0 stands round the mesh; 0 is on its +z side.
        """
        if self.cameras is not None:
            return self.cameras
        return fit_cameras(vertices, front + self.azimuths, self.elevations, self.parts.shape[-1], self.fill)


def load_parts(path: str | Path, num_parts: int | None = None) -> PartFiles:
    """Read part images and what is known of their cameras.

    Pictures may be in part colours (RGB on white; read by :func:`sp4dlib.coding.decode`, jointly) or hold ids (one
    channel of 8 or 16 bits, 0 = background, part k is k + 1).

    Parameters
    ----------
    path : str or Path
        A folder that ``sp4d generate`` wrote, a clip of :meth:`Clip.save`, or a folder of pictures, one a view in the
        order of their names, with a ``cameras.json`` that gives ``azimuths`` and ``elevations`` in degrees, and
        ``fill``.
    num_parts : int, optional
        How many parts colour pictures show; default as many as are found.

    Returns
    -------
    PartFiles

    Raises
    ------
    ValueError
        If there is nothing of the kind, or pictures and cameras do not fit together.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".npz":
        return _from_clip(path)
    if (path / "parts.npz").is_file():
        return _from_generated(path)
    if (path / "cameras.json").is_file():
        return _from_pictures(path, num_parts)
    raise ValueError(f"{path}: no part images are there. Give {LAYOUT}")


def _from_clip(path: Path) -> PartFiles:
    clip = Clip.load(path)
    cameras = clip.cameras
    return PartFiles(clip.parts, clip.rgb, clip.names, cameras.azimuths, cameras.elevations, cameras.fill, cameras)


def _from_generated(path: Path) -> PartFiles:
    try:
        with np.load(path / "parts.npz", allow_pickle=False) as arrays:
            if "parts" not in arrays:
                raise ValueError("its model made colours only; generate with a model that has a branch for parts")
            parts, rgb = arrays["parts"], arrays["rgb"]
            azimuths, elevations = arrays["azimuths"], arrays["elevations"]
        settings = path / "settings.json"
        fill = json.loads(settings.read_text(encoding="utf-8"))["cameras"]["fill"] if settings.is_file() else FILL
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path / 'parts.npz'} cannot be read: {error}") from error
    return PartFiles(parts, rgb, None, azimuths, elevations, float(fill))


def _from_pictures(path: Path, num_parts: int | None) -> PartFiles:
    from PIL import Image, UnidentifiedImageError

    try:
        about = json.loads((path / "cameras.json").read_text(encoding="utf-8"))
        azimuths = np.atleast_1d(np.asarray(about["azimuths"], np.float64))
        elevations = np.broadcast_to(np.asarray(about.get("elevations", 0), np.float64), azimuths.shape).copy()
        fill = float(about.get("fill", FILL))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path / 'cameras.json'}: azimuths and elevations in degrees are wanted, one for each "
                         f"picture, and fill ({type(error).__name__}: {error})") from error
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".png", ".webp", ".bmp", ".tif", ".tiff"))
    if len(files) != len(azimuths):
        raise ValueError(f"{path} holds {len(files)} pictures without loss (png, webp, bmp, tif), and cameras.json "
                         f"tells of {len(azimuths)} views")
    images = []
    for file in files:
        try:
            with Image.open(file) as picture:
                images.append(_pixels(picture))
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{file}: cannot be read as a picture ({error})") from error
    shapes = {image.shape for image in images}
    if len(shapes) > 1 or images[0].shape[0] != images[0].shape[1]:
        raise ValueError(f"{path}: pictures must be square, of one size and one kind (colours or ids); got "
                         f"{sorted(shapes)}")
    stack = np.stack(images)[None]
    parts = coding.decode(stack, num_parts) if stack.ndim == 5 else stack.astype(np.int32).astype(np.int16) - 1
    return PartFiles(parts, None, None, azimuths, elevations, fill)


def _pixels(picture) -> np.ndarray:
    """Ids (H, W), or colours (H, W, 3) on white."""
    if picture.mode in ("L", "I", "I;16"):
        return np.asarray(picture)
    rgba = np.asarray(picture.convert("RGBA"))
    return np.where(rgba[..., 3:] < 128, 255, rgba[..., :3]).astype(np.uint8)
