"""From an image or a video to many views of it, in colour and in kinematic parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from sp4dlib import coding
from sp4dlib.clips import Cameras
from sp4dlib.clips.cameras import FOV
from sp4dlib.diffusion import codec
from sp4dlib.diffusion.data import FOLD, camera_angles
from sp4dlib.diffusion.guidance import guidance_weights, is_dual
from sp4dlib.diffusion.images import prepare
from sp4dlib.diffusion.known import hold
from sp4dlib.diffusion.samplers import euler_scheduler, make_scheduler
from sp4dlib.diffusion.sampling import Sampling, sample_window
from sp4dlib.diffusion.training import show_progress
from sp4dlib.diffusion.windows import plan_windows
from sp4dlib.model import DualUNet, MultiViewUNet, PatchVAE

__all__ = ["SP4DPipeline", "SP4DPipelineOutput", "euler_scheduler", "guidance_weights", "nominal_cameras"]

log = logging.getLogger(__name__)

OVERLAPS = ("hold", "view_latents", "none")
KNOWN_INPUTS = ("noised", "clean")


@dataclass
class SP4DPipelineOutput(BaseOutput):
    """A generated clip: T frames of V views.

    Attributes
    ----------
    rgb, part_images : ndarray of uint8, shape (T, V, H, W, 3)
        Colour, and parts in spatial colours. With ``output_type="pil"`` lists [T][V] of PIL images, with ``"pt"``
        float Tensors (T, V, 3, H, W) in [0, 1]. Known images come back as they were given (cropped and resized).
    parts : ndarray of int16, shape (T, V, H, W)
        Part ids decoded jointly from all part images, -1 = background. Parts are None for a network without a branch
        for them.
    cameras : Cameras
        Azimuths relative to the input's camera, which is view 0 where the network generates the input view. Scale and
        distance are nominal; see `nominal_cameras`.
    """

    rgb: np.ndarray | list[list[Image.Image]] | Tensor
    part_images: np.ndarray | list[list[Image.Image]] | Tensor | None
    parts: np.ndarray | None
    cameras: Cameras


def nominal_cameras(azimuths, elevations, fill: float, size: int, input_azimuth: float | None = None) -> Cameras:
    """Cameras of a generated clip, whose object is known only by its picture.

    The distance is that at which a ball as wide as the unit cube reaches ``fill`` of the image,
    ``½ / sin(atan(fill · tan(fov / 2)))``; the axes are those of the input view.

    Parameters
    ----------
    azimuths, elevations : array_like, shape (V,)
        Degrees.
    fill : float
    size : int
    input_azimuth : float, optional
        Where the input's camera stands; default ``azimuths[0]``.
    """
    distance = 0.5 / np.sin(np.arctan(fill * np.tan(np.radians(FOV) / 2)))
    azimuths = np.asarray(azimuths, np.float64)
    start = azimuths[0] if input_azimuth is None else input_azimuth
    return Cameras((azimuths - start) % 360, elevations, FOV, float(distance), fill, np.eye(4), size)


class SP4DPipeline(DiffusionPipeline):
    """SP4D: a monocular video, or one image, to V views in colour and in parts (arXiv 2509.10687).

    Saved and loaded with diffusers' `save_pretrained` and `from_pretrained`; what a trained network needs beside its
    weights is kept in ``model_index.json``.

    Parameters
    ----------
    unet : DualUNet or MultiViewUNet
        With a `MultiViewUNet` the pipeline is SV4D 2.0 (arXiv 2503.16396): colour only.
    scheduler : EulerDiscreteScheduler or EDMDPMSolverMultistepScheduler
        See `sp4dlib.diffusion.samplers`.
    vae : AutoencoderKL or PatchVAE, optional
        Without one the network works on folded pixels.
    image_encoder : CLIPVisionModelWithProjection, optional
        For networks that attend to CLIP embeddings of the input.
    image_size : int
        Side of the images in pixels.
    num_frames : int
        T of the windows that the network was trained on; longer videos take several.
    fill : float
        Share of the image that the object took in training; what the crop of the input aims at.
    num_views : int, optional
        V, where the network was made for one number.
    azimuths : list of float, optional
        Views to make when none are asked for, degrees.
    guidance_scale : number or [first, last]
        Default weights, see `sp4dlib.diffusion.guidance.guidance_weights`.
    guidance_ramp : {"frames", "orbit"}
    num_inference_steps : int
        Default number of steps.
    shows_input : bool
        View 0 of the output has the input's camera (networks trained here). The released ones make only other views.
    scale_condition : bool
        The input's latents are scaled like the noisy ones. The released networks were trained with unscaled ones.
    overlap : {"hold", "view_latents", "none"}
        What a window learns of the frames it shares with the one before. ``"hold"``: both branches are held to them.
        ``"view_latents"``: the network is told the colour latents of its first frame, as SV4D 2.0 was trained to be.
        ``"none"``: nothing, as in the release of SP4D.
    known_input : {"noised", "clean"}
        How the network is shown what it is held to: at the noise level of the rest, which suits every network, or
        clean, as `sp4dlib.diffusion.objective.Objective` trains it where ``TrainConfig.known`` is positive.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"
    _optional_components = ["vae", "image_encoder"]
    _callback_tensor_inputs = ["latents"]

    def __init__(self, unet: DualUNet | MultiViewUNet,
                 scheduler: EulerDiscreteScheduler | EDMDPMSolverMultistepScheduler,
                 vae: AutoencoderKL | PatchVAE | None = None,
                 image_encoder: torch.nn.Module | None = None, image_size: int = 32, num_frames: int = 4,
                 fill: float = 0.9, num_views: int | None = None, azimuths: list | None = None,
                 guidance_scale: float | list = (1.0, 2.0), guidance_ramp: str = "frames",
                 num_inference_steps: int = 25, shows_input: bool = True, scale_condition: bool = True,
                 overlap: str = "hold", known_input: str = "noised"):
        super().__init__()
        if known_input not in KNOWN_INPUTS:
            raise ValueError(f"known_input is one of {', '.join(KNOWN_INPUTS)}; got {known_input!r}")
        if overlap not in OVERLAPS:
            raise ValueError(f"overlap is one of {', '.join(OVERLAPS)}; got {overlap!r}")
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, image_encoder=image_encoder)
        self.register_to_config(image_size=image_size, num_frames=num_frames, fill=fill, num_views=num_views,
                                azimuths=azimuths, guidance_scale=guidance_scale, guidance_ramp=guidance_ramp,
                                num_inference_steps=num_inference_steps, shows_input=shows_input,
                                scale_condition=scale_condition, overlap=overlap, known_input=known_input)
        self._check_components()

    def _check_components(self) -> None:
        """Do network, codec and image encoder belong together?"""
        made, given, name = self.unet.config.out_channels, 3 * FOLD**2, "folded pixels have"
        if self.vae is not None:
            given, name = self.vae.config.latent_channels, "the VAE makes"
        if made != given:
            raise ValueError(f"the network makes latents of {made} channels, {name} {given}: give the VAE (or none) "
                             "with which this checkpoint was trained")
        if self.image_encoder is not None:
            wanted, has = self.unet.config.context_dim, self.image_encoder.config.projection_dim
            if wanted != has:
                raise ValueError(f"the network attends to context of {wanted} channels, the image encoder gives {has}: "
                                 "give the encoder with which this checkpoint was trained")
        elif self.vae is not None and self.unet.config.context_dim is not None:
            log.warning("the network attends to image embeddings, and there is no image encoder; it is told zeros")

    def set_solver(self, solver: str) -> None:
        """Take another solver, ``"euler"`` or ``"multistep"``, at the same range of noise levels."""
        config = self.scheduler.config
        self.scheduler = make_scheduler(solver, config.sigma_max, config.sigma_min)

    def enable_forward_chunking(self, chunk_size: int = 16384) -> None:
        """Run the network's feed-forward maps on so many tokens at a time: less memory, the same result."""
        self.unet.enable_forward_chunking(chunk_size)

    def disable_forward_chunking(self) -> None:
        """Undo `enable_forward_chunking`."""
        self.unet.disable_forward_chunking()

    def preprocess(self, image, crop: bool = True, follow: bool = False, background: str = "auto") -> np.ndarray:
        """The frames that the network is shown, uint8 (T, size, size, 3).

        With ``crop``, one square round the object's union box over all frames is cut out, so that the object fills
        the stored ``fill``; see `sp4dlib.diffusion.images.crop_to_object`. Transparent pixels become white.
        """
        return prepare(image, {}, self.config.image_size, self.config.fill, crop, follow, background)[0]

    def views(self, azimuths, elevations, input_elevation: float) -> tuple[Cameras, Tensor]:
        """Nominal cameras of the views, and what the network is told of them, (1, V, 2)."""
        config = self.config
        azimuths, elevations = check_views(config.azimuths if azimuths is None else azimuths, elevations)
        if config.num_views is not None and len(azimuths) != config.num_views:
            raise ValueError(f"this model makes {config.num_views} views at once; got {len(azimuths)} azimuths: give "
                             f"{config.num_views}")
        if config.shows_input:
            cameras = nominal_cameras(azimuths, elevations, config.fill, config.image_size)
            return cameras, camera_angles(azimuths, elevations)[None]
        if not np.isfinite(input_elevation):
            raise ValueError(f"input_elevation must be a finite number of degrees; got {input_elevation}")
        cameras = nominal_cameras(azimuths, elevations, config.fill, config.image_size, 0.0)
        return cameras, camera_angles([0, *azimuths], [input_elevation, *elevations])[None, 1:]

    @torch.no_grad()
    def __call__(self, image, azimuths=None, elevations=0.0, num_frames: int | None = None,
                 num_inference_steps: int | None = None, guidance_scale: float | tuple[float, float] | None = None,
                 generator: torch.Generator | None = None, output_type: str = "np", crop: bool = True,
                 callback_on_step_end: Callable | None = None,
                 callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",), return_dict: bool = True, *,
                 known: Mapping[tuple[int, int], object] | None = None, hold_input: bool = False,
                 input_elevation: float = 0.0, follow: bool = False, background: str = "auto",
                 sequential_guidance: bool = False, chunk: int = 4, num_parts: int | None = None,
                 decode_parts: bool = True) -> SP4DPipelineOutput | tuple:
        """Generate.

        Parameters
        ----------
        image : PIL image, array, path, or list of such
            The input video, or one image, which is a video of one frame. See `sp4dlib.diffusion.images.as_frames`.
        azimuths, elevations : array_like, shape (V,)
            Degrees. View 0 is the input's camera where the model ``shows_input``; it is generated like the others
            unless ``hold_input``, and tells how well the network has understood what it was shown. Else azimuths count
            from the input's camera. One number for ``elevations`` serves all views.
        num_frames : int, optional
            Frames to return; default as many as are given. Missing ones repeat the last.
        num_inference_steps : int, optional
            Each one call of the network (of twice the batch under guidance) for each window.
        guidance_scale : float or (float, float), optional
            See `sp4dlib.diffusion.guidance.guidance_weights`; 1 is no guidance. The ramp runs over each window.
        generator : torch.Generator, optional
            The same seed gives the same bytes.
        output_type : {"np", "pil", "pt"}
        crop : bool
            Crop to the object as in `preprocess`. Turn it off for renders whose cameras already place the object.
        callback_on_step_end : callable, optional
            ``callback(pipeline, step, timestep, tensors) -> dict``; what it returns replaces ``latents``,
            (branches, 1, T, V, C, H, W). Steps are counted over all windows.
        known : mapping {(frame, view): picture}, optional
            Colour images that are known. The colour branch is held to them at every step, and only the rest is
            generated: also their parts. They are cropped like the input, and must have its size unless ``crop=False``.
        hold_input : bool
            The input video is known: hold the view that has the input's camera to it.
        input_elevation : float
            Degrees; where view 0 is not the input's camera.
        follow : bool
            Crop each frame round its own box; see `sp4dlib.diffusion.images.square_round`.
        background : {"auto", "alpha", "white", "rembg"}
            See `sp4dlib.diffusion.images.remove_background`.
        sequential_guidance : bool
            Less memory: see `sp4dlib.diffusion.guidance.guided_answer`.
        chunk : int
            Images that VAE and image encoder take at once.
        num_parts : int, optional
            How many parts to decode; default as many as are found.
        decode_parts : bool
            False leaves part images undecoded, which saves time where only they are wanted.

        Returns
        -------
        SP4DPipelineOutput
        """
        config = self.config
        cameras, angles = self.views(azimuths, elevations, input_elevation)
        if output_type not in ("np", "pil", "pt"):
            raise ValueError(f"output_type is 'np', 'pil' or 'pt'; got {output_type!r}")
        steps = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        if steps < 1 or chunk < 1:
            raise ValueError(f"num_inference_steps and chunk must be at least 1; got {steps} and {chunk}")
        scale = config.guidance_scale if guidance_scale is None else guidance_scale
        weights = guidance_weights(scale, config.num_frames, len(cameras), config.guidance_ramp)
        known = check_known(known or {}, len(cameras))
        frames, known = prepare(image, known, config.image_size, config.fill, crop, follow, background, num_frames)
        if hold_input:
            view = input_view(cameras, None if config.shows_input else input_elevation)
            known |= {(t, view): frame for t, frame in enumerate(frames)}
        sampling = Sampling(steps, weights.to(self._execution_device), generator, sequential_guidance,
                            config.known_input == "clean")

        def after_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
            bar.update()
            if callback_on_step_end is None:
                return latents
            tensors = {name: {"latents": latents}[name] for name in callback_on_step_end_tensor_inputs}
            return (callback_on_step_end(self, step, timestep, tensors) or {}).get("latents", latents)

        with self.progress_bar(total=steps * len(plan_windows(len(frames), config.num_frames))) as bar:
            latents = self.sample_video(frames, known, angles, sampling, chunk, after_step)
        images = [codec.decode(branch, self.vae, chunk) for branch in latents]
        for place, picture in known.items():
            images[0][place] = picture
        part_images = images[1] if len(images) > 1 else None
        parts = coding.decode(part_images, num_parts) if part_images is not None and decode_parts else None
        self.maybe_free_model_hooks()
        output = SP4DPipelineOutput(convert(images[0], output_type), convert(part_images, output_type), parts, cameras)
        return output if return_dict else output.to_tuple()

    def sample_video(self, frames: np.ndarray, known: Mapping[tuple[int, int], np.ndarray], angles: Tensor,
                     sampling: Sampling, chunk: int = 4, after_step: Callable | None = None) -> Tensor:
        """Sample a video window by window: clean latents (branches, T, V, C, H, W), float32.

        Parameters
        ----------
        frames : ndarray of uint8, shape (T, size, size, 3)
        known : mapping {(frame, view): ndarray of uint8, shape (size, size, 3)}
        angles : Tensor, shape (1, V, 2)
        sampling : Sampling
        chunk : int
            Images that VAE and image encoder take at once.
        after_step : callable, optional
            ``after_step(step, timestep, latents) -> latents``; steps are counted over all windows.
        """
        config, device, dtype = self.config, self._execution_device, self.unet.dtype
        embedded = None if self.image_encoder is None else codec.embed(frames, self.image_encoder, chunk)
        shown = codec.encode(frames, self.vae, chunk).to(device)                             # (T, C, h, w)
        pictures = codec.encode(np.stack(list(known.values())), self.vae, chunk).to(device) if known else ()
        unscale = 1.0 if config.scale_condition or self.vae is None else 1 / self.vae.config.scaling_factor
        video = torch.zeros(2 if is_dual(self.unet) else 1, len(frames), angles.shape[1], *shown.shape[1:],
                            device=device)
        for number, window in enumerate(plan_windows(len(frames), config.num_frames)):
            span = [min(window.start + t, len(frames) - 1) for t in range(config.num_frames)]
            inputs = {"cameras": angles.to(device)}
            if embedded is not None:
                inputs["context"] = embedded[span][None].to(device, dtype)
            if window.made and config.overlap == "view_latents":
                inputs["view_latents"] = (video[:1, window.start] * unscale).to(dtype)
            held = hold((len(video), 1, len(span), *video.shape[2:]),
                        {(t, view): picture for (frame, view), picture in zip(known, pictures)
                         for t, at in enumerate(span) if at == frame},
                        video[:, window.start:window.start + window.made * (config.overlap == "hold")], device)
            then = None if after_step is None else partial(count_from, after_step, number * sampling.steps)
            made = sample_window(self.unet, self.scheduler, (shown[span][None] * unscale).to(dtype), inputs, held,
                                 (len(video), 1, len(span), *video.shape[2:]), sampling, then)
            video[:, window.frames] = made[:, 0, window.made:window.stop - window.start]
        return video

    def progress_bar(self, iterable=None, total=None):
        """diffusers' bar, silent in the ``ci`` profile."""
        if not show_progress(None):
            self.set_progress_bar_config(disable=True)
        return super().progress_bar(iterable, total)


