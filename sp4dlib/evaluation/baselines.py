"""Parts without a trained network: what clustering, connected components and optical flow can do.

All are told the true silhouettes and the true number of parts, and see the true colours of all images of a clip at
once. Their constants were found by :func:`sp4dlib.evaluation.tuning.tune` on the rigs of the split ``val``
(``python -m benchmarks.baselines``). A backbone trained without labels, as DINO, is not among them: no package that
this library needs brings the weights of one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import label

RESTARTS = 4
SPACES = ("rgb", "lab")
FLOWS = ("tvl1", "ilk")


def kmeans_parts(rgb: np.ndarray, inside: np.ndarray, num_parts: int, *, space: str = "lab", position: float = 1.0,
                 seed: int = 0) -> np.ndarray:
    """K-means on colour and position, jointly over all images.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (S, H, W, 3)
    inside : ndarray of bool, shape (S, H, W)
        The silhouettes.
    num_parts : int
    space : {"rgb", "lab"}
        RGB in [0, 1], or CIE Lab over 100.
    position : float
        Weight of the pixel's place, column and row in [0, 1] of the image, against colour.
    seed : int

    Returns
    -------
    ndarray of int16, shape (S, H, W)
        -1 is background.
    """
    features = np.concatenate([_colors(rgb, space)[inside], position * _places(inside)], 1)
    return _spread(_clusters(features, num_parts, seed), inside)


def component_parts(rgb: np.ndarray, inside: np.ndarray, num_parts: int, *, levels: int = 4, position: float = 1.0,
                    seed: int = 0) -> np.ndarray:
    """Connected regions of one quantised colour, merged to the number of parts.

    Colours of the clip are quantised to ``levels`` by k-means in Lab; pixels of one level that touch (by a side,
    within an image) are a region. A region is described by its mean colour and the ``position``-weighted mean of its
    places; k-means with the regions' sizes as weights merges regions, of all images together, to parts. Other arguments
    and the result are those of :func:`kmeans_parts`.
    """
    colors, places = _colors(rgb, "lab")[inside], _places(inside)
    level = _spread(_clusters(colors, levels, seed), inside)
    region, count = np.zeros(inside.shape, np.int64), 0
    for image, ids in enumerate(level):
        for value in np.unique(ids[ids >= 0]):
            found, number = label(ids == value)
            region[image] += np.where(found > 0, found + count, 0)
            count += number
    members = region[inside] - 1
    sizes = np.bincount(members, minlength=count)
    features = np.concatenate([colors, position * places], 1)
    means = np.stack([np.bincount(members, column, count) / sizes for column in features.T], 1)
    return _spread(_clusters(means, num_parts, seed, sizes)[members], inside)


def flow_parts(rgb: np.ndarray, inside: np.ndarray, num_parts: int, *, method: str = "ilk", motion: float = 4.0,
               color: float = 0.0, seed: int = 0) -> np.ndarray:
    """K-means on optical flow and position, jointly over the frames of one camera.

    Each pixel has the flow to the next frame and from the frame before (at the ends, the one there is twice), in image
    sides. Flow is of scikit-image: ``tvl1`` (Zach et al. 2007) or ``ilk`` (iterative Lucas-Kanade).

    Parameters
    ----------
    rgb, inside, num_parts, seed
        As for :func:`kmeans_parts`; the first axis is time.
    method : {"tvl1", "ilk"}
    motion, color : float
        Weights of flow and of colour (Lab over 100) against position.

    Returns
    -------
    ndarray of int16, shape (S, H, W)

    Raises
    ------
    ValueError
        With fewer than two frames.
    """
    if len(rgb) < 2:
        raise ValueError(f"optical flow needs two frames; got {len(rgb)}")
    if method not in FLOWS:
        raise ValueError(f"method is one of {', '.join(FLOWS)}; got {method!r}")
    flows = _flows(np.ascontiguousarray(rgb).tobytes(), rgb.shape, method)
    features = np.concatenate([_places(inside), motion * flows[inside], color * _colors(rgb, "lab")[inside]], 1)
    return _spread(_clusters(features, num_parts, seed), inside)


@lru_cache(32)
def _flows(rgb: bytes, shape: tuple[int, ...], method: str) -> np.ndarray:
    """Flow onwards and from before of each pixel, (T, H, W, 4); kept, for it takes far longer than to cluster."""
    from skimage import registration
    from skimage.color import rgb2gray

    gray = rgb2gray(np.frombuffer(rgb, np.uint8).reshape(shape))
    function = getattr(registration, f"optical_flow_{method}")

    def flow(a: int, b: int) -> np.ndarray:
        return np.moveaxis(np.stack(function(gray[a], gray[b])), 0, -1) / shape[2]              # (H, W, 2)

    last = len(gray) - 1
    onwards = [flow(t, t + 1) for t in range(last)]
    back = [-flow(t, t - 1) for t in range(1, last + 1)]
    return np.stack([np.concatenate([onwards[t] if t < last else back[-1], back[t - 1] if t else onwards[0]], -1)
                     for t in range(last + 1)])


BASELINES = {"kmeans": kmeans_parts, "components": component_parts, "flow": flow_parts}


def _colors(rgb: np.ndarray, space: str) -> np.ndarray:
    if space not in SPACES:
        raise ValueError(f"space is one of {', '.join(SPACES)}; got {space!r}")
    if space == "rgb":
        return np.asarray(rgb) / 255
    from skimage.color import rgb2lab

    return rgb2lab(rgb) / 100


def _places(inside: np.ndarray) -> np.ndarray:
    """Column and row of the pixels inside, in image sides, shape (P, 2)."""
    _, row, column = np.nonzero(inside)
    return np.stack([(column + 0.5) / inside.shape[2], (row + 0.5) / inside.shape[1]], 1)


def _clusters(features: np.ndarray, count: int, seed: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Cluster of each row (P,); no more than there are different rows."""
    if count < 1:
        raise ValueError(f"the number of parts must be at least 1; got {count}")
    if not len(features):
        return np.zeros(0, np.int64)
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(features.round(9), axis=0)))
    return KMeans(count, n_init=RESTARTS, random_state=seed).fit_predict(features, sample_weight=weights)


def _spread(labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Labels of the pixels inside as images."""
    out = np.full(inside.shape, -1, np.int16)
    out[inside] = labels
    return out
