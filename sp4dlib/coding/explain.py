"""Part labels that re-render the picture: maps of ids under blur and noise, by iterated conditional modes.

The pieces of :mod:`sp4dlib.coding.decoding`, which holds the model. ``picture`` is n pictures (n, h, w, 3), ``labels``
(n, h, w) index the rows of ``palette`` (M, 3), whose row 0 is the background. Pixels are named by flat index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

NEAR = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
FAR = NEAR + ((-2, 0), (2, 0), (0, -2), (0, 2))
WIDE = tuple((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3))
SPARSE = WIDE[::2]           # every second pixel of 5 x 5
REACH = 2                    # pixels; the widest of these neighbourhoods
BLURS = (0.0, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.5)
MISFIT = 0.08                # error of the rendering at a border, as a share of the step in colour there
FAINT = 0.004                # share of a pixel's change that need not be followed until the next full rendering


@dataclass(frozen=True)
class Explanation:
    """Labels, the palette and the blur that explain a picture.

    Attributes
    ----------
    labels : ndarray of int, shape (n, h, w)
    palette : ndarray, shape (M, 3)
        Row 0 is the background.
    taps : ndarray, shape (r + 1,)
        Half of the symmetric blur kernel, centre first; it acts along rows and columns.
    smoothness : float
        Cost of a pair of neighbours (8 round each pixel) with different labels, in units of twice the noise variance.
    learn : bool
        Whether the palette is learned or known.
    """

    labels: np.ndarray
    palette: np.ndarray
    taps: np.ndarray
    smoothness: float
    learn: bool

    def render(self) -> np.ndarray:
        """The picture that the labels should give, (n, h, w, 3)."""
        return blur(self.palette[self.labels], self.taps)


def gaussian_taps(sigma: float) -> np.ndarray:
    """Half of a normalised Gaussian kernel of 5 taps."""
    if sigma == 0:
        return np.array([1.0], np.float32)
    taps = np.exp(-0.5 * (np.arange(3) / sigma) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def blur(picture: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter (n, h, w, C) along rows and columns; the border's value is held outside."""
    reach = len(taps) - 1
    if reach == 0:
        return picture
    for axis in (1, 2):
        length = picture.shape[axis]
        padded = np.pad(picture, [(reach, reach) if a == axis else (0, 0) for a in range(picture.ndim)], "edge")
        moved = [padded[(slice(None),) * axis + (slice(start, start + length),)] for start in range(2 * reach + 1)]
        picture = taps[0] * moved[reach]
        for d in range(1, reach + 1):
            both = moved[reach - d] + moved[reach + d]
            both *= taps[d]
            picture += both
    return picture


def neighbours(labels: np.ndarray, at: np.ndarray, offsets) -> np.ndarray:
    """Labels round the pixels with flat indices ``at`` (m,), shape (m, len(offsets)); the border repeats."""
    height, width = labels.shape[1:]
    if not len(offsets):
        return np.empty((len(at), 0), labels.dtype)
    padded = np.pad(labels, ((0, 0), (REACH, REACH), (REACH, REACH)), "edge")
    image, row, column = np.unravel_index(at, labels.shape)
    wide = width + 2 * REACH
    base = (image * (height + 2 * REACH) + row + REACH) * wide + column + REACH
    return padded.ravel()[base[:, None] + np.array([dy * wide + dx for dy, dx in offsets])]


