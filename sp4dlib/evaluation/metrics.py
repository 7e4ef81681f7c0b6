"""How well predicted parts agree with true ones, whatever their ids are called.

The scores of SP4D's table 1 (arXiv 2509.10687): mIoU, ARI, F1 and mAcc, with ids matched by the Hungarian algorithm
on IoU and parts that the first image does not show left out. Where the paper is silent, :func:`segmentation_scores`
says what is done here.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.optimize import linear_sum_assignment


def segmentation_scores(predicted: np.ndarray, true: np.ndarray) -> dict:
    """Scores of predicted part ids against true ones, over a whole clip at once.

    One table counts the pixels of each pair (predicted id, true id); everything follows from it. Predicted and true
    parts are matched one to one so that the sum of their IoU is greatest; a part therefore has to keep its id over all
    frames and views to score. True parts that are absent from image 0 (the first over the leading axes) are left out:
    neither they nor the pixels they cover count anywhere.

    Parameters
    ----------
    predicted, true : array_like of int, equal shapes (..., H, W)
        Ids; negative = background. Arrays of one axis (vertex labels) count as one image.

    Returns
    -------
    dict
        ``miou``, ``f1``, ``macc``: means over the true parts of IoU, of the harmonic mean of pixel precision and
        recall, and of recall; 0 for a part without a match. Predicted part pixels on true background count against
        IoU and F1. ``ari``: adjusted Rand index (Hubert and Arabie 1985) on the pixels of the true parts; needs no
        matching, and predicted background is one more cluster. ``num_parts``, ``num_predicted``: true and predicted
        parts that count. ``ids``: the true ids, ascending; ``matched``: the predicted id of each, -1 where it has
        none; ``iou``: the IoU of each.

    Raises
    ------
    ValueError
        If shapes differ, ids are no integers, or image 0 shows no true part.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape:
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} must have one shape")
    for name, ids in (("predicted", predicted), ("true", true)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"{name} must hold integer ids, negative = background; got {ids.dtype}")
    first = true if true.ndim < 3 else true.reshape(-1, *true.shape[-2:])[:1]
    seen = np.unique(first[first >= 0])
    if not len(seen):
        raise ValueError("image 0 shows no true part, so there is nothing to score; are part ids >= 0?")
    rows, columns, table = contingency(predicted, true)
    counted = np.isin(columns, seen)
    table, background = table[:, counted], table[:, columns < 0].sum(1)        # (P, K), (P,)
    ari = adjusted_rand_index(table)
    rows, background, inside = rows[rows >= 0], background[rows >= 0], table[rows >= 0]
    present = inside.sum(1) + background > 0
    rows, background, inside = rows[present], background[present], inside[present]

    predicted_size, true_size = inside.sum(1) + background, table.sum(0)
    iou = inside / (predicted_size[:, None] + true_size - inside)
    chosen, parts = linear_sum_assignment(iou, maximize=True)
    chosen, parts = chosen[inside[chosen, parts] > 0], parts[inside[chosen, parts] > 0]
    hits = inside[chosen, parts]
    scores = np.zeros((3, len(seen)))
    scores[0, parts] = iou[chosen, parts]
    scores[1, parts] = 2 * hits / (predicted_size[chosen] + true_size[parts])
    scores[2, parts] = hits / true_size[parts]
    matched = np.full(len(seen), -1)
    matched[parts] = rows[chosen]
    miou, f1, macc = scores.mean(1).tolist()
    return {"miou": miou, "f1": f1, "macc": macc, "ari": ari, "num_parts": len(seen), "num_predicted": len(rows),
            "ids": seen.tolist(), "matched": matched.tolist(), "iou": scores[0].tolist()}


def contingency(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count pixels by predicted and true id, all negative ids as -1.

    Returns
    -------
    rows, columns : ndarray of int, shapes (P,), (Q,)
        The ids that occur, ascending.
    table : ndarray of int, shape (P, Q)
    """
    rows, row = np.unique(np.maximum(predicted, -1), return_inverse=True)
    columns, column = np.unique(np.maximum(true, -1), return_inverse=True)
    flat = row.ravel() * len(columns) + column.ravel()
    table = np.bincount(flat, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    return rows, columns, table


def adjusted_rand_index(table: np.ndarray) -> float:
    """Adjusted Rand index of a contingency table (Hubert and Arabie 1985, equation 5).

    1 for equal partitions, 0 on average for independent ones. Two partitions that are both a single cluster, or both
    all singletons, agree: 1.
    """
    table = np.asarray(table, np.float64)

    def pairs(counts):
        return float((counts * (counts - 1) / 2).sum())

    together, in_rows, in_columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    total = pairs(table.sum())
    expected = in_rows * in_columns / total if total else 0.0
    most = (in_rows + in_columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def interior(true: np.ndarray, size: int = 5) -> np.ndarray:
    """Pixels away from borders: those whose ``size`` x ``size`` neighbourhood holds a single id.

    Parameters
    ----------
    true : array_like of int, shape (..., H, W)
        Ids, background included.
    size : int
        Odd, in pixels. What lies outside the image counts as the pixel nearest to it.

    Returns
    -------
    ndarray of bool, shape (..., H, W)
    """
    true = np.asarray(true)
    if true.ndim < 2 or size < 1 or size % 2 == 0:
        raise ValueError(f"interior needs images (..., H, W) and an odd size; got {true.shape} and {size}")
    window = (1,) * (true.ndim - 2) + (size, size)
    return minimum_filter(true, window, mode="nearest") == maximum_filter(true, window, mode="nearest")
