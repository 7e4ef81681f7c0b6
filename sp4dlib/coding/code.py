"""Which colours stand for the parts of an object: SP4D's spatial code, and others to compare it with."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from sp4dlib.coding.colors import WHITE, part_colors, push_apart

PALETTES = ("spatial", "random")
FRAMES = ("view", "object")
NORMALIZATIONS = ("per-axis", "isotropic")
CANDIDATES = 32         # points that are tried for each random colour


@dataclass(frozen=True)
class ColorCode:
    """How part ids become colours; the default is that of SP4D (arXiv 2509.10687, section 3.1).

    Whatever is chosen, colours are the same in all views and frames of a clip and far enough apart to be decoded.

    Attributes
    ----------
    palette : {"spatial", "random"}
        ``spatial``: where a part lies; see :func:`~sp4dlib.coding.part_colors`. ``random``: see
        :func:`random_colors`; nothing in a picture tells them, and two objects have nothing in common.
    frame : {"view", "object"}
        Axes of the spatial palette: those of view 0, which a picture shows, or the object's own (its left, up and
        front), which do not depend on where it is seen from.
    normalize : {"per-axis", "isotropic"}
        Of the spatial palette: each axis by its own extent, or all by the longest.
    """

    palette: str = "spatial"
    frame: str = "view"
    normalize: str = "per-axis"

    def __post_init__(self) -> None:
        for name, allowed in (("palette", PALETTES), ("frame", FRAMES), ("normalize", NORMALIZATIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} of a colour code is one of {', '.join(allowed)}; got {getattr(self, name)!r}")

    def colors(self, centers: np.ndarray, box: np.ndarray, camera0: np.ndarray, to_object: np.ndarray,
               name: str = "") -> np.ndarray:
        """Colour of each part.

        Parameters
        ----------
        centers : ndarray, shape (K, 3)
            At frame 0, in the clip's axes.
        box : ndarray, shape (2, 3)
            Of the object at frame 0, in the axes of view 0.
        camera0, to_object : ndarray, shape (3, 3)
            Rotations from the clip's axes to those of view 0 and of the object.
        name : str
            Of the object: one name, one random palette.

        Returns
        -------
        ndarray, shape (K, 3)
            In [0, 1].

        Notes
        -----
        Clips know the object's box in the axes of their views alone. In the axes of the object the box of the part
        centres takes its place: it does not depend on the views either.
        """
        if self.palette == "random":
            return random_colors(len(centers), zlib.crc32(name.encode()))
        if self.frame == "view":
            return part_colors(centers, box, camera0, normalize=self.normalize)
        turned = np.asarray(centers, np.float64) @ np.asarray(to_object, np.float64).T
        return part_colors(turned, np.stack([turned.min(0), turned.max(0)]), frame="object", normalize=self.normalize)


SPATIAL = ColorCode()


def random_colors(count: int, seed: int) -> np.ndarray:
    """Random colours, far from each other and from white.

    Each is the one of some candidates that is farthest from all before it (Mitchell 1991); :func:`push_apart` then
    sees to the least distance.

    Parameters
    ----------
    count : int
    seed : int

    Returns
    -------
    ndarray, shape (count, 3)
        In [0, 1].
    """
    generator = np.random.default_rng(seed)
    taken = [WHITE]
    for _ in range(count):
        candidates = generator.random((CANDIDATES, 3))
        distances = np.linalg.norm(candidates[:, None] - np.stack(taken), axis=-1).min(1)
        taken.append(candidates[distances.argmax()])
    return push_apart(np.reshape(taken[1:], (-1, 3)))
