"""Diffusion: noise and preconditioning, training, and the pipeline from an image to views and parts."""

from sp4dlib.diffusion.data import Batch, ClipTensors, camera_angles, clip_tensors, clips_views, to_images, to_model
from sp4dlib.diffusion.edm import Loss, Pair, denoise, denoising_loss, karras_sigmas
from sp4dlib.diffusion.images import crop_to_object
from sp4dlib.diffusion.mesh_views import segment_mesh
from sp4dlib.diffusion.nano import NANO_MODEL, nano_config, nano_model, nano_pipeline
from sp4dlib.diffusion.pipeline import SP4DPipeline, SP4DPipelineOutput, euler_scheduler, guidance_weights
from sp4dlib.diffusion.training import Heldout, TrainConfig, TrainResult, heldout_loss, make_heldout, train

__all__ = ["NANO_MODEL", "Batch", "ClipTensors", "Heldout", "Loss", "Pair", "SP4DPipeline", "SP4DPipelineOutput",
           "TrainConfig", "TrainResult", "camera_angles", "clip_tensors", "clips_views", "crop_to_object", "denoise",
           "denoising_loss", "euler_scheduler", "guidance_weights", "heldout_loss", "karras_sigmas", "make_heldout",
           "nano_config", "nano_model", "nano_pipeline", "segment_mesh", "to_images", "to_model", "train"]
