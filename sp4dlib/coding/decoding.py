"""Part images back to part ids: find the labels that, painted and blurred, give the picture.

A part image that has been through an autoencoder, a sampler or a scaler is no longer flat: it is noisy, and where
parts meet their colours mix. A mixture of two parts can have exactly the colour of a third, so that no rule which looks
at single pixels can be right. The model says how the picture came about,

    ``y = B P[x] + n,``

with x the part of each pixel, P the colours (the background among them), B a small blur and n noise, and :func:`decode`
looks for the x, P and B that explain y best at the price of few borders:

    ``min  |y - B P[x]|^2 / (2 s^2)  +  beta * #{neighbouring pixels with different parts},``

s^2 being the variance of what stays unexplained (with an allowance where colours differ much, for a B that is not
quite the true blur). Under this model a border needs no third part: the two that meet
there already predict the mixture. The steps:

1. *Clean pictures* are recognised (few colours, far apart, none a blend of its neighbours) and read off exactly.
2. *Seeds.* Peaks of the colour histogram of all frames and views together, over a smoothed picture, each pixel weighted
   by how flat its surroundings are; mixtures hardly count. There may be too many.
3. *First labels.* The nearest seed at flat pixels; elsewhere the nearest among those that flat pixels nearby have.
4. *Descent*, in turns: B by a search over Gaussians, P by gradient steps, x by iterated conditional modes (Besag 1986).
5. *More seeds.* Pixels that are still far from explained vote for colours that were missed: thin parts have no flat
   pixels.
6. *Pruning.* Seeds go, their pixels to what explains them next best: first those that are in doubt because they lower
   the error by little or have no inside, as a line of mixtures along a border has none, then those whose loss would
   raise the error least; until as many are left as there are parts, or, if that is unknown, until none is in doubt.

Pictures of at most ``SMALL`` pixels a side have parts with no inside at all. The same model is solved for them with
probable instead of hard labels and a noise whose covariance is learned: see :mod:`.soft`.

Where the silhouettes are known, pictures of a network that is unsure are read by :mod:`.regions`.

The paper (SP4D, arXiv 2509.10687, section 3.1) snaps the picture to segments of SAM and clusters colours with HDBSCAN
instead.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from sp4dlib.coding import explain, regions, soft
from sp4dlib.coding.colors import MIN_DISTANCE
from sp4dlib.coding.palette import clean_palette, flatness, pack, seed_colors

log = logging.getLogger(__name__)

SMOOTHNESS = 3.0            # beta, found on clips of training rigs
FOREGROUND = 20             # levels from white at which a smoothed pixel is not background
MOST_SEEDS = 160
SMALL = 80                  # pixels of the longer side; at most so large, pictures are explained by :mod:`.soft`
# A label is doubtful unless it lowers the error by that many times 2 s^2, and that share of its pixels lies inside it:
# a stray mixture is a line along a border and has no inside. Found on clips of training rigs.
EARNS, CORE = 150.0, 0.2


def decode(images: np.ndarray, num_parts: int | None = None, colors: np.ndarray | None = None, *,
           inside: np.ndarray | None = None, place: float = 0.0, min_distance: float = MIN_DISTANCE,
           smoothness: float = SMOOTHNESS) -> np.ndarray:
    """Part ids of part images, jointly over all frames and views.

    Exact on clean pictures, whatever the sizes of the parts; for damaged ones see the module.

    Parameters
    ----------
    images : array_like of uint8, shape (..., H, W, 3)
        Part images of one object; the background is white.
    num_parts : int, optional
        How many parts there are; fewer come back if the pictures show fewer. Estimated if left out.
    colors : array_like, shape (K, 3), optional
        The parts' colours in [0, 1], if they are known.
    inside : array_like of bool, shape (..., H, W), optional
        The silhouettes, if they are known: exactly their pixels get parts. Damaged pictures are then cut into regions
        of like colour (:func:`~sp4dlib.coding.regions.cluster_parts`), which suits colours that run into each other;
        the number of parts is still estimated as without, where it is left out. Not together with ``colors``.
    place : float
        With ``inside``: the weight of a pixel's place in its image against its colour, both in [0, 1]. More than 0 only
        where one camera took all images, and things move little; without ``inside`` it has no effect.
    min_distance : float
        Least distance of two colours in the code, see :func:`~sp4dlib.coding.part_colors`.
    smoothness : float
        The price beta of a border. More smooths noise away, and the thinnest parts with it.

    Returns
    -------
    ndarray of int16, shape (..., H, W)
        -1 is background. With ``colors``, id k is row k. Otherwise ids count parts from 0 by falling number of pixels,
        equal numbers by colour (red, then green, then blue); they are the true ids up to a renaming.

    Raises
    ------
    ValueError
        On images that are not uint8 with three channels, and on ``num_parts``, ``colors`` or ``inside`` that make no
        sense.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 of shape (..., H, W, 3); got {images.dtype} {images.shape}")
    if num_parts is not None and (num_parts != int(num_parts) or num_parts < 0):
        raise ValueError(f"num_parts must be a whole number of parts, 0 or more; got {num_parts}")
    if colors is not None:
        colors = np.asarray(colors, np.float64)
        if colors.ndim != 2 or colors.shape[1] != 3 or not np.all((colors >= 0) & (colors <= 1)):
            raise ValueError(f"colors must be (K, 3) in [0, 1]; got shape {colors.shape}")
        colors = np.round(255 * colors)
    stack = images.reshape(-1, *images.shape[-3:])
    levels = 255 * min_distance
    read = _read_clean(stack, num_parts, colors, 0.9 * levels)
    if inside is not None:
        inside = np.asarray(inside)
        if colors is not None or inside.dtype != bool or inside.shape != images.shape[:-1]:
            raise ValueError(f"inside must be bool of shape {images.shape[:-1]}, and no colors beside it; got "
                             f"{inside.dtype} {inside.shape}{' and colors' if colors is not None else ''}")
        return _inside(stack, num_parts, inside.reshape(stack.shape[:-1]), read, levels,
                       smoothness, place).reshape(images.shape[:-1])
    labels, palette = read if read is not None else _explain(stack, num_parts, colors, levels, smoothness)
    if colors is None:
        labels = _rename(labels, palette)
    return (labels - 1).astype(np.int16).reshape(images.shape[:-1])


