"""The networks on a CUDA device: `pytest -m gpu`. Full size needs a card of 24 GB or more."""

import gc

import pytest
import torch
from model_parity_files import ParityFile

from benchmarks import network_gpu
from benchmarks.network_counts import LAYOUTS, full_size
from sp4dlib.model import DualUNet, MultiViewUNet

pytestmark = pytest.mark.gpu

CASES = {"sv4d2_nano": MultiViewUNet, "sv4d2_8views_nano": MultiViewUNet, "sp4d_nano": DualUNet}
GIB = 2**30


@pytest.fixture(autouse=True)
def card():
    """A CUDA device, empty, and true float32: TensorFloat-32 would miss the parity bounds."""
    if not torch.cuda.is_available():
        pytest.fail("tests marked gpu need a CUDA device")
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    gc.collect()
    torch.cuda.empty_cache()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


def on_card(name, dtype=torch.float32):
    case = ParityFile(name)
    model = CASES[name].from_official(case.weights, **case.config["network"]).to("cuda", dtype)
    return case, model, {key: value.to("cuda", dtype) for key, value in case.part("in.").items()}


@pytest.mark.parametrize("name", CASES)
def test_float32_output_and_gradients_agree_with_the_release(name):
    case, model, inputs = on_card(name)
    for key in case.part("grad.in."):
        inputs[key].requires_grad_()
    sample = model.forward_official(inputs, *case.layout)
    torch.testing.assert_close(sample.cpu(), case.tensors["out.sample"], atol=2e-5, rtol=0)
    (sample * inputs["loss_weight"]).sum().backward()
    for key, expected in case.part("grad.in.").items():
        assert (inputs[key].grad.cpu() - expected).norm() <= 1e-4 * expected.norm(), key


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_stays_close_to_the_release(name):
    case, model, inputs = on_card(name, torch.bfloat16)
    with torch.no_grad():
        sample = model.forward_official(inputs, *case.layout)
    expected = case.tensors["out.sample"]
    assert sample.dtype == torch.bfloat16 and (sample.float().cpu() - expected).std() < 0.1 * expected.std()


def test_compiled_blocks_agree():
    case, model, inputs = on_card("sp4d_nano")
    model.compile_repeated_blocks(fullgraph=True, dynamic=False)
    with torch.no_grad():
        sample = model.forward_official(inputs, *case.layout)
    torch.testing.assert_close(sample.cpu(), case.tensors["out.sample"], atol=2e-5, rtol=0)


def test_short_sequences_beyond_the_kernels_batch_limit_agree():
    """More than 65,535 sequences in one call of the attention kernel, against the same tokens in two halves."""
    from sp4dlib.model.attention import MAX_ROWS, SelfAttention

    torch.manual_seed(0)
    attention, x = SelfAttention(64, 32).cuda(), torch.randn(MAX_ROWS + 1000, 4, 64, device="cuda")
    with torch.no_grad():
        halves = torch.cat([attention(half, -2) for half in x.chunk(2)])
        torch.testing.assert_close(attention(x, -2), halves, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("key", "seconds", "gib", "chunked_gib"), [("sv4d2", 0.55, 16, 16), ("sp4d", 1.1, 20, 16)])
def test_a_guided_step_at_full_size_fits_time_and_memory(key, seconds, gib, chunked_gib):
    """The time is asked of cards that multiply matrices at 600 TFLOP/s or more (H100, H200), the memory of all."""
    total = torch.cuda.get_device_properties(0).total_memory
    if total < 23 * GIB:
        pytest.skip(f"the card has {total / GIB:.0f} GiB; full size wants 24 GB")
    layout = LAYOUTS[key]
    network = network_gpu.random_network(layout.ours, attention_mode=layout.mode)
    weights = sum(parameter.nbytes for parameter in network.parameters()) / GIB
    whole = network_gpu.guided(network.forward_official, layout, 7, one_by_one=True)
    network.enable_forward_chunking()
    chunked = network_gpu.guided(network.forward_official, layout, 3, one_by_one=True)
    network.disable_forward_chunking()
    assert weights < whole["peak_gib"] <= gib
    assert chunked["peak_gib"] <= chunked_gib and chunked["peak_gib"] < whole["peak_gib"]
    if network_gpu.matrix_rate() >= 600:
        network.compile_repeated_blocks(fullgraph=True, dynamic=False)
        compiled = network_gpu.guided(network.forward_official, layout, 7, one_by_one=True)
        assert compiled["seconds"] <= seconds


def test_counted_activations_foretell_the_measured_peak():
    layout = LAYOUTS["sv4d2"]
    network = network_gpu.random_network(layout.ours, attention_mode=layout.mode)
    weights = sum(parameter.nbytes for parameter in network.parameters()) / GIB
    measured = network_gpu.guided(network.forward_official, layout, 1, one_by_one=True)["peak_gib"] - weights
    counted = full_size("sv4d2")["ours"]["peak_activations_gib"]
    assert 0.8 * counted <= measured <= 1.6 * counted + 0.5       # kernels have scratch memory of their own
