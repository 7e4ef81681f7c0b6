"""What a user hands to the pipeline, as square frames on white."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
from PIL import Image

from sp4dlib.diffusion.media import load_frames, rgba

log = logging.getLogger(__name__)

BACKGROUND = 250        # without alpha, pixels of a higher mean colour are background (as in SV4D 2.0's release)
BACKGROUNDS = ("auto", "alpha", "white", "rembg")


class Square(NamedTuple):
    """What the crop cuts out: the upper left corner of every frame's square, and the side of all, in pixels."""

    corners: np.ndarray         # (T, 2): x, y
    side: float


def as_frames(image) -> np.ndarray:
    """Pictures of any accepted kind as one array.

    Parameters
    ----------
    image : PIL image, array, path, or list of such
        Arrays have shape (H, W, C) or (T, H, W, C) with C = 3 or 4, uint8, or floats in [0, 1]. A path names a
        picture, an animation, a video or a folder; see `sp4dlib.diffusion.media.load_frames`. Lists are frames.

    Returns
    -------
    ndarray of uint8, shape (T, H, W, 4)
        RGBA; opaque where no alpha was given.
    """
    if isinstance(image, Image.Image):
        return rgba(image)[None]
    if isinstance(image, (str, PathLike)):
        return load_frames(image)
    if isinstance(image, Sequence) and len(image) and any(isinstance(frame, (Image.Image, str, PathLike))
                                                          for frame in image):
        frames = [as_frames(frame)[0] for frame in image]
        sizes = {frame.shape[1::-1] for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"frames of one video must have one size; got {sorted(sizes)}")
        return np.stack(frames)
    frames = np.asarray(image)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or 0 in frames.shape:
        raise ValueError("give a PIL image, a path, a list of them, or an array (T, H, W, 3) or (T, H, W, 4) with at "
                         f"least one frame; got {type(image).__name__} of shape {frames.shape}")
    if np.issubdtype(frames.dtype, np.floating):
        if not np.isfinite(frames).all() or frames.min() < 0 or frames.max() > 1:
            raise ValueError("float images must be finite and in [0, 1]; scale them and mend NaN, or give uint8")
        frames = np.round(frames * 255).astype(np.uint8)
    if frames.dtype != np.uint8:
        raise ValueError(f"images must be uint8 or float; got {frames.dtype}")
    if frames.shape[-1] == 3:
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=-1)
    return frames


def remove_background(frames: np.ndarray, background: str = "auto") -> np.ndarray:
    """Frames whose alpha tells the object from the background.

    Parameters
    ----------
    frames : ndarray of uint8, shape (T, H, W, 4)
    background : {"auto", "alpha", "white", "rembg"}
        ``"alpha"`` keeps what is given. ``"white"`` makes pixels of a mean colour above 250 transparent. ``"rembg"``
        lets that program's network (https://github.com/danielgatis/rembg, an optional package) find the object in
        every frame. ``"auto"`` is alpha if anything is transparent, else white.

    Returns
    -------
    ndarray of uint8, shape (T, H, W, 4)

    Raises
    ------
    ImportError
        If rembg is asked for and not installed.
    ValueError
        If ``"alpha"`` is asked for and all pixels are opaque.
    """
    if background not in BACKGROUNDS:
        raise ValueError(f"background is one of {', '.join(BACKGROUNDS)}; got {background!r}")
    opaque = bool((frames[..., 3] == 255).all())
    if background == "alpha" and opaque:
        raise ValueError("the pictures have no transparent pixels to tell the background; use background='white' or "
                         "'rembg'")
    if background == "rembg":
        return np.stack([_cut_out()(frame[..., :3]) for frame in frames])
    if background == "alpha" or (background == "auto" and not opaque):
        return frames
    object_ = frames[..., :3].mean(-1) <= BACKGROUND
    border = np.concatenate([object_[:, [0, -1]].ravel(), object_[:, :, [0, -1]].ravel()])
    if border.mean() > 0.5:
        log.warning("most of the pictures' border is neither transparent nor white, so that the whole picture is taken "
                    "for the object; use background='rembg', or cut the object out")
    return np.concatenate([frames[..., :3], np.where(object_, frames[..., 3], 0)[..., None]], -1)


