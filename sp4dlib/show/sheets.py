"""Contact sheets of training sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sp4dlib.clips.dataset import KinematicParts
from sp4dlib.show.images import strip

COLUMNS = 4


def contact_sheet(root: str | Path, splits: Sequence[str], clips: int = 8,
                  seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Some clips of a set, one a row: pairs of colour and parts, of frames and views spread over the clip.

    Parameters
    ----------
    root : str or Path
    splits : sequence of str
        Taken in turn.
    clips : int
        Rows, or fewer where there are fewer clips.
    seed : int

    Returns
    -------
    image : ndarray of uint8, shape (H, W, 3)
    captions : list of str
        Of each row.
    """
    if clips < 1:
        raise ValueError(f"a contact sheet shows at least one clip; got {clips}")
    sets = [KinematicParts(root, split) for split in splits]
    if not sets:
        raise ValueError(f"{root} has no clips to show")
    generator = np.random.default_rng(seed)
    orders = [list(generator.permutation(len(data))) for data in sets]
    rows, captions = [], []
    while len(rows) < clips and any(orders):
        for data, order in zip(sets, orders):
            if not order or len(rows) == clips:
                continue
            number = int(order.pop())
            clip = data.clip(number)
            columns = min(COLUMNS, max(clip.rgb.shape[:2]))
            at = tuple(np.linspace(0, count, columns, endpoint=False).astype(int) for count in clip.rgb.shape[:2])
            pairs = np.stack([clip.rgb[at], clip.part_images[at]], 1)                   # (columns, 2, H, W, 3)
            rows.append(pairs.reshape(-1, *clip.rgb.shape[2:]))
            captions.append(f"{data.split:5} {data.key(number)}: {data.about(number)['animation']}, "
                            f"{len(clip.names)} parts")
    return strip(np.stack(rows)), captions
