"""The contrastive part-consistency loss of SP4D (arXiv 2509.10687, eq. 2).

A part that is seen in several views and frames shall have like features in all of them, and unlike those of other
parts. The paper names the loss and its temperature; the layer, the weight, the projection and the mask that features
are pooled over are not stated. Here they are arguments: features are what the part branch's last decoder block hands to
its output convolution, masks are the true part ids that training has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE = 0.07      # the paper's
LEAST = 1.0             # feature pixels that a region must cover to be pooled: less is mostly its neighbours


class Regions(NamedTuple):
    """Features of all regions of a batch. A region is one part in one view of one frame.

    Attributes
    ----------
    features : Tensor, shape (R, C)
        Mean feature of each region, float32.
    part : Tensor of int64, shape (R,)
        Equal for regions of one part of one clip, different for any other.
    clip : Tensor of int64, shape (R,)
        Number of the clip in the batch.
    """

    features: Tensor
    part: Tensor
    clip: Tensor


class ProjectionHead(nn.Sequential):
    """Pooled features to the space in which they are compared: two linear layers, as in SimCLR (arXiv 2002.05709).

    Parameters
    ----------
    channels : int
        C of the features.
    width : int
        Dimensions of the result.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, width))


def pool_regions(features: Tensor, ids: Tensor, least: float = LEAST) -> Regions:
    """Mean feature of every region: masked average pooling.

    A feature pixel counts for a part by the share of the image pixels under it that show the part.

    Parameters
    ----------
    features : Tensor, shape (B, T, V, C, h, w)
    ids : Tensor of int, shape (B, T, V, H, W)
        Part ids, -1 = background. H and W are multiples of h and w.
    least : float
        Regions that cover less, in feature pixels, are left out.

    Returns
    -------
    Regions
        Gradients flow to ``features``.
    """
    batch, frames, views, channels, height, width = features.shape
    if ids.shape[:3] != features.shape[:3] or ids.shape[3] % height or ids.shape[4] % width:
        raise ValueError(f"ids of shape {tuple(ids.shape)} do not lie on features of shape {tuple(features.shape)}: "
                         "they need the same B, T, V and sides that are multiples of the features' sides")
    count = max(int(ids.max()) + 1, 1)
    rows, columns = ids.shape[3] // height, ids.shape[4] // width
    cell = ids.reshape(-1, height, rows, width, columns).transpose(2, 3).flatten(3).flatten(1, 2)   # (I, h·w, cell)
    cell = cell.to(features.device, torch.int64)
    masks = torch.zeros(*cell.shape[:2], count + 1, device=features.device)
    masks.scatter_add_(2, cell + 1, torch.ones_like(cell, dtype=torch.float32))
    masks = masks[..., 1:] / (rows * columns)                                                       # (I, h·w, K)
    with torch.autocast(features.device.type, enabled=False):       # sums over hundreds of pixels want 32 bits
        flat = features.flatten(0, 2).flatten(2).float()                                            # (I, C, h·w)
        area = masks.sum(1)                                                                         # (I, K)
        image, part = torch.nonzero(area >= least, as_tuple=True)
        sums = torch.einsum("icp,ipk->ikc", flat, masks)
        pooled = sums[image, part] / area[image, part, None]
    clip = image // (frames * views)
    return Regions(pooled, clip * count + part, clip)


def info_nce(embedded: Tensor, part: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE over regions (eq. 2): the mean over i and its positives j of

    ``-log( exp(sim(f_i, f_j) / τ) / Σ_{k ≠ i} exp(sim(f_i, f_k) / τ) )``,

    sim being the cosine. The denominator runs over all other regions of the batch, positives included, as the paper
    writes it, so that the least value with p positives is ``log p`` and not 0. The mean is taken over the positives of
    each i first, then over all i that have any: a part seen often weighs no more than one seen twice.

    Parameters
    ----------
    embedded : Tensor, shape (R, D)
        Of any length; normalised here, in float32.
    part : Tensor of int, shape (R,)
        Regions of equal number are positives of one another.
    temperature : float

    Returns
    -------
    Tensor, shape ()
        0, with a gradient of 0, where no region has a positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    with torch.autocast(embedded.device.type, enabled=False):
        unit = functional.normalize(embedded.float(), dim=-1)
        logits = unit @ unit.T / temperature                                                        # (R, R)
        itself = torch.eye(len(part), dtype=torch.bool, device=part.device)
        logits = logits.masked_fill(itself, -torch.inf)
        positive = (part[:, None] == part) & ~itself
        counts = positive.sum(1)
        paired = counts > 0
        if not paired.any():
            return embedded.float().sum() * 0
        log_share = logits - torch.logsumexp(logits, 1, keepdim=True)
        own = torch.where(positive, log_share, 0).sum(1)[paired] / counts[paired]
        return -own.mean()


def contrastive_loss(features: Tensor, ids: Tensor, head: nn.Module, temperature: float = TEMPERATURE,
                     least: float = LEAST) -> Tensor:
    """`info_nce` of the projected features of all regions (`pool_regions`).

    Parameters
    ----------
    features : Tensor, shape (B, T, V, C, h, w)
        ``DualUNet(..., return_features=True).features[1]``.
    ids : Tensor of int, shape (B, T, V, H, W)
    head : Module
        `ProjectionHead`.
    temperature, least : float

    Returns
    -------
    Tensor, shape ()
    """
    regions = pool_regions(features, ids, least)
    return info_nce(head(regions.features), regions.part, temperature)