@functools.lru_cache(1)
def _cut_out():
    """rembg's function from RGB to RGBA, its network loaded once."""
    try:
        import rembg
    except ImportError as error:
        raise ImportError("background='rembg' needs the package rembg: pip install 'sp4dlib[rembg]', or cut the object "
                          "out otherwise and save it with transparency") from error
    session = rembg.new_session()
    return lambda frame: np.asarray(rembg.remove(np.ascontiguousarray(frame), session=session))


def on_white(frames: np.ndarray) -> np.ndarray:
    """Composite RGBA uint8 (..., 4) on white by alpha; returns RGB uint8 (..., 3)."""
    alpha = frames[..., 3:].astype(np.float32) / 255
    return np.round(frames[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def object_boxes(frames: np.ndarray, name="the picture") -> np.ndarray:
    """The smallest box (left, top, right, bottom) round what is not transparent, for each RGBA frame; (T, 4).

    A frame in which there is nothing gets the box of the nearest frame in which there is something.

    Raises
    ------
    ValueError
        If there is nothing in any frame.
    """
    mask = frames[..., 3] > 0
    shown = np.flatnonzero(mask.any((1, 2)))
    if not len(shown):
        raise ValueError(f"{name} holds only background (transparent or white); is the right image given?")
    boxes = np.empty((len(shown), 4), int)
    for row, frame in zip(boxes, mask[shown]):
        columns, rows = np.flatnonzero(frame.any(0)), np.flatnonzero(frame.any(1))
        row[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    nearest = np.abs(shown - np.arange(len(frames))[:, None]).argmin(1)
    return boxes[nearest]


def union(boxes: np.ndarray, axis=None) -> np.ndarray:
    """The smallest box round boxes (..., 4), over all but the last axis."""
    axes = tuple(range(boxes.ndim - 1)) if axis is None else axis
    return np.concatenate([boxes[..., :2].min(axes), boxes[..., 2:].max(axes)], -1)


def square_round(boxes: np.ndarray, fill: float, follow: bool = False) -> Square:
    """The squares in which the object's longest side takes the share ``fill``.

    Parameters
    ----------
    boxes : ndarray, shape (T, 4)
    fill : float
        In (0, 1].
    follow : bool
        False: one square round the union of all boxes, so that the object moves through the picture as it did. True:
        each frame has its own, centred on its box, and all have the side that the largest box asks for: an object
        that crosses the picture stays large, and loses its path.
    """
    if not 0 < fill <= 1:
        raise ValueError(f"fill is the share of the picture that the object takes, in (0, 1]; got {fill}")
    if not follow:
        boxes = np.broadcast_to(union(boxes), boxes.shape)
    side = float((boxes[:, 2:] - boxes[:, :2]).max()) / fill
    return Square((boxes[:, :2] + boxes[:, 2:] - side) / 2, side)


def cut(frames: np.ndarray, square: Square, size: int) -> np.ndarray:
    """Cut squares out of RGB frames (T, H, W, 3) and resize them to (T, size, size, 3) with a Lanczos filter.

    A square may reach beyond the picture; what is outside is white.
    """
    height, width = frames.shape[1:3]
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for t, (frame, (x, y)) in enumerate(zip(frames, square.corners)):
        left, top = int(np.floor(x)), int(np.floor(y))
        right, bottom = int(np.ceil(x + square.side)), int(np.ceil(y + square.side))
        inside = frame[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
        pad = [(max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width)), (0, 0)]
        canvas = np.pad(inside, pad, constant_values=255)
        box = (x - left, y - top, x - left + square.side, y - top + square.side)
        out[t] = np.asarray(Image.fromarray(canvas).resize((size, size), Image.Resampling.LANCZOS, box))
    return out


def crop_to_object(image, size: int, fill: float = 0.9, follow: bool = False, background: str = "auto") -> np.ndarray:
    """Cut a square out of every frame, so that the object's box is centred and fills ``fill`` of its side.

    The release of SV4D 2.0 centres its square on the picture, so that an object off the centre comes out small, and
    mixes rows with columns where a picture is not square.

    Parameters
    ----------
    image
        As for `as_frames`.
    size : int
        Side of the returned frames in pixels.
    fill : float
        Longest side of the box over the side of the square.
    follow : bool
        See `square_round`.
    background : {"auto", "alpha", "white", "rembg"}
        See `remove_background`.

    Returns
    -------
    ndarray of uint8, shape (T, size, size, 3)
    """
    frames = remove_background(as_frames(image), background)
    return cut(on_white(frames), square_round(object_boxes(frames), fill, follow), size)


def resize(frames: np.ndarray, size: int) -> np.ndarray:
    """Resample square RGB frames (T, H, W, 3) to (T, size, size, 3); equal sizes are left untouched."""
    if frames.shape[1:3] == (size, size):
        return frames
    if frames.shape[1] != frames.shape[2]:
        raise ValueError(f"frames of {frames.shape[1]}x{frames.shape[2]} pixels are not square; leave crop=True")
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS))
                     for frame in frames])


