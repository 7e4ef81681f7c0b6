"""Small things that the diffusion tests share."""

import numpy as np
import torch

from sp4dlib.clips import Clip, fit_cameras
from sp4dlib.model import DualUNet

NAMES = ("body", "head", "tail")


def toy_clip(frames=5, views=4, size=16, seed=0):
    """Three coloured squares on stalks, seen from an orbit; no renderer needed."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform(-0.4, 0.4, (3, 3)) + [[0, 0, 0], [0.5, 0.3, 0.1], [-0.5, 0.1, 0.2]]
    times = np.arange(frames) / 10
    centers = rest + 0.1 * np.sin(times[:, None, None] * 5 + np.arange(3)[:, None])        # (T, K, 3)
    cameras = fit_cameras(centers, 360 * np.arange(views) / views, 10 * np.arange(views), size, fill=0.7)
    centers = centers @ cameras.normalize[:3, :3].T + cameras.normalize[:3, 3]
    parts = np.full((frames, views, size, size), -1, np.int16)
    rgb = np.full((*parts.shape, 3), 255, np.uint8)
    boxes = np.empty((frames, views, 2, 3))
    for view in range(views):
        axes = centers @ cameras.rotation(view).T
        boxes[:, view] = np.stack([axes.min(1) - 0.1, axes.max(1) + 0.1], 1)
        pixels = cameras.focal * axes[..., :2] * [1, -1] / (cameras.distance - axes[..., 2:]) + size / 2
        for frame, part in np.ndindex(frames, 3):
            column, row = np.clip(pixels[frame, part].astype(int), 2, size - 3)
            parts[frame, view, row - 2:row + 3, column - 2:column + 3] = part
            rgb[frame, view, row - 2:row + 3, column - 2:column + 3] = (250 * (part == np.arange(3))).astype(np.uint8)
    return Clip(rgb, parts, centers, boxes, cameras, NAMES, np.array([-1, 0, 0]), times, f"toy {seed}")


def tiny_model(seed=0, blank=False):
    """A dual network of a few thousand weights; ``blank`` keeps the zero initialisation, with which it answers 0."""
    torch.manual_seed(seed)
    model = DualUNet(in_channels=24, out_channels=12, model_channels=8, channel_mult=(1,), num_res_blocks=1,
                     attention_resolutions=(), head_dim=8, context_dim=None, motion_context_dim=None,
                     num_noise_level_channels=4, camera_channels=4, norm_groups=4)
    if not blank:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    return model
