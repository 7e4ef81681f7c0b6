"""A small KL autoencoder for renders of one object on white and for flat part colours.

The released models use Stable Diffusion's autoencoder: 84 M weights that know photographs. Where objects are 64 pixels
wide and parts two or three, it has to keep single pixels, but knows little about the world. Here pixels are folded into
patches first, so that no convolution runs at full resolution; a linear map codes the patches, and a few convolutions,
which start at zero, mend what it loses. Nothing is normalised: a normalisation over the picture would take away what
matters most, the exact colour.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from sp4dlib.model.fold import fold, unfold

WHITE = 1.0             # the background in [-1, 1]: its latents shall be 0
FIRST_LOG_VARIANCE = -8.0


class LinearAndMore(nn.Module):
    """A linear map of every pixel plus a residual network that starts at 0.

    Parameters
    ----------
    inputs, outputs : int
    width, blocks : int
        Channels of the residual network, and its blocks of two 3x3 convolutions.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
                          nn.Conv2d(width, width, 3, padding=1)) for _ in range(blocks))
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        for layer in (self.last, *(block[-1] for block in self.blocks)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h, w)."""
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.linear(x) + self.last(functional.silu(h))


class PatchVAE(ModelMixin, ConfigMixin):
    """Pictures to latents and back, with the interface of diffusers' ``AutoencoderKL``.

    Parameters
    ----------
    patch : int
        Pixels of a side that one latent pixel stands for.
    latent_channels : int
        At most the ``3 patch²`` numbers of a patch.
    width, blocks : int
        See `LinearAndMore`.
    scaling_factor : float
        By which the diffusion model multiplies latents.
    """

    @register_to_config
    def __init__(self, patch: int = 2, latent_channels: int = 8, width: int = 32, blocks: int = 2,
                 scaling_factor: float = 1.0) -> None:
        super().__init__()
        numbers = 3 * patch**2
        if not 1 <= latent_channels <= numbers:
            raise ValueError(f"a patch of {patch}x{patch} pixels has {numbers} numbers; latent_channels lies between 1 "
                             f"and that; got {latent_channels}")
        self.encoder = LinearAndMore(numbers, 2 * latent_channels, width, blocks)
        self.decoder = LinearAndMore(latent_channels, numbers, width, blocks)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self._set_linear(torch.eye(latent_channels, numbers))

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Pictures (N, 3, H, W) in [-1, 1] to a distribution of latents (N, latent_channels, H / patch, W / patch)."""
        size = self.config.patch
        if x.shape[-2] % size or x.shape[-1] % size:
            raise ValueError(f"pictures of {tuple(x.shape[-2:])} pixels are no whole patches of {size}")
        moments = self.quant_conv(self.encoder(fold(x - WHITE, size)))
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Latents (N, latent_channels, h, w) to pictures (N, 3, patch h, patch w), about in [-1, 1]."""
        return DecoderOutput(sample=unfold(self.decoder(self.post_quant_conv(z)), self.config.patch) + WHITE)

    def fit_linear(self, pictures: Tensor) -> None:
        """Set the linear maps to the principal components of the patches of some pictures, and the rest to 0.

        That is the best linear autoencoder: training goes on from there, instead of looking for it.

        Parameters
        ----------
        pictures : Tensor, shape (N, 3, H, W)
            In [-1, 1].
        """
        patches = fold(pictures - WHITE, self.config.patch).transpose(0, 1).flatten(1).double()          # (3p², M)
        vectors = torch.linalg.eigh(patches @ patches.T).eigenvectors.flip(1).T[:self.config.latent_channels]
        largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))       # the sign is free: fix it
        self._set_linear((vectors * largest.sign()).float())

    @torch.no_grad()
    def _set_linear(self, basis: Tensor) -> None:
        """Encode by the rows of ``basis``, decode by its transpose."""
        count = len(basis)
        for layer, matrix in ((self.encoder.linear, torch.cat([basis, torch.zeros_like(basis)])),
                              (self.decoder.linear, basis.T), (self.quant_conv, torch.eye(2 * count)),
                              (self.post_quant_conv, torch.eye(count))):
            layer.weight.copy_(matrix[:, :, None, None])
            layer.bias.zero_()
        self.encoder.linear.bias[count:] = FIRST_LOG_VARIANCE
