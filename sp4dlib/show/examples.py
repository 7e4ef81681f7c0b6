"""Sheets of evaluated subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sp4dlib.evaluation.examples import Example
from sp4dlib.show.images import strip


def example_rows(example: Example, methods: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Rows of pictures (S, H, W, 3) by name: true colours, generated ones, true parts, then those of each method.

    Parameters
    ----------
    example : Example
    methods : sequence of str, optional
        ``setting/method``, in the order wanted; all by default.
    """
    rows = {"true colours": example.rgb, "true parts": example.parts}
    if example.generated is not None:
        rows["generated colours"] = example.generated
    return rows | {name: example.predicted[name] for name in (example.predicted if methods is None else methods)}


def example_sheet(example: Example, methods: Sequence[str] | None = None, scale: int = 3) -> np.ndarray:
    """`example_rows` below one another, each pixel ``scale`` times as large, uint8 (H', W', 3)."""
    sheet = strip(np.stack(list(example_rows(example, methods).values())))
    return sheet.repeat(scale, 0).repeat(scale, 1)
