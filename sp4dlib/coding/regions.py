"""Part ids of pictures by a network that is unsure, inside silhouettes that are known.

A network that cannot tell where one part ends paints the mean of what it thinks possible: colours that run into each
other without a border, and paler than any true one. The model of :mod:`.decoding`, flat colours behind a blur and
noise, explains such a picture by many parts and thin seams. What is left in it is an order, as in a picture of
coordinates: pixels of like colour belong together, in all frames and views. So colours are smoothed inside the
silhouettes, cut into many small clusters, and these merged by Ward's rule (Ward 1963), which makes compact groups of
like spread; then each pixel goes to the group whose mean colour is nearest, twice.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sp4dlib.coding import explain

# Chosen together on clips of validation rigs and three states of one network. The seed of the
# clustering alone moves the score of six clips by 0.04.
SMOOTHING = 1 / 32      # standard deviation of the smoothing, in image sides
CLUSTERS = 80           # before merging, or as many as parts are told
MOST_PIXELS = 20_000    # from which the clusters are found
ROUNDS = 2


def cluster_parts(images: np.ndarray, inside: np.ndarray, num_parts: int, place: float = 0.0) -> np.ndarray:
    """Part ids by colour, jointly over all images.

    Parameters
    ----------
    images : ndarray of uint8, shape (S, H, W, 3)
        Part images.
    inside : ndarray of bool, shape (S, H, W)
        The silhouettes.
    num_parts : int
        At least 1.
    place : float
        Weight of a pixel's place, in image sides, against its colour, in [0, 1].

    Returns
    -------
    ndarray of int16, shape (S, H, W)
        -1 outside; inside, ids count parts from 0 by falling number of pixels. Fewer than ``num_parts`` where there are
        fewer colours.
    """
    out = np.full(inside.shape, -1, np.int16)
    if not inside.any():
        return out
    from sklearn.cluster import AgglomerativeClustering, KMeans

    _, row, column = np.nonzero(inside)
    places = np.stack([(column + 0.5) / inside.shape[2], (row + 0.5) / inside.shape[1]], 1)
    colors = np.concatenate([smoothed(images, inside)[inside], 255 * place * places], 1)
    chosen = np.random.default_rng(0).permutation(len(colors))[:MOST_PIXELS]
    count = min(max(CLUSTERS, num_parts), len(np.unique(colors[chosen].round(3), axis=0)))
    clusters = KMeans(count, n_init=1, random_state=0).fit(colors[chosen])
    labels = clusters.predict(colors)
    if count > num_parts:
        labels = AgglomerativeClustering(num_parts, linkage="ward").fit(clusters.cluster_centers_).labels_[labels]
        for _ in range(ROUNDS):
            labels = explain.nearest(colors, means(colors, by_size(labels)))
    out[inside] = by_size(labels)
    return out


def means(colors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of the rows (P, D) of each label, (L, D)."""
    return np.stack([np.bincount(labels, column) for column in colors.T], 1) / np.bincount(labels)[:, None]


def smoothed(images: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Colours (S, H, W, 3) in levels, each the Gaussian mean of what lies inside nearby; 0 far outside."""
    sigma = SMOOTHING * max(inside.shape[1:])
    weight = gaussian_filter(inside.astype(np.float64), (0, sigma, sigma))
    sums = gaussian_filter(np.where(inside[..., None], images, 0).astype(np.float64), (0, sigma, sigma, 0))
    return sums / np.maximum(weight, 1e-9)[..., None]


def by_size(labels: np.ndarray) -> np.ndarray:
    """Labels renamed to count from 0 by falling size, equal sizes in their old order."""
    old, index, size = np.unique(labels, return_inverse=True, return_counts=True)
    number = np.empty(len(old), int)
    number[np.argsort(-size, kind="stable")] = np.arange(len(old))
    return number[index]


def fill_silhouette(parts: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Parts for exactly the pixels of a known silhouette.

    Parameters
    ----------
    parts : ndarray of int, shape (S, H, W)
    inside : ndarray of bool, shape (S, H, W)

    Returns
    -------
    ndarray, shape and type of ``parts``
        Outside -1; inside, a pixel without a part takes that of the nearest pixel inside that has one, in the same
        image. In an image without any, all pixels take the part that is largest in the clip (0 if there is none).
    """
    parts, inside = np.asarray(parts), np.asarray(inside, bool)
    kept = np.where(inside, parts, -1)
    ids, sizes = np.unique(kept[kept >= 0], return_counts=True)
    largest = ids[sizes.argmax()] if len(ids) else 0
    out = np.empty_like(parts)
    for image, (labels, region) in enumerate(zip(kept, inside)):
        if (labels >= 0).any():
            row, column = distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
            labels = labels[row, column]
        else:
            labels = np.full_like(labels, largest)
        out[image] = np.where(region, labels, -1)
    return out
