"""Diffusion: noise and preconditioning, training, and the pipeline from an image to views and parts."""

from sp4dlib.diffusion.autoencoder import VAEConfig, make_vae, train_vae
from sp4dlib.diffusion.contrastive import contrastive_loss, info_nce
from sp4dlib.diffusion.data import Batch, ClipTensors, camera_angles, clip_tensors, clips_views, to_images, to_model
from sp4dlib.diffusion.edm import Loss, Pair, denoise, denoising_loss, karras_sigmas
from sp4dlib.diffusion.run_recipe import Outcome, Windows, export_run, follow
from sp4dlib.diffusion.images import crop_to_object
from sp4dlib.diffusion.mesh_views import segment_mesh
from sp4dlib.diffusion.nano import NANO_MODEL, nano_config, nano_model, nano_pipeline
from sp4dlib.diffusion.pipeline import SP4DPipeline, SP4DPipelineOutput, euler_scheduler, guidance_weights
from sp4dlib.diffusion.recipe import Recipe, budget, read_recipe
from sp4dlib.diffusion.shipped import default_model
from sp4dlib.diffusion.training import Heldout, TrainConfig, TrainResult, heldout_loss, make_heldout, train

__all__ = ["Batch", "ClipTensors", "Heldout", "Loss", "NANO_MODEL", "Outcome", "Pair", "Recipe", "SP4DPipeline",
           "SP4DPipelineOutput", "TrainConfig", "TrainResult", "VAEConfig", "Windows", "budget", "camera_angles",
           "clip_tensors", "clips_views", "contrastive_loss", "crop_to_object", "default_model", "denoise",
           "denoising_loss", "euler_scheduler", "export_run", "follow", "guidance_weights", "heldout_loss",
           "info_nce", "karras_sigmas", "make_heldout", "make_vae", "nano_config", "nano_model", "nano_pipeline",
           "read_recipe", "segment_mesh", "to_images", "to_model", "train", "train_vae"]
