"""Other clips from those that there are: seen in a mirror, or in other colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sp4dlib.clips.clip import Clip

GAMMA = 0.5         # standard deviation of the logarithm of the exponent that `recolor` raises a channel to


def mirror(clip: Clip) -> Clip:
    """The clip of the object that a mirror shows: left and right change places as view 0 sees them.

    Pictures are flipped, cameras go round the other way, and so do centres and boxes; hence the parts' colours are
    those of the mirrored object. Views but the first come in the opposite order, by which they still follow an orbit.

    Parameters
    ----------
    clip : Clip

    Returns
    -------
    Clip
        The mirror image of the mirror image is the clip.
    """
    order = np.r_[0, np.arange(len(clip.cameras) - 1, 0, -1)]
    flip = np.array([-1.0, 1.0, 1.0])
    normalize = np.diag([*flip, 1.0]) @ clip.cameras.normalize
    cameras = replace(clip.cameras, azimuths=-clip.cameras.azimuths[order] % 360,
                      elevations=clip.cameras.elevations[order], normalize=normalize)
    boxes = clip.boxes[:, order] * flip
    boxes[:, :, :, 0] = boxes[:, :, ::-1, 0]                            # the lowest is now what was the highest
    return replace(clip, rgb=np.ascontiguousarray(clip.rgb[:, order, :, ::-1]),
                   parts=np.ascontiguousarray(clip.parts[:, order, :, ::-1]), centers=clip.centers * flip,
                   boxes=boxes, cameras=cameras)


def recolor(clip: Clip, generator: torch.Generator) -> Clip:
    """The clip in other colours: channels change places, and each is raised to a power; white stays white.

    Parameters
    ----------
    clip : Clip
    generator : torch.Generator

    Returns
    -------
    Clip
        All but ``rgb`` is as it was.
    """
    order = torch.randperm(3, generator=generator).numpy()
    powers = torch.randn(3, generator=generator).mul(GAMMA).exp().numpy()
    levels = np.arange(256)[:, None] / 255
    table = np.round(255 * levels**powers).astype(np.uint8)                                          # (256, 3)
    return replace(clip, rgb=np.stack([table[clip.rgb[..., channel], i] for i, channel in enumerate(order)], -1))
