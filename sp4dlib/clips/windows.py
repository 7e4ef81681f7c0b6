"""Which frames and views of a clip a training step sees."""

from __future__ import annotations

import numpy as np
import torch


def draw_window(total_frames: int, azimuths: np.ndarray, frames: int, views: int,
                generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames, and views a random one of which is the input.

    Frames are equally spaced in time, with a random start and stride. Views are a random subset in the order in
    which an orbit from view 0 meets them, because the network's temporal convolutions mix neighbouring views.

    Parameters
    ----------
    total_frames : int
        Frames to choose from.
    azimuths : ndarray, shape (V',)
        Degrees, of the views to choose from.
    frames, views : int
        T and V of what is drawn.
    generator : torch.Generator

    Returns
    -------
    frames : ndarray of int, shape (T,)
    views : ndarray of int, shape (V,)
        For :meth:`~sp4dlib.clips.clip.Clip.select`.
    """
    stride = 1 + draw((total_frames - 1) // (frames - 1), generator) if frames > 1 else 1
    start = draw(total_frames - (frames - 1) * stride, generator)
    chosen = torch.randperm(len(azimuths), generator=generator, device=generator.device)[:views].cpu().numpy()
    from_first = (azimuths[chosen] - azimuths[chosen[0]]) % 360
    from_first[0] = -1                                # another elevation may share view 0's azimuth
    return start + stride * np.arange(frames), chosen[np.argsort(from_first, kind="stable")]


def draw(high: int, generator: torch.Generator) -> int:
    """A random integer in [0, high)."""
    return int(torch.randint(high, (), generator=generator, device=generator.device))
