"""What a surface looks like: base colours over its area, and how far two regions differ in them."""

from __future__ import annotations

import numpy as np

from sp4dlib.rigs.rig import Appearance, Material

LEVELS = (np.arange(16) + 0.5) / 16     # quantiles that stand for a distribution of colours
# Where a texture is read in each triangle, as shares of its corners.
SPOTS = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / np.array([[3], [6], [6], [6]])


def face_colors(faces: np.ndarray, appearance: Appearance | None) -> np.ndarray:
    """Base colour (factor x texture x vertex colour) at four spots of each face, in CIELAB.

    Parameters
    ----------
    faces : ndarray of int, shape (F, 3)
    appearance : Appearance or None
        One grey without it.

    Returns
    -------
    ndarray, shape (F, 4, 3)
        L* (0 to 100), a*, b* under D65, so that a distance is a CIE76 difference: 2.3 is just noticeable.
    """
    from skimage.color import rgb2lab

    if appearance is None:
        return np.tile([50.0, 0, 0], (len(faces), len(SPOTS), 1))
    factors = np.array([material.base_color[:3] for material in appearance.materials], np.float64)
    base = np.repeat(factors[appearance.face_material][:, None], len(SPOTS), axis=1)                # (F, 4, 3)
    if appearance.vertex_colors is not None:
        base = base * np.einsum("sk,fkc->fsc", SPOTS, appearance.vertex_colors[faces][..., :3])
    if appearance.uv is not None:
        uv = np.einsum("sk,fkc->fsc", SPOTS, np.nan_to_num(appearance.uv)[faces])
        for number, material in enumerate(appearance.materials):
            chosen = np.flatnonzero(appearance.face_material == number) if material.texture is not None else ()
            if len(chosen):
                base[chosen] *= _texels(material, uv[chosen])
    return rgb2lab(srgb(base))


def srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB, both in [0, 1]."""
    c = np.clip(linear, 0, 1)
    return np.where(c < 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)


def linear(encoded: np.ndarray) -> np.ndarray:
    """sRGB to linear light, both in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def color_quantiles(colors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Quantiles of each channel at ``LEVELS``, shape (16, 3), of colours (S, 3) with weights (S,)."""
    out = np.empty((len(LEVELS), 3))
    for channel in range(3):
        order = np.argsort(colors[:, channel], kind="stable")
        ahead = np.cumsum(weights[order])
        place = np.searchsorted(ahead, LEVELS * ahead[-1])
        out[:, channel] = colors[order[np.minimum(place, len(order) - 1)], channel]
    return out


def color_distance(one: np.ndarray, two: np.ndarray) -> float:
    """How far two distributions of colours differ, in units of CIELAB.

    The Wasserstein-1 distance of each channel (the mean gap between quantiles), combined as a length.

    Parameters
    ----------
    one, two : ndarray, shape (16, 3)
        As :func:`color_quantiles` makes them.
    """
    return float(np.linalg.norm(np.abs(one - two).mean(0)))


def wrapped(index: np.ndarray, count: int, way: str) -> np.ndarray:
    """Texel that stands at any whole number along a side of ``count`` texels, for a wrap of a material."""
    if way == "REPEAT":
        return index % count
    if way == "CLAMP":
        return np.clip(index, 0, count - 1)
    index = index % (2 * count)
    return np.minimum(index, 2 * count - 1 - index)


def _texels(material: Material, uv: np.ndarray) -> np.ndarray:
    """Linear colours (..., 3) of the nearest texels at ``uv`` (..., 2)."""
    height, width = material.texture.shape[:2]
    column = wrapped(np.floor(uv[..., 0] * width).astype(np.int64), width, material.wrap[0])
    row = wrapped(np.floor(uv[..., 1] * height).astype(np.int64), height, material.wrap[1])
    return linear(np.arange(256) / 255)[material.texture[row, column, :3]]
