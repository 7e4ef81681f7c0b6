"""Moving tensors between a module and a file that names and shapes them differently, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

WINDOW = 64 * 2**20         # bytes that are read before a file is opened anew


@dataclass(frozen=True)
class Piece:
    """Where one of our tensors lies in a file.

    Attributes
    ----------
    name : str
        The file's tensor.
    form : {"same", "transposed", "pointwise", "third"}
        Equal; its transpose; a 1×1 convolution (C, D, 1, 1) for a linear map (C, D); one third of its rows, such as
        the keys of a stack of queries, keys and values.
    third : int
        Which one, for that form.
    copies : tuple of str
        Further tensors of the file that hold the same.
    """

    name: str
    form: str = "same"
    third: int = 0
    copies: tuple[str, ...] = ()

    def moved(self, *prefixes: str) -> Piece:
        """The piece under other prefixes; all but the first are copies."""
        return replace(self, name=prefixes[0] + self.name, copies=tuple(more + self.name for more in prefixes[1:]))

    def official_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the file's tensor, if ours is ``shape``."""
        if self.form == "transposed":
            return tuple(reversed(shape))
        if self.form == "pointwise":
            return (*shape, 1, 1)
        if self.form == "third":
            return (3 * shape[0], *shape[1:])
        return tuple(shape)


@dataclass(frozen=True)
class Tensors:
    """A checkpoint that is open for reading.

    Attributes
    ----------
    label : str
        What to call it in errors.
    names : tuple of str
    shape : callable, name -> tuple of int
    read : callable, (name, first row, one past the last row) -> Tensor
    metadata : mapping of str to str
    """

    label: str
    names: tuple[str, ...]
    shape: Callable[[str], tuple[int, ...]]
    read: Callable[..., torch.Tensor]
    metadata: Mapping[str, str]


def open_tensors(source: str | PathLike | Mapping[str, torch.Tensor]) -> Tensors:
    """Open a safetensors file, or a state dict, whose tensors are then used as they are.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a safetensors file.
    """
    if isinstance(source, Mapping):
        return Tensors("the state dict", tuple(source), lambda name: tuple(source[name].shape),
                       lambda name, start=None, stop=None: source[name] if stop is None else source[name][start:stop],
                       {})
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        file = _File(path)
    except SafetensorError as error:
        raise ValueError(f"{path} ({path.stat().st_size} bytes) is not a whole safetensors file ({error}): "
                         "download it again") from error
    return Tensors(path.name, tuple(file.handle.keys()), file.shape, file.read, file.handle.metadata() or {})


class _File:
    """A safetensors file that is opened anew from time to time.

    It is mapped into memory, and all pages that were ever read stay resident until the mapping ends. Where tensors are
    converted while they are read, that would be a copy of the whole file beside the result.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.mapped = path, 0
        self.handle = safe_open(fspath(path), "pt")

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.handle.get_slice(name).get_shape())

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> torch.Tensor:
        if self.mapped > WINDOW:
            self.handle, self.mapped = safe_open(fspath(self.path), "pt"), 0
        tensor = self.handle.get_tensor(name) if stop is None else self.handle.get_slice(name)[start:stop]
        self.mapped += tensor.nbytes
        return tensor


def check(tensors: Tensors, models: Iterable[tuple[nn.Module, Mapping[str, Piece]]], present: Iterable[str]) -> None:
    """Make sure that modules and file fit.

    Parameters
    ----------
    tensors : Tensors
    models : iterable of (Module, {our name: Piece})
    present : iterable of str
        Tensors of the file that are meant for these modules.

    Raises
    ------
    ValueError
        One error that counts missing, unexpected and misshapen tensors and names the first three of each.
    """
    expected = {}
    for model, pieces in models:
        state = model.state_dict()
        for ours, piece in pieces.items():
            shape = piece.official_shape(tuple(state[ours].shape))
            expected |= dict.fromkeys((piece.name, *piece.copies), shape)
    names = set(tensors.names)
    wrong = {
        "missing": [name for name in expected if name not in names],
        "unexpected": [name for name in present if name not in expected],
        "misshapen": [f"{name} {tensors.shape(name)} (expected {shape})" for name, shape in expected.items()
                      if name in names and tensors.shape(name) != shape],
    }
    problems = [f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
                for what, found in wrong.items() if found]
    if problems:
        raise ValueError(f"{tensors.label}: these weights do not fit the network: {'; '.join(problems)}. Check that "
                         "the configuration belongs to the checkpoint")


def fill(model: nn.Module, pieces: Mapping[str, Piece], tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Give a module without memory its tensors, one by one, so that no second copy of the weights exists.

    Parameters
    ----------
    model : Module
        Built on the ``meta`` device.
    pieces : {our name: Piece}
    tensors : Tensors
    dtype : torch.dtype, optional
        Convert to it; the file's by default.

    Raises
    ------
    ValueError
        If copies in the file differ.
    """
    for ours, piece in pieces.items():
        official = _read(piece, tensors)
        for copy in piece.copies:
            if not torch.equal(tensors.read(copy), official):
                raise ValueError(f"{tensors.label}: {copy} differs from {piece.name}, of which it should be a copy. "
                                 "Were these weights fine-tuned one by one? Only equal copies can become one module")
        tensor = _to_ours(piece, official).to(dtype=dtype)
        owner, _, leaf = ours.rpartition(".")
        module = model.get_submodule(owner)
        before = getattr(module, leaf)
        setattr(module, leaf, nn.Parameter(tensor, requires_grad=before.requires_grad))


def official_tensors(model: nn.Module, pieces: Mapping[str, Piece]) -> dict[str, torch.Tensor]:
    """A module's tensors under the file's names and in its shapes; copied only where the shapes or copies need it."""
    state = model.state_dict()
    thirds: dict[str, list[torch.Tensor | None]] = {}
    result = {}
    for ours, piece in pieces.items():
        tensor = state[ours]
        if piece.form == "third":
            stack = thirds.setdefault(piece.name, [None, None, None])
            stack[piece.third] = tensor
            if all(rows is not None for rows in stack):
                result[piece.name] = torch.cat(thirds.pop(piece.name))
            continue
        if piece.form == "transposed":
            tensor = tensor.t()
        elif piece.form == "pointwise":
            tensor = tensor[..., None, None]
        result[piece.name] = tensor.contiguous()
        result |= {copy: result[piece.name].clone() for copy in piece.copies}
    return result


def _read(piece: Piece, tensors: Tensors) -> torch.Tensor:
    if piece.form != "third":
        return tensors.read(piece.name)
    rows = tensors.shape(piece.name)[0] // 3
    return tensors.read(piece.name, piece.third * rows, (piece.third + 1) * rows)


def _to_ours(piece: Piece, tensor: torch.Tensor) -> torch.Tensor:
    if piece.form == "transposed":
        return tensor.t().contiguous()
    return tensor.flatten(1) if piece.form == "pointwise" else tensor
