"""From clips to the tensors that the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sp4dlib.clips import Clip
from sp4dlib.clips.windows import draw, draw_window
from sp4dlib.model import fold, unfold

FOLD = 2         # side of the pixel patches that become channels: the stand-in for a VAE
WHITE = 1.0      # the background in [-1, 1]: subtracted, as the shift factor of a VAE is
SCALE = 2.0      # then multiplied: an object that covers a fifth of the image has root mean square 1


class Views(NamedTuple):
    """Pictures of B clips as a data set hands them out: small, for they travel between processes.

    Attributes
    ----------
    rgb, part : Tensor of uint8, shape (B, T, V, H, W, 3)
        Colour and spatial part colours. View 0 is the input view.
    ids : Tensor of int16, shape (B, T, V, H, W)
        Part ids, -1 = background.
    cameras : Tensor, shape (B, V, 2)
        Elevation and azimuth relative to view 0, radians.
    """

    rgb: Tensor
    part: Tensor
    ids: Tensor
    cameras: Tensor


class Batch(NamedTuple):
    """Training tensors of B clips; images are latents (see `latents`).

    Attributes
    ----------
    rgb, part : Tensor, shape (B, T, V, C, H, W)
        Colour and spatial part colours. View 0 is the input view.
    condition : Tensor, shape (B, T, C, H, W)
        Colour of view 0.
    cameras : Tensor, shape (B, V, 2)
        Elevation and azimuth relative to view 0, radians.
    ids : Tensor of int16, shape (B, T, V, H', W')
        Part ids of the pictures, -1 = background; H' and W' are multiples of H and W.
    """

    rgb: Tensor
    part: Tensor
    condition: Tensor
    cameras: Tensor
    ids: Tensor

    def to(self, device) -> Batch:
        """The same tensors on another device."""
        return Batch(*(tensor.to(device) for tensor in self))


def to_model(images: np.ndarray | Tensor) -> Tensor:
    """Images to latents: uint8 (..., H, W, 3) to float32 (..., 12, H/2, W/2) with white at 0, ``2 (x - 1)``, folded.

    Diffusion wants data of unit root mean square. The shift matters too: at low noise the network must amplify what
    differs from the background, which its group normalisation does by itself where the background is 0.
    """
    pixels = torch.as_tensor(np.array(images, np.uint8) if isinstance(images, np.ndarray) else images).movedim(-1, -3)
    return fold(pixels, FOLD).float().div_(127.5).sub_(1).sub_(WHITE).mul_(SCALE)        # bytes are quick to move


def to_images(folded: Tensor) -> np.ndarray:
    """Latents to images: float (..., 12, H/2, W/2) to uint8 (..., H, W, 3), clipped and rounded."""
    images = ((unfold(folded.detach().float(), FOLD) / SCALE + WHITE).clamp(-1, 1) + 1) * 127.5
    return images.round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def camera_angles(azimuths, elevations) -> Tensor:
    """What the network is told of the cameras: elevation and azimuth relative to view 0, radians, shape (V, 2).

    Parameters
    ----------
    azimuths, elevations : array_like, shape (V,)
        Degrees; view 0 first. Azimuth differences are taken to [0, 2π), as in SV4D 2.0 (arXiv 2503.16396).
    """
    azimuths, elevations = np.asarray(azimuths, np.float64), np.asarray(elevations, np.float64)
    angles = np.stack([elevations - elevations[0], (azimuths - azimuths[0]) % 360], axis=-1)
    return torch.from_numpy(np.radians(angles)).float()


def views_of(clip: Clip) -> Views:
    """Pictures of a whole clip as a batch of one: frame 0 and view 0 are the clip's own."""
    pictures = (torch.from_numpy(np.array(array)[None]) for array in (clip.rgb, clip.part_images, clip.parts))
    return Views(*pictures, camera_angles(clip.cameras.azimuths, clip.cameras.elevations)[None])


def shrink(views: Views, factor: int) -> Views:
    """Pictures ``factor`` times smaller: colours are averaged; parts, whose colours must not mix, are picked out."""
    if factor == 1:
        return views
    height, width = views.ids.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"pictures of {height}x{width} pixels cannot be made {factor} times smaller; choose a divisor")
    blocks = views.rgb.unflatten(4, (-1, factor)).unflatten(3, (-1, factor))              # (B, T, V, h, f, w, f, 3)
    rgb = blocks.float().mean((4, 6)).round().to(torch.uint8)
    part, ids = (pictures[..., ::factor, ::factor, :] for pictures in (views.part, views.ids[..., None]))
    return Views(rgb, part, ids[..., 0], views.cameras)


