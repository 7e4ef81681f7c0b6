"""Small things that the diffusion tests share."""

from types import SimpleNamespace

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


def tiny_model(seed=0):
    """A dual network of a few thousand weights, none of them 0, as the outputs of a fresh one are."""
    torch.manual_seed(seed)
    model = DualUNet(in_channels=24, out_channels=12, model_channels=8, channel_mult=(1,), num_res_blocks=1,
                     attention_resolutions=(), head_dim=8, context_dim=None, motion_context_dim=None,
                     num_noise_level_channels=4, camera_channels=4, norm_groups=4)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


class PlainModel(torch.nn.Module):
    """A network with the dual network's call and one hidden layer for each pixel: to test the loop alone."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = torch.nn.Linear(3 * 12 + 3, 48)
            self.outer = torch.nn.Linear(48, 2 * 12)
        torch.nn.init.zeros_(self.outer.weight)

    def forward(self, rgb, part, condition, timestep, cameras, conditioned=None):
        if conditioned is not None:
            condition = condition * conditioned[:, None, None, None, None]
        condition = condition[:, :, None].expand_as(rgb)
        told = torch.cat([cameras, timestep[:, None, None].expand(-1, cameras.shape[1], 1)], -1)      # (B, V, 3)
        told = told[:, None, :, :, None, None].expand(-1, rgb.shape[1], -1, -1, *rgb.shape[-2:])
        pixels = torch.cat([rgb, part, condition, told], 3).movedim(3, -1)
        out = self.outer(torch.nn.functional.silu(self.inner(pixels))).movedim(-1, 3)
        return SimpleNamespace(rgb=out[:, :, :, :12], part=out[:, :, :, 12:])
