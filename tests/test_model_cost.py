"""What counting says of layers and networks whose cost is known."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sp4dlib.model import MultiViewUNet
from sp4dlib.model.cost import Recorder, count, released
from sp4dlib.model.official import RELEASES

META = torch.device("meta")
SMALL = dict(model_channels=64, channel_mult=(1,), num_res_blocks=1, attention_resolutions=(1,), head_dim=16,
             context_dim=8, norm_groups=8, num_noise_level_channels=8, camera_channels=8)


class Two(nn.Module):
    """A linear map, a view of its result, a product of the view with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).view(7, 3)
        return y * y


def test_known_operations_are_counted_under_their_modules():
    with META:
        network, x = Two(), torch.empty(3, 5)
    cost = count(network, lambda: network(x), [x])
    product, square = cost.operations
    assert product.module == "first" and product.name == "mm" and product.flops == 2 * 3 * 5 * 7
    assert product.bytes == 4 * (3 * 5 + 5 * 7 + 3 * 7)
    assert square.module == "" and square.flops == 0 and square.bytes == 4 * 3 * 21
    assert (cost.parameters, cost.weight_bytes) == (35, 140)
    assert cost.peak_bytes == 4 * 2 * 21                  # the map's result and its square
    assert cost.flops == product.flops and cost.bytes == product.bytes + square.bytes


def test_a_roofline_takes_the_slower_of_arithmetic_and_memory_for_each_operation():
    with META:
        network, x = Two(), torch.empty(3, 5)
    product, square = (cost := count(network, lambda: network(x))).operations
    assert cost.seconds(1.0, 1e12) == pytest.approx(product.flops, rel=1e-6)
    assert cost.seconds(1e12, 1.0) == pytest.approx(product.bytes + square.bytes)
    rate = product.flops / (product.bytes + 1)            # the product is bound by memory, by one byte
    assert cost.seconds(rate, 1.0) == pytest.approx(product.bytes + 1 + square.bytes)


def test_memory_that_is_freed_does_not_count_again():
    recorder = Recorder([])
    with recorder:
        for _ in range(3):
            x = torch.zeros(10) + 1
            del x
    assert recorder.live == 0 and recorder.peak == 2 * 40


def test_a_network_counts_as_torch_counts_it_and_attention_stores_no_scores():
    with META:
        network = MultiViewUNet(**SMALL)
        arguments = (torch.empty(1, 2, 3, 8, 16, 16), torch.empty(1), torch.empty(1, 3, 2), torch.empty(1, 2, 8),
                     torch.empty(1, 3, 4, 16, 16))
    cost = count(network, lambda: network(*arguments), arguments)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(*arguments)
    assert cost.flops == flops.get_total_flops()
    kernels = [operation for operation in cost.operations if "flash" in operation.name]
    assert {operation.module.rsplit(".", 1)[1] for operation in kernels} == {"attn1"}
    assert {operation.module for operation in cost.operations} <= {name for name, _ in network.named_modules()}
    scores = 4 * 2 * (64 // 16) * (3 * 16 * 16) ** 2                    # bytes, of the joint attention at 16²
    assert cost.peak_bytes < scores


@pytest.mark.parametrize("kind", ["sp4d", "sv4d2_8views"])
def test_a_released_network_and_its_clip_fit(kind):
    network, clip = released(kind, side=8, model_channels=32, channel_mult=(1,), num_res_blocks=1, head_dim=32)
    cost = count(network, lambda: network(**clip), clip.values())
    release = RELEASES[kind]
    assert isinstance(network, release.network) and cost.flops > 0
    assert network.config.attention_mode == ("view" if kind == "sv4d2_8views" else "pixel_group")
    assert clip["cameras"].shape[1] == release.views and clip["context"].shape[1] == release.frames


def test_the_cost_of_modules_adds_up():
    with META:
        network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6)))
        x = torch.empty(2, 3)
    cost = count(network, lambda: network(x))
    assert cost.under("0").flops == 2 * 2 * 3 * 4 and cost.under("1").flops == 2 * 2 * (4 * 5 + 5 * 6)
    assert cost.under("1").flops == cost.under("1.0").flops + cost.under("1.1").flops
    assert cost.under("0", "1") == cost


def test_networks_that_hold_numbers_are_refused():
    with pytest.raises(ValueError, match="meta"):
        count(Two(), lambda: None)
    assert functional.scaled_dot_product_attention.__module__ != "sp4dlib.model.cost"