def _inside(stack, num_parts, inside, read, levels, smoothness, place) -> np.ndarray:
    """Ids (S, H, W) of exactly the pixels ``inside``."""
    if read is not None:
        return regions.fill_silhouette((_rename(*read) - 1).astype(np.int16), inside)
    if num_parts is None:
        num_parts = len(np.unique(_explain(stack, None, None, levels, smoothness)[0])) - 1
    return regions.cluster_parts(stack, inside, max(num_parts, 1), place)


def _read_clean(stack, num_parts, colors, min_levels) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels (0 = background) and palette of an undamaged clip; None if it is damaged."""
    found = clean_palette(stack, num_parts, min_levels)
    if found is None:
        return None
    palette = np.vstack([[[255] * 3], found[(found < 255).any(1)] if colors is None else colors]).astype(np.uint32)
    codes, known = pack(stack), pack(palette)
    order = np.argsort(known[1:], kind="stable") + 1
    place = np.searchsorted(known[order], codes)
    hit = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(codes.shape, int)
    labels = np.where(codes == known[0], 0, hit)
    return (labels, palette) if np.array_equal(known[labels], codes) else None


def _explain(stack, num_parts, colors, levels, smoothness) -> tuple[np.ndarray, np.ndarray]:
    """Labels (0 = background) and palette of a damaged clip."""
    labels = np.zeros(stack.shape[:-1], np.int32)
    smooth = explain.blur(stack.astype(np.float32), explain.gaussian_taps(1.0))
    foreground = ((255 - smooth) ** 2).sum(-1) > FOREGROUND**2
    if not foreground.any():
        return labels, np.full((1, 3), 255.0)
    if max(stack.shape[1:3]) <= SMALL:
        return soft.explain_small(stack.astype(np.float32), num_parts, colors, levels, smoothness / SMOOTHNESS)
    rows, columns = np.flatnonzero(foreground.any((0, 2))), np.flatnonzero(foreground.any((0, 1)))
    crop = np.s_[:, max(rows[0] - 4, 0):rows[-1] + 5, max(columns[0] - 4, 0):columns[-1] + 5]
    picture, smooth, foreground = stack[crop].astype(np.float32), smooth[crop], foreground[crop]
    flat = flatness(smooth, foreground)
    # Clipping at 255 darkens a noisy white: take the background as it is.
    white = picture[~foreground].mean(0) if not foreground.all() else np.full(3, 255)
    seeds = seed_colors(smooth, flat, foreground, levels / 2, MOST_SEEDS) if colors is None else colors
    palette = np.vstack([white, seeds]).astype(np.float32)
    light = explain.blur(picture, explain.gaussian_taps(0.6))
    first = explain.first_labels(light, flat > 0.3, foreground, palette)
    state = explain.Explanation(first, palette, explain.gaussian_taps(0.0), smoothness, colors is None)
    state = explain.fit_blur(picture, state)
    state = explain.improve(picture, state, foreground)
    state = explain.fit_blur(picture, explain.improve(picture, state, foreground))
    if colors is None:
        state = _add_missing(picture, light, state, levels)
        state = explain.improve(picture, state, foreground)
        state = _prune(picture, state, foreground, num_parts, levels)
    for _ in range(2):
        state = explain.improve(picture, state, foreground)
    labels[crop] = state.labels
    return labels, state.palette


def _add_missing(picture, light, state, levels) -> explain.Explanation:
    """New seeds from the pixels that are off by more than half the least distance of two colours."""
    residual = explain.blur(picture - state.render(), state.taps)
    unexplained = (residual**2).sum(-1) > (levels / 2) ** 2
    if not unexplained.any():
        return state
    seeds = seed_colors(light, unexplained, unexplained, levels / 2, MOST_SEEDS, taken=state.palette)
    palette = np.vstack([state.palette, seeds]).astype(np.float32)
    labels = state.labels.copy()
    choice = explain.nearest(light[unexplained], palette)
    labels[unexplained] = np.where(choice < len(state.palette), labels[unexplained], choice)
    log.debug("%d more seeds", len(seeds))
    return replace(state, labels=labels, palette=palette)


def _prune(picture, state, foreground, num_parts, levels) -> explain.Explanation:
    """Give up labels until ``num_parts`` are left or, if that is None, until none of them is doubtful.

    Of two colours nearer than half the least distance, white among them, at most one is a part: the other goes first.
    """
    while True:
        present = np.flatnonzero(np.bincount(state.labels.ravel(), minlength=len(state.palette)))
        present = present[present > 0]
        excess = len(present) - (num_parts or 0)
        if not len(present) or (num_parts is not None and excess <= 0):
            return state
        loss, heirs = explain.worth(picture, state)
        loss = np.where(_doubles(state, loss, levels / 2), 0, loss)
        noise = explain.noise_variance(picture - state.render(), foreground)
        doubtful = (loss < EARNS * 2 * noise) | (explain.core_share(state.labels, len(loss)) < CORE)
        order = present[np.lexsort((loss[present], ~doubtful[present]))]
        if num_parts is None:
            excess = int(doubtful[present].sum())
            if not excess:
                return state
        drop = order[:(excess + 1) // 2]           # in halves: pixels of those that go may save others, or their double
        kept = np.setdiff1d(np.append(present, 0), drop)
        labels = np.where(np.isin(state.labels, drop), heirs, state.labels)
        lost = np.isin(labels, drop)                                 # the heir goes too
        labels[lost] = kept[explain.nearest(state.palette[labels[lost]], state.palette[kept])]
        number = np.zeros(len(state.palette), np.int32)
        number[kept] = np.arange(len(kept))
        state = replace(state, labels=number[labels], palette=state.palette[kept])
        state = explain.improve(picture, state, foreground, sweeps=1)


def _doubles(state, loss, least) -> np.ndarray:
    """Labels with a colour nearer than ``least`` to that of a label worth more, or to the background's, (M,) bool."""
    near = np.linalg.norm(state.palette[:, None] - state.palette, axis=-1) < least
    rank = np.append(np.inf, loss[1:])
    double = (near & (rank[:, None] < rank)).any(1)
    double[0] = False
    return double


def _rename(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Number parts from 1 by falling size, then by colour; 0 stays."""
    size = np.bincount(labels.ravel(), minlength=len(palette))[1:]
    order = np.lexsort((*palette[1:].T[::-1], -size)) + 1
    number = np.zeros(len(palette), np.int64)
    number[order] = np.arange(1, len(palette))
    return number[labels]
