"""The story of merging ends where kinematic_parts ends."""

from __future__ import annotations

import numpy as np
import pytest

from sp4dlib import clips, rigs, show


def pairs_of_colors(first: np.ndarray, second: np.ndarray) -> tuple[int, int, int]:
    """Colours in one picture, in the other, and pairs of colours that meet at a pixel."""
    both = np.concatenate([first, second], -1).reshape(-1, 6)
    return tuple(len(np.unique(part, axis=0)) for part in (both[:, :3], both[:, 3:], both))


@pytest.mark.parametrize(("family", "options"), [("snake", {}), ("insect", {}), ("wheeled", {"kind": "tank"})])
def test_last_page_is_the_parts(family, options):
    rig = rigs.creature(family, 2, vertices=2000, **options)
    pages, labels = show.merge_pages(rig, size=96)
    parts = clips.kinematic_parts(rig)
    last = clips.make_clip(rig, None, [0.0], [40], 18, 96, parts=parts).parts[0, 0]
    mine, theirs, met = pairs_of_colors(pages[-1], show.id_image(last))
    assert mine == theirs == met, "the same regions, whatever their colours"
    assert len(pages) == len(labels) and labels[-1].startswith(f"{len(parts)} regions")
    assert len(pages) == 1 + sum(1 for _ in clips.merge_steps(rig))


def test_no_step_without_merging():
    rig = rigs.creature("snake", 0, vertices=2000)
    pages, labels = show.merge_pages(rig, clips.MergeRule(motion=0, min_share=0), size=48)
    assert len(pages) == 1 and labels == ["16 regions, one a joint"]
