"""The benchmark's re-statement of the official graph: against the parity files, and our networks against it."""

import pytest
import torch
from model_parity_files import ParityFile

from benchmarks.official_graph import OfficialDualUNet, OfficialUNet

CASES = {"sv4d2_nano": OfficialUNet, "sv4d2_8views_nano": OfficialUNet, "sp4d_nano": OfficialDualUNet}


@pytest.mark.parametrize("name", CASES)
def test_the_restatement_computes_what_the_release_does(name):
    case = ParityFile(name)
    model = CASES[name](**case.config["network"])
    model.load_state_dict(case.weights)
    inputs = {key: value.clone() for key, value in case.part("in.").items()}
    for key in case.part("grad.in."):
        inputs[key].requires_grad_()
    sample = model(inputs, *case.layout)
    torch.testing.assert_close(sample, case.tensors["out.sample"], atol=1e-5, rtol=0)

    (sample * inputs["loss_weight"]).sum().backward()
    for key, expected in case.part("grad.in.").items():
        assert (inputs[key].grad - expected).norm() <= 1e-4 * expected.norm(), key
    largest = max(case.part("grad.norm.").values())
    for key, parameter in model.named_parameters():
        expected = case.tensors[f"grad.norm.{key}"]
        norm = 0.0 if parameter.grad is None else parameter.grad.norm()
        assert abs(norm - expected) <= 1e-4 * expected + 1e-6 * largest, key
