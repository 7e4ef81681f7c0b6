"""The networks against what the official implementation computes (tests/data/parity), and the conversion of names."""

import gzip
import json

import pytest
import torch
from model_parity_files import DATA, ParityFile
from safetensors.torch import save_file

from sp4dlib.model import DualUNet, MultiViewUNet

CASES = {"sv4d2_nano": MultiViewUNet, "sv4d2_8views_nano": MultiViewUNet, "sp4d_nano": DualUNet}


class Case(ParityFile):
    """A parity file and our network with its weights."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.model = CASES[name].from_official(self.weights, **self.config["network"])


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return Case(request.param)


def test_output_and_gradients_agree(case):
    inputs = {name: value.clone() for name, value in case.part("in.").items()}
    for name in case.part("grad.in."):
        inputs[name].requires_grad_()
    case.model.zero_grad()
    sample = case.model.forward_official(inputs, *case.layout)
    torch.testing.assert_close(sample, case.tensors["out.sample"], atol=1e-5, rtol=0)

    (sample * inputs["loss_weight"]).sum().backward()
    for name, expected in case.part("grad.in.").items():
        assert (inputs[name].grad - expected).norm() <= 1e-4 * expected.norm(), name

    names, largest = case.model.official_names(), max(case.part("grad.norm.").values())
    for name, parameter in case.model.named_parameters():
        expected = case.tensors[f"grad.norm.{names[name]}"]
        if parameter.requires_grad:
            # Gradients that cancel (a bias before a normalisation of its channel) are round-off on both sides.
            assert abs(parameter.grad.norm() - expected) <= 1e-4 * expected + 1e-6 * largest, name
        else:
            assert parameter.grad is None and expected <= 1e-6 * largest, name


def test_weights_return_as_they_came(case):
    back = case.model.to_official()
    assert back.keys() == case.weights.keys()
    assert all(torch.equal(back[name], weight) for name, weight in case.weights.items())


@pytest.mark.parametrize("name", ["sv4d2_nano", "sp4d_nano"])
def test_euler_run_with_guidance_agrees(name):
    case = Case(name)
    conditions, branches = {kind: case.part(f"sampler.{kind}.") for kind in ("cond", "uncond")}, name[:2] == "sp"
    sigmas, guidance = case.tensors["sampler.sigmas"], case.tensors["sampler.guidance"].reshape(-1, 1, 1, 1)
    latents = case.tensors["sampler.noise"] * (1 + sigmas[0] ** 2).sqrt()

    @torch.no_grad()
    def denoise(sigma, given):
        """EDM denoiser with v-prediction: c_skip x + c_out F(c_in x; ln(sigma) / 4)."""
        scaled = latents / (sigma**2 + 1).sqrt()
        halves = scaled.chunk(2, 1) if branches else [scaled]
        x = torch.cat([piece for half in halves for piece in (half, given["concat"])], 1)
        inputs = {"x": x, "timesteps": (sigma.log() / 4).expand(len(x)), "context": given["crossattn"],
                  "y": given["vector"], "cond_view": given["cond_view"]}
        prediction = case.model.forward_official(inputs, *case.layout)
        return latents / (sigma**2 + 1) - sigma / (sigma**2 + 1).sqrt() * prediction

    for step, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:]), 1):
        free = denoise(sigma, conditions["uncond"])
        denoised = free + guidance * (denoise(sigma, conditions["cond"]) - free)
        latents = latents + (latents - denoised) / sigma * (following - sigma)
        expected = case.tensors[f"sampler.latents.{step}"]
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max(), step
        latents = expected


@pytest.mark.parametrize(("kind", "name", "total"), [(MultiViewUNet, "sv4d2", 2_010_961_338),
                                                     (DualUNet, "sp4d", 4_090_471_156)])
def test_names_and_shapes_are_a_bijection_at_full_size(kind, name, total):
    with gzip.open(DATA / f"{name}_unet_keys.json.gz", "rt") as file:
        official = json.load(file)
    with torch.device("meta"):
        model = kind()
    assert sum(parameter.numel() for parameter in model.parameters()) == total == official["total_params"]
    names = model.official_names()
    assert len(set(names.values())) == len(names)
    shapes = {names[key]: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == official["keys"]


def test_a_whole_checkpoint_loads_from_a_file(tmp_path):
    case = Case("sp4d_nano")
    weights = {f"model.diffusion_model.{name}": weight.contiguous() for name, weight in case.weights.items()}
    weights["first_stage_model.decoder.conv_in.weight"] = torch.zeros(1)
    save_file(weights, tmp_path / "sp4d.safetensors")
    model = DualUNet.from_official(tmp_path / "sp4d.safetensors", **case.config["network"])
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), case.model.state_dict().values()))


def test_weights_that_do_not_fit_are_listed():
    case = Case("sv4d2_nano")
    broken = dict(case.weights, surplus=torch.zeros(1))
    del broken["out.2.bias"]
    broken["time_embed.0.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"1 missing \(out.2.bias\); 1 unexpected \(surplus\); "
                                         r"1 misshapen \(time_embed.0.weight \(3, 3\)"):
        MultiViewUNet.from_official(broken, **case.config["network"])


@pytest.mark.parametrize(("change", "message"), [({"transformer_depth": 2}, "transformer_depth=2 is not implemented"),
                                                 ({"use_3d_atention": True}, "unknown official arguments: use_3d_at")])
def test_configurations_that_do_not_exist_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MultiViewUNet.from_official({}, **change)


def test_a_network_without_fusion_has_no_official_form():
    with torch.device("meta"):
        model = DualUNet(fusion="none")
    with pytest.raises(ValueError, match="no official counterpart"):
        model.to_official()
