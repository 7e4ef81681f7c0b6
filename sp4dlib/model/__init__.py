"""Model: the multi-view video U-Net, the dual-branch network, and the official weights."""

from sp4dlib.model.concat import ConcatUNet
from sp4dlib.model.dual import BiDiFuse, DualOutput, DualUNet
from sp4dlib.model.fold import fold, unfold
from sp4dlib.model.patch_vae import PatchVAE
from sp4dlib.model.unet import MultiViewUNet

__all__ = ["BiDiFuse", "ConcatUNet", "DualOutput", "DualUNet", "MultiViewUNet", "PatchVAE", "fold", "unfold"]
