"""The small autoencoder: sizes, training in pieces, latents of unit size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusion_toys import toy_clip

from sp4dlib.diffusion import codec
from sp4dlib.diffusion.autoencoder import (VAEConfig, load_vae, make_vae, normalize_latents, some_pictures,
                                          train_vae, vae_loss)
from sp4dlib.diffusion.data import ClipTensors, views_of
from sp4dlib.model import PatchVAE, fold

CONFIG = VAEConfig(patch=4, width=8, blocks=1, latent_channels=4, steps=6, learning_rate=3e-3, warmup=2, log_every=2,
                   checkpoint_every=2)


@pytest.fixture(scope="module")
def data():
    return ClipTensors([toy_clip(4, 3, 16)], frames=2, views=2)


def make(seed=0):
    return make_vae(replace(CONFIG, seed=seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_sizes():
    vae = make_vae(VAEConfig())
    assert 0.8e5 < sum(p.numel() for p in vae.parameters()) < 1.2e5
    assert codec.encode(np.zeros((2, 64, 64, 3), np.uint8), vae).shape == (2, 8, 32, 32)
    assert same(make(), make()) and not same(make(), make(1))
    with pytest.raises(ValueError, match="whole patches of 2"):
        vae.encode(torch.zeros(1, 3, 18, 17))
    with pytest.raises(ValueError, match="12 numbers"):
        PatchVAE(2, 13)


def test_it_starts_as_the_best_linear_code():
    """With as many latents as numbers it is exact; with fewer, no projection of that rank is better."""
    pictures = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for count in (12, 5):
        vae = PatchVAE(2, count, 8, 1)
        vae.fit_linear(pictures)
        with torch.no_grad():
            error = (vae.decode(vae.encode(pictures).latent_dist.mode()).sample - pictures).square().sum()
        values = torch.linalg.svdvals(fold(pictures - 1, 2).transpose(0, 1).flatten(1))
        torch.testing.assert_close(error, values[count:].square().sum(), rtol=1e-4, atol=1e-6)


def test_both_kinds_are_loaded(tmp_path):
    made = {"own": make(), "diffusers": AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)}
    for name, vae in made.items():
        vae.save_pretrained(tmp_path / name)
        assert same(load_vae(tmp_path / name), vae)
    (tmp_path / "own" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match="UNet2DModel"):
        load_vae(tmp_path / "own")


def test_it_learns_both_kinds_of_pictures(data):
    result = train_vae(make(), data, replace(CONFIG, steps=60, learning_rate=1e-2), progress=False)
    assert result.finished and result.history[-1]["pixels"] < 0.6 * result.history[0]["pixels"]


def test_the_object_weighs_more_than_the_background(data):
    views, vae = views_of(data.clips[0]), make()
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    plain, heavy = (vae_loss(vae, views, g, 0.0, weight) for g, weight in zip(draws, (1.0, 1e6)))
    with torch.no_grad():
        posterior = vae.encode(torch.stack([views.rgb, views.part]).movedim(-1, -3).flatten(0, 3) / 127.5 - 1)
        noise = torch.randn(posterior.latent_dist.mean.shape, generator=torch.Generator().manual_seed(0))
        pixels = torch.stack([views.rgb, views.part]).movedim(-1, -3).flatten(0, 3) / 127.5 - 1
        again = vae.decode(posterior.latent_dist.mean + posterior.latent_dist.std * noise).sample
    error = (again - pixels).abs().mean(1)
    seen = (views.ids >= 0)[None].expand(2, *views.ids.shape).flatten(0, 3)
    torch.testing.assert_close(plain.total, error.mean())
    torch.testing.assert_close(heavy.pixels, error[seen].mean(), rtol=1e-4, atol=1e-5)


def test_normalised_latents_have_unit_size_and_white_is_0(data):
    vae, views = make(), views_of(data.clips[0])
    before = codec.decode(codec.encode(data.clips[0].rgb, vae), vae)
    with torch.no_grad():
        variance = vae.encode(torch.ones(1, 3, 16, 16)).latent_dist.var
        scale = vae.quant_conv.weight[:4, :4, 0, 0].diagonal().clone()
    normalize_latents(vae.eval(), views)
    latents = codec.encode(np.stack([data.clips[0].rgb, data.clips[0].part_images]), vae)
    torch.testing.assert_close(latents.square().mean(), torch.ones(()), rtol=1e-3, atol=1e-3)
    white = codec.encode(np.full((1, 16, 16, 3), 255, np.uint8), vae)[0]
    assert white[:, 2, 2].abs().max() < 1e-3
    assert np.abs(codec.decode(codec.encode(data.clips[0].rgb, vae), vae).astype(int) - before).max() <= 1
    factor = vae.quant_conv.weight[:4, :4, 0, 0].diagonal() / scale
    torch.testing.assert_close(factor, factor[:1].expand(4))                # one for all: noise stays white on pixels
    after = vae.encode(torch.ones(1, 3, 16, 16)).latent_dist.var
    torch.testing.assert_close(after, variance * factor[:, None, None] ** 2, rtol=1e-3, atol=1e-6)


def test_a_step_takes_some_pictures(data):
    views = views_of(data.clips[0])
    some = some_pictures(views, 5, torch.Generator().manual_seed(0))
    assert some.rgb.shape[:3] == some.ids.shape[:3] == (1, 1, 5)
    pairs = {(rgb.numpy().tobytes(), part.numpy().tobytes())
             for rgb, part in zip(views.rgb.flatten(0, 2), views.part.flatten(0, 2), strict=True)}
    assert {(rgb.numpy().tobytes(), part.numpy().tobytes())
            for rgb, part in zip(some.rgb[0, 0], some.part[0, 0], strict=True)} <= pairs
    assert some_pictures(views, 100, torch.Generator()).rgb.shape[2] == views.ids.shape[1] * views.ids.shape[2]
    result = train_vae(make(), data, replace(CONFIG, pictures=2), progress=False)
    assert result.finished and not same(result.vae, train_vae(make(), data, CONFIG, progress=False).vae)


def test_stopping_changes_nothing(data, tmp_path):
    whole = train_vae(make(), data, CONFIG, progress=False)

    def die(step, _):
        if step == 4:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_vae(make(), data, CONFIG, tmp_path, callback=die, progress=False)
    part = train_vae(make(5), data, CONFIG, tmp_path, minutes=0, progress=False)
    assert (part.steps, part.finished) == (5, False)
    result = train_vae(make(6), data, CONFIG, tmp_path, progress=False)
    assert result.finished and result.history == whole.history and same(result.vae, whole.vae)
    again = train_vae(make(7), data, CONFIG, tmp_path, progress=False)
    assert same(again.vae, whole.vae) and again.history == whole.history
    with pytest.raises(ValueError, match="latent_channels|kl"):
        train_vae(make(), data, replace(CONFIG, kl=1.0), tmp_path, progress=False)


@pytest.mark.parametrize("bad", [{"patch": 0}, {"width": 0}, {"latent_channels": 0}, {"steps": 0}, {"kl": -1.0},
                                 {"foreground": 0.0}, {"pictures": -1}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        VAEConfig(**bad)
