"""Pictures of the best, the median and the worst subject."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sp4dlib import coding
from sp4dlib.evaluation.methods import Prediction
from sp4dlib.evaluation.metrics import segmentation_scores
from sp4dlib.evaluation.subjects import Scene

RANKS = ("best", "median", "worst")
UNMATCHED = 0.62        # grey of predicted parts that match no true one; neighbours in id differ a little


@dataclass(frozen=True)
class Example:
    """One subject as all methods see it.

    Attributes
    ----------
    subject, protocol, rank : str
        ``rank`` is best, median or worst.
    score : float
        mIoU by which it was ranked.
    rgb : ndarray of uint8, shape (S, H, W, 3)
        True colours.
    parts : ndarray of uint8, shape (S, H, W, 3)
        True parts in spatial colours.
    predicted : dict of str to ndarray of uint8, shape (S, H, W, 3)
        By ``setting/method``, each part in the colour of the true one that it matches, unmatched ones in greys.
    generated : ndarray of uint8, shape (S, H, W, 3), or None
        Colours that the model made of view 0.
    """

    subject: str
    protocol: str
    rank: str
    score: float
    rgb: np.ndarray
    parts: np.ndarray
    predicted: dict[str, np.ndarray]
    generated: np.ndarray | None = None


def painted(predicted: np.ndarray, true: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Predicted parts in the colours of the true parts that they match.

    Parameters
    ----------
    predicted, true : ndarray of int, equal shapes (..., H, W)
    colors : ndarray, shape (K, 3)
        Of the true ids, in [0, 1].

    Returns
    -------
    ndarray of uint8, shape (..., H, W, 3)
        White background.
    """
    scores = segmentation_scores(predicted, true)
    count = int(predicted.max(initial=-1)) + 1
    shade = UNMATCHED + 0.2 * (np.arange(count) % 4) / 4
    palette = np.repeat(shade[:, None], 3, 1)
    for part, found in zip(scores["ids"], scores["matched"]):
        if found >= 0:
            palette[found] = colors[part]
    return coding.encode(predicted, palette)


def example_path(folder: Path, subject: str, protocol: str) -> Path:
    """File of a subject's arrays."""
    return folder / f"{subject.replace('/', '__')}__{protocol}.npz"


def keep_example(folder: Path, scene: Scene, setting: str, made: Sequence[Prediction]) -> None:
    """Add predictions to the arrays of a scene."""
    folder.mkdir(parents=True, exist_ok=True)
    path = example_path(folder, scene.key, scene.protocol)
    arrays = {"rgb": scene.rgb, "parts": scene.parts, "colors": scene.clip.colors}
    if path.exists():
        with np.load(path) as kept:
            if np.array_equal(kept["rgb"], scene.rgb) and np.array_equal(kept["parts"], scene.parts):
                arrays = dict(kept)             # else of another seed or size, and worth nothing here
    arrays |= {f"{setting}/{prediction.method}": prediction.parts.astype(np.int16) for prediction in made}
    for prediction in made:
        if prediction.rgb is not None:
            arrays["generated_rgb"] = prediction.rgb
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def examples(results: dict, folder: str | Path, protocol: str = "multi-view", setting: str = "given",
             method: str = "model", group: str | None = None) -> list[Example]:
    """The subjects on which a method does best, middling and worst, by mIoU.

    Parameters
    ----------
    results : dict
        Of :func:`~sp4dlib.evaluation.protocols.evaluate`.
    folder : path
        The ``pictures`` of that evaluation.
    protocol, setting, method : str
        What ranks them.
    group : str, optional
        Only subjects of this source.

    Returns
    -------
    list of Example
        Best, median, worst; the lower of two medians.

    Raises
    ------
    ValueError
        If there is no such row.
    FileNotFoundError
        If the pictures of a row were not kept.
    """
    wanted = {"protocol": protocol, "setting": setting, "method": method} | ({"group": group} if group else {})
    rows = [row for row in results["rows"] if all(row[name] == value for name, value in wanted.items())]
    if not rows:
        raise ValueError(f"the results hold no row of {', '.join(wanted.values())}")
    rows.sort(key=lambda row: (-row["miou"], row["subject"]))
    chosen = [rows[0], rows[len(rows) // 2], rows[-1]]
    return [_example(Path(folder), row, rank) for rank, row in zip(RANKS, chosen)]


def _example(folder: Path, row: dict, rank: str) -> Example:
    path = example_path(folder, row["subject"], row["protocol"])
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: evaluate with pictures in {folder}")
    with np.load(path) as kept:
        true, colors = kept["parts"], kept["colors"]
        predicted = {name: painted(kept[name], true, colors) for name in kept.files if "/" in name}
        generated = kept["generated_rgb"] if "generated_rgb" in kept.files else None
        return Example(row["subject"], row["protocol"], rank, row["miou"], kept["rgb"], coding.encode(true, colors),
                       predicted, generated)
