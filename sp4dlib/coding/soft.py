"""Part labels of small pictures: probabilities instead of labels, and a noise that knows its neighbours.

Where parts are two pixels wide every pixel lies at a border, and no pixel shows a pure colour to start from. Labels are
then found together with everything else, by variational expectation maximisation for the model of
:mod:`sp4dlib.coding.decoding`, ``y = B P[x] + n`` with the Potts price of borders, and two changes:

*The noise n is Gaussian with a covariance S over patches of 2 x 2 pixels* (12 x 12 numbers, the same for all patches),
learned with the rest. An autoencoder keeps the brightness of each pixel but the hue of a patch only: what it loses is
large in some directions of a patch and small in others, and labels have to agree with the picture where it can be
trusted. White noise is the special case of a multiple of the identity.

*Labels are probabilities* q (mean field): those of a pixel are, given the means of all others,

    ``q_k ~ exp( P_k . (g + H m) - P_k . H P_k / 2 + beta * sum of the q_k of the 8 neighbours ),``

with ``g = B' S^-1 (y - B m)`` the gradient, m the mean colour ``sum_k q_k P_k`` of the pixel and H the 3 x 3 block of
``B' S^-1 B`` of a pixel with itself. S takes in the variance that q leaves (the E step of EM), so that it starts wide
and narrows as labels settle; P solves its normal equations given q.

What an autoencoder of patches loses shows before any label is known: borders do not know its grid, so a picture whose
patches on the grid vary less than those that straddle it has lost the difference (:func:`missing`). S starts with it.
Without that, the colours of half-mixed patches pass for parts of their own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from sp4dlib.coding import explain
from sp4dlib.coding.palette import seed_colors

log = logging.getLogger(__name__)

SIDE = 2                    # pixels; of a patch
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))           # pixels of a patch, those that meet at corners in turn
FIRST_NOISE = 12.0          # levels
LEAST_NOISE = 1.5           # levels; rounding, and labels never become certain by accident
FOREGROUND = 20             # levels from white at which a pixel may belong to a part
MOST_SEEDS = 48
SIMILAR = 10.0              # levels; neighbours this near speak for a colour that is no accident
SUPPORT = 1.5               # pixels that a seed must speak for
# A pixel earns its label what the label explains it better than any rival, in nats, at most MOST_EARNED, less COST: a
# covariance learned from the same labels is too sure of them. A mixture of two neighbours is a rival with MIXTURE nats
# less. A label that earns less than EARNS is not worth its colour. Found on clips of validation objects.
MOST_EARNED, COST, MIXTURE = 10.0, 3.0, 2.0
EARNS = 20.0


@dataclass(frozen=True)
class Soft:
    """Probable labels and what they explain.

    Attributes
    ----------
    picture : ndarray, shape (n, h, w, 3)
        h and w even.
    chance : ndarray, shape (n, h, w, M)
        Of each label at each pixel.
    palette : ndarray, shape (M, 3)
        Row 0 is the background.
    taps : ndarray
        Half of the blur kernel, see :class:`.explain.Explanation`.
    precision : ndarray, shape (12, 12)
        Inverse covariance of the noise over a patch: its pixels row by row, three channels each.
    beta : float
        Price of two neighbours with different labels, nats.
    active : ndarray of int, shape (m,)
        Patches that may show parts; all others are background.
    lost : ndarray, shape (12, 12)
        Part of the covariance that is known beforehand, see `missing`.
    """

    picture: np.ndarray
    chance: np.ndarray
    palette: np.ndarray
    taps: np.ndarray
    precision: np.ndarray
    beta: float
    active: np.ndarray
    lost: np.ndarray

    def residual(self) -> np.ndarray:
        """What the mean colours leave unexplained, (n, h, w, 3)."""
        return self.picture - explain.blur(self.chance @ self.palette, self.taps)

    def labels(self) -> np.ndarray:
        """The most probable label of each pixel, (n, h, w)."""
        return self.chance.argmax(-1).astype(np.int32)


def fold(picture: np.ndarray) -> np.ndarray:
    """(n, h, w, C) to patches (m, 4, C)."""
    n, h, w, c = picture.shape
    blocks = picture.reshape(n, h // SIDE, SIDE, w // SIDE, SIDE, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(-1, SIDE * SIDE, c)


def unfold(patches: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Patches (m, 4, C) back to (n, h, w, C); ``shape`` is (n, h, w)."""
    n, h, w = shape
    blocks = patches.reshape(n, h // SIDE, w // SIDE, SIDE, SIDE, -1).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h, w, -1)


def weigh(residual: np.ndarray, precision: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """``B' S^-1 r``: the gradient of the log likelihood in the picture before the blur."""
    patches = fold(residual)
    weighed = (patches.reshape(len(patches), -1) @ precision).reshape(patches.shape)
    return explain.blur(unfold(weighed, residual.shape[:3]), taps)


def curvature(precision: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """H of each pixel of a patch, (2, 2, 3, 3): the answer of `weigh` to a blurred point."""
    out = np.empty((SIDE, SIDE, 3, 3), np.float32)
    for a, b in PHASES:
        point = np.zeros((3, 12, 12, 3), np.float32)
        point[[0, 1, 2], 4 + a, 4 + b, [0, 1, 2]] = 1
        out[a, b] = weigh(explain.blur(point, taps), precision, taps)[:, 4 + a, 4 + b]
    return out


def scores(state: Soft, phase: tuple[int, int], block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log chances of the labels at the active pixels of a phase, given the means of all others.

    Returns
    -------
    pull : ndarray, shape (m, 3)
        ``g + H m``: a colour c explains the pixel with ``c . pull - c . H c / 2`` nats.
    data, around : ndarray, shape (m, M)
        That of each label's colour; and how many neighbours have the label.
    """
    a, b = phase
    at = np.s_[:, a::SIDE, b::SIDE]
    count = len(state.palette)
    gradient = weigh(state.residual(), state.precision, state.taps)[at].reshape(-1, 3)[state.active]
    pull = gradient + state.chance[at].reshape(-1, count)[state.active] @ state.palette @ block
    padded = np.pad(state.chance, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    h, w = state.chance.shape[1:3]
    around = sum(padded[:, 1 + a + dy:1 + h + dy:SIDE, 1 + b + dx:1 + w + dx:SIDE] for dy, dx in explain.NEAR)
    own = 0.5 * np.einsum("kc,cd,kd->k", state.palette, block, state.palette)
    return pull, pull @ state.palette.T - own, around.reshape(-1, count)[state.active]


def sweep(state: Soft) -> Soft:
    """One round of mean field, a quarter of the pixels at a time."""
    state = replace(state, chance=state.chance.copy())
    blocks = curvature(state.precision, state.taps)
    for a, b in PHASES:
        _, score, around = scores(state, (a, b), blocks[a, b])
        score += state.beta * around
        score = np.exp(score - score.max(1, keepdims=True))
        score /= score.sum(1, keepdims=True)
        part = state.chance[:, a::SIDE, b::SIDE]
        flat = part.reshape(-1, part.shape[-1])
        flat[state.active] = score
        state.chance[:, a::SIDE, b::SIDE] = flat.reshape(part.shape)
    return state


def fit_noise(state: Soft) -> Soft:
    """The covariance that residual and uncertainty of the labels leave."""
    residual = fold(state.residual())[state.active].reshape(len(state.active), -1)
    covariance = residual.T @ residual / max(len(residual), 1)
    energy = float(state.taps[0] ** 2 + 2 * (state.taps[1:] ** 2).sum()) ** 2
    chance = fold(state.chance)[state.active]
    for p in range(SIDE * SIDE):
        mean = chance[:, p] @ state.palette
        spread = state.palette.T @ (chance[:, p].mean(0)[:, None] * state.palette) - mean.T @ mean / max(len(mean), 1)
        covariance[3 * p:3 * p + 3, 3 * p:3 * p + 3] += energy * spread
    covariance = covariance + state.lost + LEAST_NOISE**2 * np.eye(len(covariance))
    return replace(state, precision=np.linalg.inv(covariance).astype(np.float32))


def fit_palette(state: Soft) -> Soft:
    """The colours that explain the picture best given the chances; the background keeps its own."""
    count = len(state.palette)
    if count < 2:
        return state
    chance = fold(explain.blur(state.chance, state.taps))[state.active].astype(np.float64)
    picture = fold(state.picture)[state.active]
    weighed = (picture.reshape(len(picture), -1) @ state.precision).reshape(picture.shape)
    right = sum(chance[:, p].T @ weighed[:, p] for p in range(SIDE * SIDE))
    left = np.zeros((count, 3, count, 3))
    for p in range(SIDE * SIDE):
        for q in range(SIDE * SIDE):
            both = chance[:, p].T @ chance[:, q]
            left += both[:, None, :, None] * state.precision[3 * p:3 * p + 3, 3 * q:3 * q + 3][None, :, None]
    right = right[1:] - np.einsum("kcd,d->kc", left[1:, :, 0], state.palette[0])
    left = left[1:, :, 1:].reshape(3 * count - 3, -1)
    hold = 1 / FIRST_NOISE**2                      # one pixel's worth: labels without pixels stay where they are
    left[np.diag_indices(len(left))] += hold
    solved = np.linalg.solve(left, (right + hold * state.palette[1:]).ravel()).reshape(-1, 3)
    palette = np.vstack([state.palette[:1], np.clip(solved, -10, 265)]).astype(np.float32)
    return replace(state, palette=palette)


def fit_blur(state: Soft) -> Soft:
    """The Gaussian that leaves the least squared error."""
    painted = state.chance @ state.palette
    errors = [((state.picture - explain.blur(painted, explain.gaussian_taps(sigma))) ** 2).sum()
              for sigma in explain.BLURS[:6]]
    return replace(state, taps=explain.gaussian_taps(explain.BLURS[int(np.argmin(errors))]))


def worth(state: Soft) -> np.ndarray:
    """Nats that each label earns over what would take its place, pixel by pixel, (M,).

    In its place comes the second best label, or a mixture of two labels that lie next to the pixel, which costs
    ``MIXTURE`` nats: a label that only stands for mixtures along a border earns nothing.
    """
    blocks = curvature(state.precision, state.taps)
    earned = np.zeros(len(state.palette))
    for a, b in PHASES:
        pull, data, around = scores(state, (a, b), blocks[a, b])
        total = data + state.beta * around
        rows, best = np.arange(len(total)), total.argmax(1)
        won = total[rows, best]
        total[rows, best] = -np.inf
        around[rows, best] = -1
        rival = np.maximum(total.max(1), _mixture(state.palette, pull, blocks[a, b], around)
                           + state.beta * np.maximum(around.max(1), 0) - MIXTURE)
        earned += np.bincount(best, np.minimum(won - rival, MOST_EARNED) - COST, len(earned))
    return earned


def _mixture(palette: np.ndarray, pull: np.ndarray, block: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Nats of the best mixture of two of the three labels that are most ``around`` each pixel, (m,)."""
    most = min(3, around.shape[1])
    near = np.argpartition(-around, most - 1, axis=1)[:, :most]
    present = np.take_along_axis(around, near, 1) > 0.5
    best = np.full(len(pull), -np.inf)
    for i in range(most):
        for j in range(i):
            start, along = palette[near[:, i]], palette[near[:, j]] - palette[near[:, i]]
            bent = along @ block
            length = np.maximum((along * bent).sum(1), 1e-9)
            share = np.clip(((pull - start @ block) * along).sum(1) / length, 0, 1)[:, None]
            color = start + share * along
            nats = (color * pull).sum(1) - 0.5 * ((color @ block) * color).sum(1)
            best = np.where(present[:, i] & present[:, j], np.maximum(best, nats), best)
    return best


def drop(state: Soft, gone: np.ndarray) -> Soft:
    """Give up labels; their chance goes to the others of their pixel, or else to the nearest colour."""
    kept = np.setdiff1d(np.arange(len(state.palette)), gone)
    chance = state.chance[..., kept].copy()
    near = ((state.palette[gone][:, None] - state.palette[kept]) ** 2).sum(-1).argmin(1)
    for label, heir in zip(gone, near):
        chance[..., heir] += state.chance[..., label]
    return replace(state, chance=chance, palette=state.palette[kept])


def seeds(picture: np.ndarray, foreground: np.ndarray, levels: float) -> np.ndarray:
    """Colours that may be parts' (M, 3): peaks of the histogram of pixels that have two neighbours like them."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1e3)
    h, w = picture.shape[1:3]
    away = np.stack([((padded[:, 1 + dy:1 + h + dy, 1 + dx:1 + w + dx] - picture) ** 2).sum(-1)
                     for dy, dx in explain.NEAR])
    second = np.partition(away, 1, axis=0)[1]
    weight = np.exp(-second / (2 * SIMILAR**2)) + 0.1
    return seed_colors(picture, weight, foreground, levels / 2, MOST_SEEDS, support=SUPPORT)


def start(picture: np.ndarray, palette: np.ndarray, foreground: np.ndarray, beta: float) -> Soft:
    """Chances by colour alone."""
    active = np.flatnonzero(fold(foreground[..., None]).any((1, 2)))
    chance = np.zeros((*picture.shape[:3], len(palette)), np.float32)
    chance[..., 0] = 1
    away = ((picture[foreground][:, None] - palette) ** 2).sum(-1) / (2 * FIRST_NOISE**2)
    near = np.exp(away.min(1, keepdims=True) - away)
    chance[foreground] = near / near.sum(1, keepdims=True)
    lost = missing(picture, foreground)
    precision = np.linalg.inv(lost + FIRST_NOISE**2 * np.eye(len(lost))).astype(np.float32)
    return Soft(picture, chance, palette, explain.gaussian_taps(0.0), precision, beta, active, lost)


def missing(picture: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """What patches lack that an autoencoder has coded one by one, (12, 12): a covariance.

    The borders of parts do not know its grid. If patches on the grid vary less than patches that straddle it, by so
    much has the code made them alike.
    """
    def covariance(shift):
        moved = fold(picture[:, shift:shift - SIDE or None, shift:shift - SIDE or None])
        inside = fold(foreground[:, shift:shift - SIDE or None, shift:shift - SIDE or None, None]).any((1, 2))
        values = moved[inside]
        values = (values - values.mean(1, keepdims=True)).reshape(len(values), -1)
        return values.T @ values / max(len(values), 1)

    value, vector = np.linalg.eigh(covariance(1) - covariance(0))
    return (vector * np.maximum(value, 0)) @ vector.T




def settle(state: Soft, rounds: int, learn: bool) -> Soft:
    """Rounds of expectation maximisation."""
    for _ in range(rounds):
        state = fit_noise(sweep(state))
        if learn:
            state = fit_palette(state)
    return state


def prune(state: Soft, num_parts: int | None, levels: float) -> Soft:
    """Give up labels until ``num_parts`` are left or, if that is None, until each earns its place.

    Of two colours nearer than half the least distance, white among them, at most one is a part: the other goes first.
    """
    while len(state.palette) > 1:
        earned = worth(state)
        near = np.linalg.norm(state.palette[:, None] - state.palette, axis=-1) < levels / 2
        rank = np.append(np.inf, earned[1:])
        earned[(near & (rank[:, None] < rank)).any(1)] = 0
        order = np.argsort(earned[1:], kind="stable") + 1
        excess = len(order) - (num_parts or 0) if num_parts is not None else int((earned[1:] < EARNS).sum())
        if excess <= 0:
            return state
        state = settle(drop(state, order[:-(-excess // 6)]), 1, True)
    return state


def explain_small(picture: np.ndarray, num_parts: int | None, colors: np.ndarray | None, levels: float,
                  beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels (0 = background) and palette of a damaged clip of small pictures (n, h, w, 3)."""
    whole = picture.shape[:3]
    picture = np.pad(picture, ((0, 0), (0, whole[1] % SIDE), (0, whole[2] % SIDE), (0, 0)), "edge")
    foreground = ((255 - explain.blur(picture, explain.gaussian_taps(0.7))) ** 2).sum(-1) > FOREGROUND**2
    padded = foreground.shape
    rows, columns = np.flatnonzero(foreground.any((0, 2))), np.flatnonzero(foreground.any((0, 1)))
    top, left = max(rows[0] // SIDE * SIDE - 2, 0), max(columns[0] // SIDE * SIDE - 2, 0)
    crop = np.s_[:, top:(rows[-1] // SIDE + 2) * SIDE, left:(columns[-1] // SIDE + 2) * SIDE]
    picture, foreground = picture[crop], foreground[crop]
    white = picture[~foreground].mean(0) if not foreground.all() else np.full(3, 255.0)
    found = seeds(picture, foreground, levels) if colors is None else colors
    state = start(picture, np.vstack([white, found]).astype(np.float32), foreground, beta)
    state = settle(state, 3, colors is None)
    state = settle(fit_blur(state), 3, colors is None)
    if colors is None:
        state = prune(state, num_parts, levels)
    state = settle(fit_blur(state), 4, colors is None)
    labels = np.zeros(padded, np.int32)
    labels[crop] = state.labels()
    return labels[:, :whole[1], :whole[2]], state.palette
