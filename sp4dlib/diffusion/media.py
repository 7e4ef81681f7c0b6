"""Pictures and videos from files, as RGBA frames."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

log = logging.getLogger(__name__)

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"}


def load_frames(path: str | PathLike) -> np.ndarray:
    """Read a picture, an animated picture, a video, or a folder of pictures.

    Parameters
    ----------
    path : path
        A file, or a folder whose pictures are taken in the order of the numbers in their names (``2.png`` before
        ``10.png``).

    Returns
    -------
    ndarray of uint8, shape (T, H, W, 4)
        RGBA; opaque where the file has no alpha. Photographs are turned upright as their EXIF data says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, broken, of an unknown kind, or its frames differ in size; the message names it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder; check the path")
    if path.is_dir():
        return _stack(_folder(path), path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); copy or export it again")
    if path.suffix.lower() in VIDEOS:
        return _stack(_video(path), path)
    return _stack(_picture(path), path)


def _stack(frames: Iterator[np.ndarray], path: Path) -> np.ndarray:
    frames = list(frames)
    if not frames:
        raise ValueError(f"{path} holds no frames; give a picture, a video, or a folder of pictures")
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"frames of one video must have one size; {path} has {', '.join(sizes)}: resize some")
    return np.stack(frames)


def _folder(path: Path) -> Iterator[np.ndarray]:
    def key(file: Path) -> list:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name.lower())]

    files = sorted((file for file in path.iterdir()
                    if file.suffix.lower() in PICTURES and not file.name.startswith(".")), key=key)
    if not files:
        raise ValueError(f"{path} holds no pictures ({', '.join(sorted(PICTURES))}); give a folder with some")
    for file in files:
        yield load_frames(file)[0]


def _picture(path: Path) -> Iterator[np.ndarray]:
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                yield rgba(frame, path)
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture that can be read; give one of {', '.join(sorted(PICTURES))}, or a "
                         f"video of {', '.join(sorted(VIDEOS))}") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is broken ({error}); copy or export it again") from error


def rgba(image: Image.Image, name="a picture") -> np.ndarray:
    """One PIL image, upright, as uint8 (H, W, 4)."""
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError(f"{name} has {image.mode} pixels, whose range is not known; save it with 8 bits a channel")
    return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


def _video(path: Path) -> Iterator[np.ndarray]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    try:
        width, height = next(reader)["size"]
        for data in reader:
            frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            yield np.concatenate([frame, np.full_like(frame[..., :1], 255)], -1)
    except (OSError, RuntimeError, StopIteration) as error:
        log.debug("ffmpeg on %s: %s", path, error)
        raise ValueError(f"{path} is no video that can be read; it may be cut off: copy or export it again, as MP4 "
                         "with H.264") from error
    finally:
        reader.close()
