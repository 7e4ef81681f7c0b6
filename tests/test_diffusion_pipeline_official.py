"""The pipeline with the parts of the released models, at tiny sizes: VAE, image embeddings, unscaled conditions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from sp4dlib.diffusion import codec
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import euler_scheduler
from sp4dlib.model import DualUNet, MultiViewUNet

FACTOR = 0.18215
NETWORK = dict(in_channels=8, out_channels=4, model_channels=8, channel_mult=(1,), num_res_blocks=1,
               attention_resolutions=(), head_dim=8, context_dim=6, motion_context_dim=4, num_noise_level_channels=4,
               camera_channels=4, norm_groups=4, attention_mode="pixel_group")
AZIMUTHS = [60, 120, 180]


class Encoder(nn.Module):
    """Stands for the CLIP tower: the mean colours of 2x3 fields of the picture."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.config = SimpleNamespace(image_size=24, projection_dim=6)

    @property
    def device(self):
        return self.scale.device

    @property
    def dtype(self):
        return self.scale.dtype

    def forward(self, pixels):
        assert pixels.shape[1:] == (3, 24, 24)
        return SimpleNamespace(image_embeds=self.scale * nn.functional.adaptive_avg_pool2d(
            pixels.mean(1, keepdim=True), (2, 3)).flatten(1))


def network(kind):
    torch.manual_seed(0)
    model = kind(**NETWORK)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(1)
    return AutoencoderKL(block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
                         down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                         use_post_quant_conv=False, scaling_factor=FACTOR, sample_size=16).eval()


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def make(vae, kind=DualUNet, encoder=True, **settings):
    settings = dict(image_size=16, num_frames=2, num_views=3, azimuths=AZIMUTHS, guidance_scale=[1.0, 3.0],
                    num_inference_steps=3, shows_input=False, scale_condition=False, overlap="view_latents") | settings
    pipe = SP4DPipeline(network(kind), euler_scheduler(700.0), vae, Encoder() if encoder else None, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, frames, **options):
    return pipe(frames, crop=False, generator=torch.Generator().manual_seed(0), **options)


def recorded(unet, calls):
    """Record what the network is given."""
    def before(_, args, inputs):
        calls.append(inputs | {"sample": args[0] if args else None, "part": args[1] if len(args) > 1 else None})

    return unet.register_forward_pre_hook(before, with_kwargs=True)