def prepare(image, known, size: int, fill: float, crop: bool = True, follow: bool = False, background: str = "auto",
            length: int | None = None) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """The input and the known pictures as the network is shown them.

    Input and known pictures are cut alike: the object's box of a frame is that of all pictures of that frame, because
    the cameras of a clip look at the same point from the same distance.

    Parameters
    ----------
    image
        The input video, as for `as_frames`.
    known : mapping {(frame, view): picture}
    size, fill, follow, background
        As in `crop_to_object`.
    crop : bool
        Cut, or take square pictures as they are.
    length : int, optional
        Frames wanted; the rest is cut off, or the last frame repeated.

    Returns
    -------
    frames : ndarray of uint8, shape (T, size, size, 3)
    known : dict {(frame, view): ndarray of uint8, shape (size, size, 3)}
    """
    frames = as_frames(image)
    length = len(frames) if length is None else length
    if length < 1:
        raise ValueError(f"num_frames must be at least 1; got {length}")
    frames = frames[np.minimum(np.arange(length), len(frames) - 1)]
    pictures = {place: as_frames(picture) for place, picture in known.items()}
    for (frame, view), picture in pictures.items():
        if len(picture) > 1:
            raise ValueError(f"a known picture is one picture; that of frame {frame}, view {view} has {len(picture)}")
        if not 0 <= frame < length:
            raise ValueError(f"there is no frame {frame} among {length} to which the known picture of view {view} "
                             "could belong; frames count from 0")
        if crop and picture.shape[1:] != frames.shape[1:]:
            raise ValueError(f"the known picture of frame {frame}, view {view} has {picture.shape[1:3]} pixels, the "
                             f"input {frames.shape[1:3]}: render all alike, or cut all to squares and set crop=False")
    if not crop:
        shown = resize(on_white(frames), size)
        return shown, {place: resize(on_white(picture), size)[0] for place, picture in pictures.items()}
    frames = remove_background(frames, background)
    boxes = object_boxes(frames, image if isinstance(image, (str, PathLike)) else "the picture")
    pictures = {place: remove_background(picture, background) for place, picture in pictures.items()}
    for (frame, _), picture in pictures.items():
        if picture[..., 3].any():                                      # the object may be hidden in a known view
            boxes[frame] = union(np.stack([boxes[frame], object_boxes(picture)[0]]))
    square = square_round(boxes, fill, follow)
    shown = cut(on_white(frames), square, size)
    return shown, {(frame, view): cut(on_white(picture), Square(square.corners[frame:frame + 1], square.side), size)[0]
                   for (frame, view), picture in pictures.items()}