def nearest(colors: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Index of the nearest palette row of each colour (m, 3)."""
    out = np.empty(len(colors), np.int64)
    norm = (palette**2).sum(1)
    for start in range(0, len(colors), 65536):
        chunk = colors[start:start + 65536]
        out[start:start + 65536] = np.argmin(norm - 2 * chunk @ palette.T, axis=1)
    return out


def borders(labels: np.ndarray) -> np.ndarray:
    """Pixels with another label among their eight neighbours, (n, h, w) bool."""
    mask = np.zeros(labels.shape, bool)
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
                 ((slice(None), slice(None), slice(1, None)), (slice(None), slice(None), slice(None, -1))),
                 ((slice(None), slice(1, None), slice(1, None)), (slice(None), slice(None, -1), slice(None, -1))),
                 ((slice(None), slice(1, None), slice(None, -1)), (slice(None), slice(None, -1), slice(1, None)))):
        differ = labels[a] != labels[b]
        mask[a] |= differ
        mask[b] |= differ
    return mask


def first_labels(picture: np.ndarray, flat: np.ndarray, foreground: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Nearest colour at flat pixels; elsewhere the nearest among those that a known pixel close by has.

    Known are first the flat pixels, then those that learned from them; a slope can be wider than the neighbourhood.
    """
    labels = np.zeros(picture.shape[:-1], np.int32)
    labels[foreground] = nearest(picture[foreground], palette)
    known = np.where(foreground & ~flat, np.int32(-1), labels)
    for _ in range(3):
        at = np.flatnonzero(known < 0)
        around = neighbours(known, at, WIDE)                                      # (m, 25)
        cost = ((picture.reshape(-1, 3)[at][:, None] - palette[around]) ** 2).sum(-1)
        cost[around < 0] = np.inf
        best = np.argmin(cost, axis=1)[:, None]
        known.ravel()[at] = np.take_along_axis(around, best, 1)[:, 0]             # still -1 where nothing is known
    return np.where(known < 0, labels, known)


def fit_blur(picture: np.ndarray, state: Explanation) -> Explanation:
    """The Gaussian blur of least squared error, over every few pictures."""
    some = slice(None, None, max(1, len(picture) // 4))
    painted = state.palette[state.labels[some]]
    errors = [((picture[some] - blur(painted, gaussian_taps(sigma))) ** 2).sum() for sigma in BLURS]
    return replace(state, taps=gaussian_taps(BLURS[int(np.argmin(errors))]))


def noise_variance(residual: np.ndarray, foreground: np.ndarray) -> float:
    """Robust variance of the residual, per channel, at least one level squared."""
    values = residual[foreground][::7]
    return max(1.0, float(np.median(values**2)) / 0.455) if values.size else 1.0


def improve(picture: np.ndarray, state: Explanation, foreground: np.ndarray, sweeps: int = 2) -> Explanation:
    """One step for the palette, then ``sweeps`` of iterated conditional modes for the labels.

    A pair of neighbours with different labels costs ``2 beta (s^2 + (MISFIT c)^2)``: s^2 is the variance of the noise,
    c the greatest step in colour round the pixel. B is only nearly the true blur, and where colours differ much an
    error of the rendering must not pass for evidence of a third part.

    Changing pixel x from label a to b changes the squared error by ``k |d|^2 - 2 d . q(x)``, with d the difference of
    the two colours, q the residual blurred once more (half the negative gradient) and k the energy of the blur kernel.
    Each label's colour takes a gradient step: the mean of q over its pixels. Only pixels at a border of their label
    are visited, after the first sweep only those close to a change; four interleaved quarters take turns, so that
    no two neighbours change at once.
    """
    labels, palette = state.labels.copy(), state.palette
    residual = picture - state.render()
    gradient = blur(residual, state.taps)
    noise = noise_variance(residual, foreground)

    def price(contrast):
        return 2 * state.smoothness * (noise + (MISFIT**2) * contrast)

    if state.learn:
        step = mean_by_label(gradient, labels, len(palette))
        palette = palette + step
        gradient -= step[labels]                # blurred twice only away from borders; the next call starts afresh
    active = borders(labels)
    for _ in range(sweeps):
        at = np.flatnonzero(active)
        row, column = np.unravel_index(at, labels.shape)[1:]
        before = labels.copy()
        for odd_row, odd_column in ((0, 0), (1, 1), (0, 1), (1, 0)):
            _visit(labels, palette, gradient, at[(row % 2 == odd_row) & (column % 2 == odd_column)], state.taps, price)
        active = ndimage.maximum_filter((before != labels).view(np.uint8), (1, 5, 5)).view(bool) & borders(labels)
    return replace(state, labels=labels, palette=palette)


def _visit(labels, palette, gradient, at, taps, price) -> None:
    """Give each pixel ``at`` the best label among those around it, in place."""
    around, now = neighbours(labels, at, FAR), labels.ravel()[at]
    cost = _change(palette, gradient, at, now, around, taps)
    step = palette[around[:, :len(NEAR)]] - palette[now][:, None]
    price = price(np.einsum("mcd,mcd->mc", step, step).max(1) / 3)
    for i in range(len(FAR)):
        cost[:, i] += price * (around[:, :len(NEAR)] != around[:, i, None]).sum(1)
    best = np.argmin(cost, axis=1)
    rows = np.arange(len(best))
    better = cost[rows, best] < price * (around[:, :len(NEAR)] != now[:, None]).sum(1) - 1e-3
    chosen, new = at[better], around[rows[better], best[better]]
    labels.ravel()[chosen] = new
    _spread(gradient, chosen, palette[new] - palette[now[better]], taps)


def _change(palette, gradient, at, now, then, taps) -> np.ndarray:
    """Change of the squared error when pixels ``at`` go from labels ``now`` (m,) to each of ``then`` (m, c)."""
    energy = float(taps[0] ** 2 + 2 * (taps[1:] ** 2).sum()) ** 2
    step = palette[then] - palette[now][:, None]                                  # (m, c, 3)
    slope = np.einsum("mcd,md->mc", step, gradient.reshape(-1, 3)[at])
    return energy * np.einsum("mcd,mcd->mc", step, step) - 2 * slope


def _spread(gradient, at, step, taps) -> None:
    """Bring the gradient up to date after pixels ``at`` have changed their colour by ``step`` (m, 3), in place."""
    full = np.concatenate([taps[:0:-1], taps])
    twice = np.convolve(full, full)                                               # blur after blur, one axis
    reach = len(twice) // 2
    height, width = gradient.shape[1:3]
    image, row, column = np.unravel_index(at, gradient.shape[:3])
    flat = gradient.reshape(-1, 3)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = twice[dy + reach] * twice[dx + reach]
            if weight < FAINT:
                continue
            inside = (row + dy >= 0) & (row + dy < height) & (column + dx >= 0) & (column + dx < width)
            flat[at[inside] + dy * width + dx] -= weight * step[inside]


def mean_by_label(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Mean of (n, h, w, 3) values over each label but the background, (count, 3); 0 for a label without pixels."""
    at = np.flatnonzero(labels)
    flat, values = labels.ravel()[at], values.reshape(-1, 3)[at]
    size = np.maximum(np.bincount(flat, minlength=count), 1)
    return np.stack([np.bincount(flat, values[:, c], count) / size for c in range(3)], -1).astype(np.float32)


def core_share(labels: np.ndarray, count: int) -> np.ndarray:
    """Share of each label's pixels that have only their own kind round them, (count,)."""
    size = np.bincount(labels.ravel(), minlength=count)
    return 1 - np.bincount(labels.ravel(), borders(labels).ravel(), count) / np.maximum(size, 1)


def worth(picture: np.ndarray, state: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """By how much the squared error grows if a label is given up, and what would replace it, pixel by pixel.

    A pixel of a label that goes takes the best of the labels around it and of the label nearest in colour. Each pixel
    is judged as if it changed alone, which ranks labels well and costs one pass.

    Returns
    -------
    loss : ndarray, shape (M,)
    heirs : ndarray of int, shape (n, h, w)
    """
    labels, palette = state.labels, state.palette
    gradient = blur(picture - state.render(), state.taps)
    distance = ((palette[:, None] - palette) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    closest = distance.argmin(1).astype(labels.dtype)
    heirs = closest[labels]
    loss = np.zeros(len(palette))
    edge = borders(labels)
    for mask, offsets in ((edge, SPARSE), (~edge, ())):
        at = np.flatnonzero(mask & (labels > 0))
        now = labels.ravel()[at]
        then = np.concatenate([neighbours(labels, at, offsets), closest[now][:, None]], 1)
        cost = _change(palette, gradient, at, now, then, state.taps)
        cost[then == now[:, None]] = np.inf
        best = np.argmin(cost, axis=1)
        rows = np.arange(len(best))
        heirs.ravel()[at] = then[rows, best]
        loss += np.bincount(now, np.maximum(cost[rows, best], 0), len(palette))
    return loss, heirs