def count_from(after_step: Callable, first: int, step: int, timestep: Tensor, latents: Tensor) -> Tensor:
    """``after_step`` in a window whose first step has the number ``first``."""
    return after_step(first + step, timestep, latents)


def check_views(azimuths, elevations) -> tuple[np.ndarray, np.ndarray]:
    """Azimuths and elevations as two arrays (V,), in degrees."""
    if azimuths is None:
        raise ValueError("this model has no views of its own: give azimuths")
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


def check_known(known: Mapping, views: int) -> dict[tuple[int, int], object]:
    """Known pictures with plain numbers for their places."""
    try:
        places = {(int(frame), int(view)): picture for (frame, view), picture in known.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError("known is a mapping from (frame, view) to a picture") from error
    for frame, view in places:
        if not 0 <= view < views:
            raise ValueError(f"there is no view {view} among {views} to which the known picture of frame {frame} could "
                             "belong; views count from 0")
    return places


def input_view(cameras: Cameras, elevation: float | None) -> int:
    """The view that has the input's camera; ``elevation`` is None where that is view 0."""
    if elevation is None:
        return 0
    same = np.flatnonzero((cameras.azimuths == 0) & (cameras.elevations == elevation))
    if not len(same):
        raise ValueError("hold_input needs a view with the input's camera: make one azimuth 0 and its elevation "
                         f"input_elevation ({elevation})")
    return int(same[0])


def convert(images: np.ndarray | None, output_type: str) -> np.ndarray | list[list[Image.Image]] | Tensor | None:
    """uint8 images (T, V, H, W, 3) in the form that was asked for."""
    if images is None or output_type == "np":
        return images
    if output_type == "pil":
        return [[Image.fromarray(image) for image in row] for row in images]
    return torch.from_numpy(images).movedim(-1, -3).float() / 255