def test_the_network_is_told_what_the_release_tells_it(vae, frames):
    """Unscaled latents and embeddings of the window's frames, angles from the input's camera, both guidance rows."""
    pipe, calls = make(vae), []
    hook = recorded(pipe.unet, calls)
    out = run(pipe, frames, elevations=[10, 0, -10], input_elevation=10.0)
    hook.remove()
    assert len(calls) == 6 and out.rgb.shape == (3, 3, 16, 16, 3)
    mode = vae.encode(torch.from_numpy(frames).movedim(-1, 1) / 127.5 - 1).latent_dist.mode()
    embeds = codec.embed(frames, pipe.image_encoder)
    for number, call in enumerate(calls):
        span = [0, 1] if number < 3 else [1, 2]
        torch.testing.assert_close(call["condition"], mode[span][None].expand(2, -1, -1, -1, -1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(call["context"], embeds[span][None].expand(2, -1, -1))
        assert call["conditioned"].tolist() == [False, True]
        angles = np.degrees(call["cameras"][1].numpy())
        np.testing.assert_allclose(angles, [[0, 60], [-10, 120], [-20, 180]], atol=1e-4)
    assert out.cameras.azimuths.tolist() == AZIMUTHS and out.cameras.elevations.tolist() == [10, 0, -10]


def test_later_windows_are_told_unscaled_latents_of_the_views(vae, frames):
    pipe, calls, ends = make(vae), [], []
    hook = recorded(pipe.unet, calls)
    run(pipe, frames, callback_on_step_end=lambda p, step, t, tensors: ends.append(tensors["latents"]))
    hook.remove()
    assert [call.get("view_latents") is None for call in calls] == [True] * 3 + [False] * 3
    torch.testing.assert_close(calls[3]["view_latents"], (ends[2][0, :, 1] / FACTOR).expand(2, -1, -1, -1, -1))


def test_scaled_conditions_are_a_setting(vae, frames):
    pipe, calls = make(vae, scale_condition=True), []
    hook = recorded(pipe.unet, calls)
    run(pipe, frames[:1])
    hook.remove()
    mode = vae.encode(torch.from_numpy(frames[:1]).movedim(-1, 1) / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(calls[0]["condition"][1, 0], FACTOR * mode[0], rtol=1e-5, atol=1e-6)


def test_images_are_the_decoded_latents(vae, frames):
    ends = []
    out = run(make(vae), frames[:2], callback_on_step_end=lambda p, s, t, tensors: ends.append(tensors["latents"]))
    for branch, images in zip(ends[-1][:, 0], (out.rgb, out.part_images)):
        pixels = vae.decode(branch.flatten(0, 1) / FACTOR).sample.clamp(-1, 1)
        expected = ((pixels + 1) * 127.5).round().movedim(1, -1).reshape(images.shape)
        assert np.abs(images.astype(int) - expected.detach().numpy()).max() <= 1


def test_chunks_change_nothing(vae, frames):
    expected = codec.encode(frames, vae, 100)
    torch.testing.assert_close(codec.encode(frames, vae, 1), expected, rtol=1e-5, atol=1e-6)
    latents = torch.randn(2, 2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, single = codec.decode(latents, vae, 100), codec.decode(latents, vae, 1)
    assert whole.shape == (2, 2, 3, 16, 16, 3) and np.abs(whole.astype(int) - single.astype(int)).max() <= 1
    with pytest.raises(ValueError, match="at least one picture"):
        codec.encode(frames, vae, 0)


def test_encoded_pictures_are_scaled_modes(vae, frames):
    stack = frames[None].repeat(2, 0)
    latents = codec.encode(stack, vae)
    assert latents.shape == (2, 3, 4, 8, 8) and latents.dtype == torch.float32
    mode = vae.encode(torch.from_numpy(frames).movedim(-1, 1) / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(latents[1], FACTOR * mode, rtol=1e-5, atol=1e-6)


def test_known_pictures_come_back_as_given_and_are_held_in_latents(vae, frames):
    ends = []
    out = run(make(vae), frames[:2], known={(1, 2): frames[2]},
              callback_on_step_end=lambda p, s, t, tensors: ends.append(tensors["latents"]))
    assert np.array_equal(out.rgb[1, 2], frames[2])
    torch.testing.assert_close(ends[-1][0, 0, 1, 2], codec.encode(frames[2], vae), rtol=1e-3, atol=1e-3)


def test_one_branch_is_colour_only(vae, frames):
    """SV4D 2.0: the sample holds noisy and condition latents; the condition is hidden from the unguided row."""
    pipe, calls = make(vae, MultiViewUNet), []
    hook = recorded(pipe.unet, calls)
    out = run(pipe, frames, output_type="pil")
    hook.remove()
    assert out.part_images is None and out.parts is None and len(out.rgb) == 3 and out.rgb[0][0].size == (16, 16)
    sample = calls[0]["sample"]
    assert sample.shape == (2, 2, 3, 8, 8, 8) and (sample[0, :, :, 4:] == 0).all()
    mode = codec.encode(frames[:2], vae) / FACTOR
    for view in range(3):
        torch.testing.assert_close(sample[1, :, view, 4:], mode, rtol=1e-5, atol=1e-5)


def test_number_of_views_is_held_to(vae, frames):
    with pytest.raises(ValueError, match="3 views at once; got 2 azimuths"):
        run(make(vae), frames, azimuths=[0, 90])
    assert run(make(vae, num_views=None), frames[:1], azimuths=[0, 90]).rgb.shape[1] == 2


def test_parts_that_do_not_belong_together_are_refused(vae):
    with pytest.raises(ValueError, match="latents of 4 channels, folded pixels have 12"):
        make(None)
    encoder = Encoder()
    encoder.config.projection_dim = 5
    with pytest.raises(ValueError, match="context of 6 channels"):
        SP4DPipeline(network(DualUNet), euler_scheduler(), vae, encoder)
    with pytest.raises(ValueError, match="overlap"):
        make(vae, overlap="blend")


def test_a_missing_image_encoder_is_warned_of(vae, caplog):
    make(vae, encoder=False)
    assert "no image encoder" in caplog.text


def test_saved_and_loaded_with_a_vae_it_is_the_same(vae, frames, tmp_path):
    pipe = make(vae, encoder=False)
    pipe.save_pretrained(tmp_path)
    loaded = SP4DPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    names = ("azimuths", "guidance_scale", "num_views", "shows_input", "scale_condition", "overlap", "fill")
    assert {name: loaded.config[name] for name in names} == {name: pipe.config[name] for name in names}
    assert loaded.image_encoder is None and loaded.vae.config.scaling_factor == FACTOR
    assert np.array_equal(run(pipe, frames[:1]).rgb, run(loaded, frames[:1]).rgb)


def test_infinite_answers_are_named(vae, frames):
    pipe = make(vae, encoder=False)
    nn.init.constant_(pipe.unet.rgb.conv_out.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="bfloat16"):
        run(pipe, frames[:1])


def test_the_resize_before_clip_keeps_smooth_pictures_and_blurs_stripes():
    """Bicubic sampling, corners on corners, is exact for a plane; stripes above the new limit vanish."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    torch.testing.assert_close(codec.antialiased_resize(ramp, 16)[..., 2:-2],
                               torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)[..., 2:-2], atol=0.01, rtol=0)
    stripes = torch.tensor([-1.0, 1.0]).repeat(32).expand(1, 1, 64, 64)
    assert codec.antialiased_resize(stripes, 16)[..., 2:-2].abs().max() < 0.02
    torch.testing.assert_close(codec.antialiased_resize(stripes, 64), stripes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [(57, 57, 24), (40, 64, 24), (20, 20, 24)])
def test_the_resize_before_clip_is_that_of_svd(sizes):
    module = pytest.importorskip("diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion",
                                 exc_type=RuntimeError, reason="diffusers' SVD pipeline needs transformers")
    images = torch.rand(2, 3, *sizes[:2], generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = module._resize_with_antialiasing(images, (sizes[2], sizes[2]))
    torch.testing.assert_close(codec.antialiased_resize(images, sizes[2]), expected, atol=1e-5, rtol=0)


def test_the_clip_tower_of_transformers_fits(vae, frames, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the optional image encoder")
    config = transformers.CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, patch_size=8,
                                           num_attention_heads=1, image_size=24, projection_dim=6)
    torch.manual_seed(0)
    pipe = make(vae, encoder=False)
    pipe.register_modules(image_encoder=transformers.CLIPVisionModelWithProjection(config).eval())
    assert codec.embed(frames, pipe.image_encoder).shape == (3, 6)
    expected = run(pipe, frames[:1]).rgb
    pipe.save_pretrained(tmp_path)
    loaded = SP4DPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert np.array_equal(run(loaded, frames[:1]).rgb, expected)


def test_all_parts_take_turns_on_the_accelerator():
    assert SP4DPipeline.model_cpu_offload_seq.split("->") == ["image_encoder", "unet", "vae"]


@pytest.mark.gpu
def test_offloading_changes_nothing(vae, frames):
    expected = run(make(vae, encoder=False).to("cuda"), frames)
    pipe = make(vae, encoder=False)
    pipe.enable_model_cpu_offload()
    got = run(pipe, frames)
    assert np.abs(got.rgb.astype(int) - expected.rgb.astype(int)).max() <= 1
    assert {parameter.device.type for parameter in pipe.unet.parameters()} == {"cpu"}
