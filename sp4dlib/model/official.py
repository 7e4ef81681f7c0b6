"""The released checkpoints: which there are, where they come from, reading and writing whole files.

=================  =========================  =========================================================================
kind               repository                 network
=================  =========================  =========================================================================
``sp4d``           ``stabilityai/sp4d``       colour and parts, 4 frames x 12 views (arXiv 2509.10687)
``sv4d2``          ``stabilityai/sv4d2.0``    colour, 12 frames x 4 views (arXiv 2503.16396)
``sv4d2_8views``   ``stabilityai/sv4d2.0``    colour, 5 frames x 8 views
=================  =========================  =========================================================================

The weights are under the Stability AI Community License, the code that they came with is under MIT.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn

from sp4dlib.model import convert, encoders
from sp4dlib.model.checkpoint import Piece, Tensors, check, fill, official_tensors, open_tensors
from sp4dlib.model.dual import DualUNet
from sp4dlib.model.unet import MultiViewUNet

log = logging.getLogger(__name__)

LICENSE = "Stability AI Community License"
COMPONENTS = ("unet", "vae", "image_encoder")
METADATA_KIND = "sp4dlib.kind"
PREFIXES = {"unet": (convert.PREFIX,), "vae": (encoders.DECODER, *encoders.ENCODERS),
            "image_encoder": ("conditioner.embedders.0.",)}
# Parts that the release carries along and never evaluates: the conditioner's decoders, and what OpenCLIP has for text.
UNUSED = re.compile(r"conditioner\.embedders\.[145]\.encoder\.(decoder|post_quant_conv|loss)\."
                    r"|conditioner\.embedders\.0\.open_clip\.(mean$|std$|model\.(?!visual\.))"
                    r"|first_stage_model\.(loss|regularization)\.")


class Release(NamedTuple):
    """A released checkpoint."""

    repository: str
    file: str
    network: type[nn.Module]
    config: dict
    frames: int
    views: int


RELEASES = {
    "sp4d": Release("stabilityai/sp4d", "sp4d.safetensors", DualUNet, {}, 4, 12),
    "sv4d2": Release("stabilityai/sv4d2.0", "sv4d2.safetensors", MultiViewUNet, {}, 12, 4),
    "sv4d2_8views": Release("stabilityai/sv4d2.0", "sv4d2_8views.safetensors", MultiViewUNet,
                            {"use_3d_attention": False}, 5, 8),
}


def load(source: str | PathLike, kind: str | None = None, dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
         components: Iterable[str] = COMPONENTS, config: Mapping[str, Mapping] | None = None) -> dict:
    """Read a released checkpoint, tensor by tensor, into modules that were built without memory.

    Weights that are not converted stay mapped from the file until they are moved or changed, and take memory as they
    are used; those that are converted take the memory of the result.

    Parameters
    ----------
    source : path or str
        A file of the official layout, a folder that holds one, a repository on the Hugging Face hub
        (``"stabilityai/sp4d"``), or a kind, which stands for its repository.
    kind : {"sp4d", "sv4d2", "sv4d2_8views"}, optional
        By default recognised. Files of the two SV4D 2.0 networks have the same names and shapes and differ in what is
        computed with them: there the file's name decides, or the metadata of a file that `save` wrote.
    dtype : torch.dtype or {component: torch.dtype}, optional
        float32, bfloat16 or float16; the file's own by default.
    components : iterable of {"unet", "vae", "image_encoder"}
        What to read.
    config : {component: mapping}, optional
        For networks of other sizes: arguments that differ from the release's. Official constructor arguments for
        ``unet``, those of ``AutoencoderKL`` and ``CLIPVisionConfig`` for the others.

    Returns
    -------
    dict
        ``unet`` (`DualUNet` or `MultiViewUNet`), ``vae`` (diffusers' ``AutoencoderKL``), ``image_encoder``
        (transformers' ``CLIPVisionModelWithProjection``), in evaluation mode; None where it was not asked for.

    Raises
    ------
    OSError
        If the file does not exist or cannot be downloaded.
    ValueError
        If the file is no such checkpoint; the first missing, unexpected and misshapen tensors are named.
    ImportError
        If the image encoder is asked for and transformers is not installed.
    """
    wanted = _known("components", components, COMPONENTS)
    config = dict(config or {})
    _known("entries of config", config, COMPONENTS)
    if kind is not None:
        _known("kind", [kind], RELEASES)
    tensors = open_tensors(locate(source, kind))
    release = RELEASES[recognise(tensors, kind)]
    models = {name: _build(name, release, config.get(name, {})) for name in wanted}
    pieces = {name: _pieces(name, model) for name, model in models.items()}
    prefixes = tuple(prefix for name in wanted for prefix in PREFIXES[name])
    present = [name for name in tensors.names if name.startswith(prefixes) and not UNUSED.match(name)]
    check(tensors, [(models[name], pieces[name]) for name in wanted], present)
    for name in wanted:
        fill(models[name], pieces[name], tensors, dtype.get(name) if isinstance(dtype, Mapping) else dtype)
    _log_left_out(tensors, pieces)
    return {name: models[name].eval() if name in models else None for name in COMPONENTS}


def save(components: Mapping[str, nn.Module | None], path: str | PathLike) -> None:
    """Write modules as one file of the official layout, from which `load` reads the same bits.

    Tensors that the official file holds several times are written several times. Only those, and the stacks of
    queries, keys and values, are copied in memory on the way.

    Parameters
    ----------
    components : mapping
        As `load` returns them; ``vae`` and ``image_encoder`` may be absent or None.
    path : path

    Raises
    ------
    ValueError
        If a network has no official counterpart.
    """
    unet = components.get("unet")
    if unet is None:
        raise ValueError("give the network as 'unet'; a checkpoint without one has no kind")
    kind = kind_of(unet)
    state = {}
    for name in _known("components", components, COMPONENTS):
        if components[name] is not None:
            state |= official_tensors(components[name], _pieces(name, components[name]))
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(state, temporary, {"format": "pt", METADATA_KIND: kind})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def kind_of(unet: MultiViewUNet | DualUNet) -> str:
    """Which release a network is one of.

    Raises
    ------
    ValueError
        If no official code computes what it does: the names would fit, the results would not.
    """
    mode = unet.config.attention_mode
    if isinstance(unet, DualUNet) and mode == "pixel_group":
        return "sp4d"
    if isinstance(unet, MultiViewUNet) and mode in ("pixel_group", "view"):
        return "sv4d2" if mode == "pixel_group" else "sv4d2_8views"
    raise ValueError(f"a {type(unet).__name__} with attention_mode={mode!r} is none of the official networks "
                     f"({', '.join(RELEASES)}); use save_pretrained")


def recognise(tensors: Tensors, kind: str | None = None) -> str:
    """Kind of an open checkpoint, by its tensors' names, its metadata and its own name.

    Raises
    ------
    ValueError
        If it is none, is not the ``kind`` that was said, or may be either SV4D 2.0 network.
    """
    names = tensors.names
    if any(name.startswith(convert.PREFIX + "net2.") for name in names):
        family = ("sp4d",)
    elif any(name.startswith(convert.PREFIX) and ".motion_blocks." in name for name in names):
        family = ("sv4d2", "sv4d2_8views")
    else:
        raise ValueError(f"{tensors.label} is no checkpoint of {', '.join(RELEASES)}: none of its {len(names)} tensors "
                         f"has a name such as {convert.PREFIX}net2.* or {convert.PREFIX}*.motion_blocks.*; it holds "
                         f"{', '.join(names[:3]) or 'nothing'}{', ...' if len(names) > 3 else ''}")
    stated = tensors.metadata.get(METADATA_KIND)
    family = (stated,) if stated in family else family
    if kind is not None and kind not in family:
        raise ValueError(f"{tensors.label} is not {kind}: it holds {' or '.join(family)}")
    if kind or len(family) == 1:
        return kind or family[0]
    if re.search(r"8[-_ ]?views?", tensors.label.lower()):
        return "sv4d2_8views"
    if re.match(r"sv4d2(\.0)?([-_]fp16|[-_]bf16)?\.safetensors", tensors.label.lower()):
        return "sv4d2"
    raise ValueError(f"{tensors.label} may be sv4d2 or sv4d2_8views, whose tensors have the same names and shapes: "
                     "give kind='sv4d2' (12 frames x 4 views) or kind='sv4d2_8views' (5 x 8), or the file its "
                     "released name")


def locate(source: str | PathLike, kind: str | None = None) -> Path:
    """Path of a checkpoint, downloaded if need be; see `load`.

    Raises
    ------
    OSError
        If there is none, or it cannot be downloaded.
    """
    path = Path(source)
    if path.is_file():
        return path
    candidates = [kind] if kind else list(RELEASES)
    if path.is_dir():
        found = [path / RELEASES[name].file for name in candidates if (path / RELEASES[name].file).is_file()]
        if len(found) != 1:
            wanted = ", ".join(RELEASES[name].file for name in candidates)
            raise FileNotFoundError(f"the folder {path} holds {len(found)} of {wanted}: name the file")
        return found[0]
    name = str(source)
    if name in RELEASES:
        return download(RELEASES[name].repository, RELEASES[name].file)
    for candidate in candidates:
        if name == RELEASES[candidate].repository:
            return download(name, RELEASES[candidate].file)
    if kind and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.endswith(".safetensors"):
        return download(name, RELEASES[kind].file)
    raise FileNotFoundError(f"there is no file {name}, and the released models are "
                            f"{', '.join(f'{key} ({value.repository})' for key, value in RELEASES.items())}")


def download(repository: str, file: str) -> Path:
    """Fetch a file from the Hugging Face hub, once; it stays in that library's cache.

    Raises
    ------
    OSError
        If access was not granted or the network does not answer, with what to do.
    """
    from huggingface_hub import errors, hf_hub_download

    page = f"https://huggingface.co/{repository}"
    log.warning("%s from %s is under the %s: see %s", file, repository, LICENSE, page)
    try:
        return Path(hf_hub_download(repository, file))
    except errors.RepositoryNotFoundError as error:     # also of gated repositories
        raise OSError(f"access to {page} is not granted: accept the {LICENSE} on that page, then log in with "
                      "`hf auth login` or set HF_TOKEN") from error
    except (errors.RemoteEntryNotFoundError, errors.HFValidationError) as error:
        raise OSError(f"{repository} holds no {file}; see {page}") from error
    except OSError as error:
        raise OSError(f"{file} is neither in the cache nor could it be fetched ({type(error).__name__}). Connect to "
                      f"the network, or download it from {page} elsewhere and give its path") from error


def _known(what: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    names, known = [names] if isinstance(names, str) else list(names), list(known)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ValueError(f"unknown {what}: {', '.join(map(repr, wrong))}; choose from {', '.join(known)}")
    return names


def _build(name: str, release: Release, config: Mapping) -> nn.Module:
    with torch.device("meta"):
        if name == "unet":
            return release.network(**convert.official_config(release.config | dict(config)))
        return encoders.build_vae(config) if name == "vae" else encoders.build_image_encoder(config)


def _pieces(name: str, model: nn.Module) -> dict[str, Piece]:
    if name == "unet":
        return convert.unet_pieces(model)
    return encoders.vae_pieces(model) if name == "vae" else encoders.image_encoder_pieces(model.state_dict())


def _log_left_out(tensors: Tensors, pieces: Mapping[str, Mapping[str, Piece]]) -> None:
    used = {name for part in pieces.values() for piece in part.values() for name in (piece.name, *piece.copies)}
    rest = Counter(".".join(name.split(".")[:3]) for name in tensors.names if name not in used)
    if rest:
        log.info("%s: %d tensors are not used (%s)", tensors.label, rest.total(),
                 ", ".join(f"{count} of {prefix}" for prefix, count in sorted(rest.items())))
