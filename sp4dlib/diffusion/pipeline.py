"""From an image or a short video to many views of it, in colour and in kinematic parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from sp4dlib import coding
from sp4dlib.clips import Cameras
from sp4dlib.clips.cameras import FOV
from sp4dlib.diffusion.data import camera_angles, to_images, to_model
from sp4dlib.diffusion.images import as_frames, crop_to_object, on_white, resize
from sp4dlib.diffusion.training import show_progress
from sp4dlib.model import DualUNet


@dataclass
class SP4DPipelineOutput(BaseOutput):
    """A generated clip: T frames of V views, view 0 at the input's camera.

    Attributes
    ----------
    rgb, part_images : ndarray of uint8, shape (T, V, H, W, 3)
        Colour, and parts in spatial colours. With ``output_type="pil"`` lists [T][V] of PIL images, with ``"pt"``
        float Tensors (T, V, 3, H, W) in [0, 1].
    parts : ndarray of int16, shape (T, V, H, W)
        Part ids decoded jointly from all part images, -1 = background.
    cameras : Cameras
        Azimuths relative to view 0. Scale and distance are nominal; see `nominal_cameras`.
    """

    rgb: np.ndarray | list[list[Image.Image]] | Tensor
    part_images: np.ndarray | list[list[Image.Image]] | Tensor
    parts: np.ndarray
    cameras: Cameras


def euler_scheduler(sigma_max: float = 80.0, sigma_min: float = 0.002) -> EulerDiscreteScheduler:
    """diffusers' Euler sampler set up to be that of SV4D 2.0: v-prediction, Karras noise levels, ¼ ln σ as time.

    Parameters
    ----------
    sigma_max : float
        700 in the releases of SV4D 2.0 and SP4D, whose latents have one value for 8x8 pixels. Small pixel images are
        drowned sooner; 80 is the value of Karras et al. 2022.
    sigma_min : float
    """
    return EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=sigma_min,
        sigma_max=sigma_max, timestep_spacing="leading", steps_offset=1, interpolation_type="linear",
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def guidance_weights(scale: float | tuple[float, float], frames: int, views: int) -> Tensor:
    """Guidance weight of each image, shape (T, V).

    A pair is a ramp: ``w_i = low + (high - low) i / (T V - 1)`` over the flattened images, frame-major and view
    fastest, as the releases of SV4D 2.0 (1 to 2) and SP4D (1 to 3) do. A number is the same weight for all.
    """
    low, high = np.broadcast_to(np.asarray(scale, np.float64), 2).tolist()
    return torch.linspace(low, high, frames * views).reshape(frames, views)


def nominal_cameras(azimuths, elevations, fill: float, size: int) -> Cameras:
    """Cameras of a generated clip, whose object is known only by its picture.

    The distance is that at which a ball as wide as the unit cube reaches ``fill`` of the image,
    ``½ / sin(atan(fill · tan(fov / 2)))``; the axes are those of view 0.

    Parameters
    ----------
    azimuths, elevations : array_like, shape (V,)
        Degrees.
    """
    distance = 0.5 / np.sin(np.arctan(fill * np.tan(np.radians(FOV) / 2)))
    azimuths = np.asarray(azimuths, np.float64)
    return Cameras((azimuths - azimuths[0]) % 360, elevations, FOV, float(distance), fill, np.eye(4), size)


class SP4DPipeline(DiffusionPipeline):
    """SP4D: a monocular video, or one image, to V views in colour and in parts (arXiv 2509.10687).

    Saved and loaded with diffusers' `save_pretrained` and `from_pretrained`.

    Parameters
    ----------
    unet : DualUNet
    scheduler : EulerDiscreteScheduler
        See `euler_scheduler`.
    image_size : int
        Side of the images in pixels.
    num_frames : int
        T of the windows that the network was trained on.
    fill : float
        Share of the image that the object took in training; what the crop of the input aims at.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ["latents"]

    def __init__(self, unet: DualUNet, scheduler: EulerDiscreteScheduler, image_size: int = 32, num_frames: int = 4,
                 fill: float = 0.9):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(image_size=image_size, num_frames=num_frames, fill=fill)

    def preprocess(self, image, crop: bool = True) -> np.ndarray:
        """The frames that the network is shown, uint8 (T, size, size, 3).

        Transparent pixels become white. With ``crop``, one square round the object's union box over all frames is cut
        out, so that the object fills the stored ``fill``; see `sp4dlib.diffusion.images.crop_to_object`.
        """
        size = self.config.image_size
        if crop:
            return crop_to_object(image, size, self.config.fill)
        frames = on_white(as_frames(image))
        if frames.shape[1] != frames.shape[2]:
            raise ValueError(f"frames of {frames.shape[1]}x{frames.shape[2]} pixels are not square; leave crop=True")
        return resize(frames, size)

    def window(self, frames: np.ndarray, num_frames: int | None) -> tuple[np.ndarray, int]:
        """Repeat the last frame to fill a window; returns the window and how many of its frames were asked for."""
        length = self.config.num_frames
        wanted = len(frames) if num_frames is None else num_frames
        if not 1 <= wanted <= length or len(frames) > length:
            raise ValueError(f"this model makes 1 to {length} frames at once; got {len(frames)} input frames and "
                             f"num_frames={num_frames}: give fewer frames, or run it on pieces of the video")
        frames = frames[:wanted]
        return np.concatenate([frames, np.repeat(frames[-1:], length - len(frames), axis=0)]), wanted

    def predict(self, latents: Tensor, timestep: Tensor, condition: Tensor, cameras: Tensor,
                weights: Tensor) -> Tensor:
        """Guided network output ``F_u + w_i (F_c - F_u)`` for scaled latents (2, 1, T, V, C, H, W): RGB, then parts.

        Guiding v or the denoised images is the same, since one is an affine map of the other.
        """
        guided = bool((weights != 1).any())
        rows = 2 if guided else 1                                # without, then with the input; one row if not guided
        rgb, part = latents.expand(2, rows, *latents.shape[2:])
        conditioned = torch.arange(rows, device=latents.device) == rows - 1
        out = self.unet(rgb, part, condition=condition.expand(rows, *condition.shape[1:]),
                        timestep=timestep.expand(rows), cameras=cameras.expand(rows, *cameras.shape[1:]),
                        conditioned=conditioned)
        out = torch.stack([out.rgb, out.part])                   # (2, rows, T, V, C, H, W)
        if not guided:
            return out
        without, given = out.chunk(2, dim=1)
        return without + weights[..., None, None, None] * (given - without)

    @torch.no_grad()
    def __call__(self, image, azimuths, elevations, num_frames: int | None = None, num_inference_steps: int = 25,
                 guidance_scale: float | tuple[float, float] = (1.0, 2.0),
                 generator: torch.Generator | None = None, output_type: str = "np", crop: bool = True,
                 callback_on_step_end: Callable | None = None,
                 callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
                 return_dict: bool = True) -> SP4DPipelineOutput | tuple:
        """Generate.

        View 0 of the output has the input's camera and is generated like the others: it tells how well the network
        has understood what it was shown.

        Parameters
        ----------
        image : PIL image, list of PIL images, or array
            The input video, or one image, which is a video of one frame. See `sp4dlib.diffusion.images.as_frames`.
        azimuths, elevations : array_like, shape (V,)
            Degrees; the first is the camera of the input. One number for ``elevations`` serves all views.
        num_frames : int, optional
            Frames to return; default as many as are given. Missing ones repeat the last. The network always makes the
            number of frames it was trained on.
        num_inference_steps : int
            Euler steps, each one call of the network (of twice the batch under guidance).
        guidance_scale : float or (float, float)
            See `guidance_weights`; 1 is no guidance.
        generator : torch.Generator, optional
            The same seed gives the same bytes.
        output_type : {"np", "pil", "pt"}
        crop : bool
            Crop to the object as in `preprocess`. Turn it off for renders whose cameras already place the object.
        callback_on_step_end : callable, optional
            ``callback(pipeline, step, timestep, tensors) -> dict``; what it returns replaces ``latents``,
            (2, 1, T, V, C, H, W).

        Returns
        -------
        SP4DPipelineOutput
        """
        azimuths, elevations = check_views(azimuths, elevations)
        if output_type not in ("np", "pil", "pt"):
            raise ValueError(f"output_type is 'np', 'pil' or 'pt'; got {output_type!r}")
        frames, wanted = self.window(self.preprocess(image, crop), num_frames)
        device, dtype = self._execution_device, self.unet.dtype
        condition = to_model(frames)[None].to(device, dtype)                                 # (1, T, C, H, W)
        cameras = camera_angles(azimuths, elevations)[None].to(device)                       # (1, V, 2)
        weights = guidance_weights(guidance_scale, len(frames), len(azimuths)).to(device)    # (T, V)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        shape = (2, 1, len(frames), len(azimuths), *condition.shape[2:])
        latents = randn_tensor(shape, generator=generator, device=device) * self.scheduler.init_noise_sigma
        with self.progress_bar(total=num_inference_steps) as bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                scaled = self.scheduler.scale_model_input(latents, timestep).to(dtype)
                velocity = self.predict(scaled, timestep, condition, cameras, weights).float()
                latents = self.scheduler.step(velocity, timestep, latents).prev_sample
                if callback_on_step_end is not None:
                    tensors = {name: {"latents": latents}[name] for name in callback_on_step_end_tensor_inputs}
                    latents = (callback_on_step_end(self, step, timestep, tensors) or {}).get("latents", latents)
                bar.update()
        rgb, part_images = to_images(latents[:, 0, :wanted])
        parts = coding.decode(part_images)
        self.maybe_free_model_hooks()
        output = SP4DPipelineOutput(convert(rgb, output_type), convert(part_images, output_type), parts,
                                    nominal_cameras(azimuths, elevations, self.config.fill, self.config.image_size))
        return output if return_dict else output.to_tuple()

    def progress_bar(self, iterable=None, total=None):
        """diffusers' bar, silent in the ``ci`` profile."""
        if not show_progress(None):
            self.set_progress_bar_config(disable=True)
        return super().progress_bar(iterable, total)


def check_views(azimuths, elevations) -> tuple[np.ndarray, np.ndarray]:
    """Azimuths and elevations as two arrays (V,), in degrees."""
    azimuths = np.atleast_1d(np.asarray(azimuths, np.float64))
    elevations = np.atleast_1d(np.asarray(elevations, np.float64))
    if len(elevations) == 1:
        elevations = np.repeat(elevations, len(azimuths))
    if azimuths.ndim != 1 or azimuths.shape != elevations.shape or not len(azimuths):
        raise ValueError("give one elevation for each azimuth (view 0, the input's, first), or one for all; got "
                         f"{azimuths.shape} azimuths and {elevations.shape} elevations")
    if not (np.isfinite(azimuths).all() and np.isfinite(elevations).all()):
        raise ValueError("azimuths and elevations must be finite numbers of degrees")
    return azimuths, elevations


def convert(images: np.ndarray, output_type: str) -> np.ndarray | list[list[Image.Image]] | Tensor:
    """uint8 images (T, V, H, W, 3) in the form that was asked for."""
    if output_type == "pil":
        return [[Image.fromarray(image) for image in row] for row in images]
    if output_type == "pt":
        return torch.from_numpy(images).movedim(-1, -3).float() / 255
    return images