@torch.no_grad()
def latents(views: Views, vae=None, device=None, chunk: int = 64) -> Batch:
    """What the network is trained on.

    Parameters
    ----------
    views : Views
    vae : AutoencoderKL or PatchVAE, optional
        Without one the latents are folded pixels (`to_model`); with one, the modes of its posterior times its
        ``scaling_factor``. It is not trained here.
    device : optional
        Where the result shall be; default where the pictures are.
    chunk : int
        Pictures that the VAE takes at once.
    """
    device = views.rgb.device if device is None else device
    if vae is None:
        rgb, part = (to_model(pictures.to(device)) for pictures in (views.rgb, views.part))
    else:
        rgb, part = (encode_pixels(pictures.to(device), vae, chunk) for pictures in (views.rgb, views.part))
    return Batch(rgb, part, rgb[:, :, 0], views.cameras.to(device), views.ids.to(device))


def encode_pixels(pictures: Tensor, vae, chunk: int = 64) -> Tensor:
    """uint8 (..., H, W, 3) to scaled latents (..., C, h, w), float32."""
    pixels = (pictures.movedim(-1, -3).float() / 127.5 - 1).flatten(0, -4).to(vae.dtype)
    rows = torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(chunk)])
    return rows.float().mul(vae.config.scaling_factor).reshape(*pictures.shape[:-3], *rows.shape[1:])


def clip_tensors(clip: Clip) -> Batch:
    """Latents of a whole clip as a batch of one, in folded pixels."""
    return latents(views_of(clip))


def clips_views(clips: Sequence[Clip]) -> Views:
    """Pictures of clips of equal sizes: the ``collate_fn`` of a DataLoader over a dataset of clips.

    Nothing is padded: all windows of a dataset have the same T, V, H, W.
    """
    return Views(*(torch.cat(tensors) for tensors in zip(*map(views_of, clips))))


class ClipTensors:
    """Random windows of clips (:func:`~sp4dlib.clips.windows.draw_window`): some frames, some views, one the input.

    Frame 0 and view 0 define the spatial colours, so these are computed for every draw.

    Parameters
    ----------
    clips : sequence of Clip
        All of one image size, each with at least ``frames`` frames and ``views`` views.
    frames, views : int
        T and V of what is drawn.
    still : float
        Share of windows that repeat one frame: what a single image is to the pipeline.

    Raises
    ------
    ValueError
        If there are no clips, a clip is too short or has too few views, or image sizes differ.
    """

    def __init__(self, clips: Sequence[Clip], frames: int, views: int, still: float = 0.0) -> None:
        self.clips, self.frames, self.views, self.still = tuple(clips), frames, views, still
        if not self.clips:
            raise ValueError("there are no clips to train on")
        if frames < 1 or views < 1:
            raise ValueError(f"a window needs at least one frame and one view; got {frames} and {views}")
        sizes = {clip.rgb.shape[2:4] for clip in self.clips}
        if len(sizes) > 1:
            raise ValueError(f"clips have images of different sizes {sorted(sizes)}; render them all at one size")
        height, width = self.image_size = sizes.pop()
        if height % FOLD or width % FOLD:
            raise ValueError(f"images of {height}x{width} pixels cannot be folded {FOLD}x; render at a multiple of it")
        for clip in self.clips:
            if clip.rgb.shape[0] < frames or clip.rgb.shape[1] < views:
                raise ValueError(f"{clip.source or 'a clip'} has {clip.rgb.shape[0]} frames and {clip.rgb.shape[1]} "
                                 f"views; training windows need {frames} and {views}")

    def __len__(self) -> int:
        return len(self.clips)

    def window(self, index: int, generator: torch.Generator) -> Clip:
        """Draw a window of clip ``index``."""
        clip = self.clips[index]
        return clip.select(*draw_window(len(clip.times), clip.cameras.azimuths, self.frames, self.views, generator,
                                        self.still))

    def draw(self, generator: torch.Generator) -> Clip:
        """A window of a random clip; the same generator state gives the same bytes."""
        return self.window(draw(len(self), generator), generator)

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """Draw ``size`` windows, in folded pixels."""
        return latents(clips_views([self.draw(generator) for _ in range(size)]))
