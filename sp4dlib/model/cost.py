"""What a network costs, counted while it runs: floating-point operations, memory traffic, live activations.

Nothing needs to be computed for it. A network that is built and run on the ``meta`` device holds no numbers, so the
largest one can be asked in seconds and without a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple
from unittest import mock

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from sp4dlib.model import convert, official
from sp4dlib.model.dual import DualUNet


class Operation(NamedTuple):
    """One kernel: the module that called it, its name, its multiplications and additions, the bytes it moves.

    The bytes are those of the tensors that it reads and writes, each once.
    """

    module: str
    name: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes
    ----------
    parameters : int
    weight_bytes : int
        Of all parameters.
    peak_bytes : int
        Most bytes alive at once besides parameters and inputs; scratch memory inside of kernels is not seen.
    operations : tuple of Operation
        In the order in which they ran.
    """

    parameters: int
    weight_bytes: int
    peak_bytes: int
    operations: tuple[Operation, ...]

    @property
    def flops(self) -> int:
        """Of products of matrices, convolutions and attention; one multiply-add counts as two."""
        return sum(operation.flops for operation in self.operations)

    @property
    def bytes(self) -> int:
        """Read from and written to memory by all operations."""
        return sum(operation.bytes for operation in self.operations)

    def under(self, *modules: str) -> Cost:
        """The part of these modules, named as ``network.named_modules()`` does, and of all below them.

        Parameters and memory stay those of the whole.
        """
        inside = tuple(f"{module}." for module in modules)
        return replace(self, operations=tuple(operation for operation in self.operations
                                              if f"{operation.module}.".startswith(inside)))

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The time that no device of these rates can beat if it runs these operations one by one (a roofline)."""
        return sum(max(operation.flops / flops_per_second, operation.bytes / bytes_per_second)
                   for operation in self.operations)


def released(kind: str, side: int = 72, dtype: torch.dtype = torch.bfloat16,
             **config) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A released network at full size and the inputs of one clip for it, all on the ``meta`` device.

    Parameters
    ----------
    kind : {"sp4d", "sv4d2", "sv4d2_8views"}
    side : int
        Of the latents; an eighth of the images'.
    dtype : torch.dtype
    **config
        Of the network, where it is to differ from the released one: ``attention_mode="joint"``.

    Returns
    -------
    network : DualUNet or MultiViewUNet
    clip : dict of Tensor
        Arguments of its ``forward``.
    """
    release = official.RELEASES[kind]
    with torch.device("meta"):
        network = release.network(**convert.official_config(release.config) | config)
        nn.Module.to(network, dtype)            # that of diffusers warns of modules to keep in float32, and has none
        latents = torch.empty(1, release.frames, release.views, 4, side, side, dtype=dtype)
        clip = {"timestep": torch.empty(1), "cameras": torch.empty(1, release.views, 2),
                "context": torch.empty(1, release.frames, network.config.context_dim, dtype=dtype),
                "view_latents": torch.empty_like(latents[:, 0])}
        if isinstance(network, DualUNet):
            return network, clip | {"rgb": latents, "part": torch.empty_like(latents),
                                    "condition": torch.empty_like(latents[:, :, 0])}
        return network, clip | {"sample": torch.cat([latents, latents], 3)}


def count(network: nn.Module, run: Callable[[], object], known: Iterable[torch.Tensor] = ()) -> Cost:
    """Count what ``run()`` does, without gradients.

    Attention counts as a kernel that stores no scores (flash attention).

    Parameters
    ----------
    network : Module
        Operations are attributed to its modules, under the names of ``network.named_modules()``.
    run : callable
        Evaluates the network, which is on the ``meta`` device.
    known : iterable of Tensor
        Its inputs, which do not count as activations.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If the network is not on the ``meta`` device.
    """
    parameters = list(network.parameters())
    if not all(parameter.is_meta for parameter in parameters):
        raise ValueError("costs are counted on the meta device: build the network under `with torch.device('meta')`, "
                         "or move it there with .to('meta')")
    with torch.no_grad(), mock.patch.object(functional, "scaled_dot_product_attention", _flash), \
            _Names(network) as names, Recorder([*parameters, *known], names) as recorder:
        run()
    return Cost(sum(parameter.numel() for parameter in parameters), sum(parameter.nbytes for parameter in parameters),
                recorder.peak, tuple(recorder.operations))


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_) -> torch.Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


class Recorder(TorchDispatchMode):
    """Operations, and the bytes of the tensors that are alive, now (``live``) and at most (``peak``).

    Parameters
    ----------
    known : iterable of Tensor
        Tensors that do not count as alive: parameters and inputs.
    names : object with ``current() -> str``, optional
        Of the module that runs.
    """

    def __init__(self, known: Iterable[torch.Tensor], names: _Names | None = None) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.operations: list[Operation] = []
        self._names = names
        self._known = WeakIdKeyDictionary()
        for tensor in known:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known[storage] = True
                self.live += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.live)
        if given and (function._schema.is_mutable or not _same_memory(given, made)):
            formula = flop_registry.get(function._overloadpacket)
            self.operations.append(Operation(
                self._names.current() if self._names else "", function._overloadpacket.__name__,
                formula(*args, **kwargs, out_val=result) if formula else 0,
                sum(tensor.nbytes for tensor in given + made)))
        return result

    def _free(self, size: int) -> None:
        self.live -= size


def _same_memory(given: list[torch.Tensor], made: list[torch.Tensor]) -> bool:
    """Is the result a view of what was given? Then nothing was moved."""
    old = {tensor.untyped_storage()._cdata for tensor in given}
    return all(tensor.untyped_storage()._cdata in old for tensor in made)


class _Names:
    """Tells which module of a network runs; a context."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._running = [""]

    def current(self) -> str:
        return self._running[-1]

    def __enter__(self) -> _Names:
        self._hooks = (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave))
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: nn.Module, _) -> None:
        self._running.append(self._names.get(module, self._running[-1]))

    def _leave(self, *_) -> None:
        self._running.pop()
