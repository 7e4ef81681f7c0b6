"""One U-Net with concatenated latents."""

import pytest
import torch

from sp4dlib.diffusion.nano import pass_through
from sp4dlib.diffusion.pipeline import SP4DPipeline, euler_scheduler
from sp4dlib.model import ConcatUNet, DualUNet

SIZES = dict(in_channels=24, out_channels=12, channel_mult=(1,), num_res_blocks=1, attention_resolutions=(),
             head_dim=8, context_dim=None, motion_context_dim=None, num_noise_level_channels=4, camera_channels=4,
             norm_groups=4)


def network(width=48):
    torch.manual_seed(0)
    model = ConcatUNet(model_channels=width, **SIZES)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rgb, part = torch.randn(2, 2, 2, 3, 12, 8, 8, generator=generator)
    return {"rgb": rgb, "part": part, "condition": rgb[:, :, 0], "timestep": torch.zeros(2),
            "cameras": torch.rand(2, 3, 2, generator=generator)}


@torch.no_grad()
def test_both_kinds_of_pictures_see_each_other():
    model, given = network(), inputs()
    answer = model(**given, return_features=True)
    assert answer.rgb.shape == answer.part.shape == given["rgb"].shape
    assert answer.features[0] is answer.features[1] and answer.features[0].shape[3] == model.config.model_channels
    for name in ("rgb", "part", "condition", "cameras"):
        other = model(**given | {name: given[name] + 0.5})
        assert not torch.allclose(other.rgb, answer.rgb) and not torch.allclose(other.part, answer.part)


@torch.no_grad()
def test_hidden_input_has_no_effect():
    model, given = network(), inputs()
    hidden = torch.tensor([False, True])
    one = model(**given, conditioned=hidden)
    other = model(**given | {"condition": given["condition"] + 1}, conditioned=hidden)
    assert torch.equal(one.part[0], other.part[0]) and not torch.equal(one.part[1], other.part[1])


@torch.no_grad()
def test_the_noise_path_carries_both():
    torch.manual_seed(0)
    model, given = ConcatUNet(model_channels=48, **SIZES), inputs()
    pass_through(model.unet)
    answer = model(**given)
    for out, noisy in ((answer.rgb, given["rgb"]), (answer.part, given["part"])):
        gain = ((out * noisy).sum() / noisy.square().sum()).item()
        assert gain == pytest.approx(0.7, abs=0.03)


def test_about_as_many_weights_as_two_branches():
    sizes = SIZES | {"channel_mult": (1, 2), "attention_resolutions": (2,)}
    ours = sum(p.numel() for p in ConcatUNet(model_channels=48, **sizes).parameters())
    two = sum(p.numel() for p in DualUNet(model_channels=32, **sizes).parameters())
    assert 0.9 < ours / two < 1.25


def test_it_serves_the_pipeline(tmp_path):
    pipe = SP4DPipeline(network(), euler_scheduler(), image_size=16, num_frames=2, azimuths=[0.0, 180.0])
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path)
    again = SP4DPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    picture = torch.full((16, 16, 3), 200, dtype=torch.uint8).numpy()
    made = [p(picture, crop=False, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
            for p in (pipe, again)]
    assert made[0].part_images.shape == (1, 2, 16, 16, 3) and (made[0].part_images == made[1].part_images).all()


def test_wrong_shapes_are_named():
    given = inputs()
    with pytest.raises(ValueError, match="same sizes"):
        network()(**given | {"part": given["part"][:, :1]})
