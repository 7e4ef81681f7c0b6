"""Preconditioning, noise and schedule against Karras et al. 2022 and against diffusers."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.diffusion import edm
from sp4dlib.diffusion.edm import Pair

SHAPE = (3, 2, 2, 4, 4, 4)      # (B, T, V, C, H, W)
levels = st.floats(1e-3, 1e3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(seed=0):
    noise = torch.randn(5, *SHAPE, generator=generator(seed), dtype=torch.float64)
    return Pair(noise[0], noise[1]), Pair(noise[2], noise[3]), noise[4, :, :, 0], torch.zeros(SHAPE[0], SHAPE[2], 2)


def ideal(spread):
    """The network whose denoiser is optimal for data N(0, spread²), in the scaling of unit data."""
    def model(rgb, part, condition, timestep, cameras):
        sigma = edm.expand(torch.exp(4 * timestep), rgb)
        def answer(scaled):
            noisy = scaled * (sigma**2 + 1).sqrt()
            best = noisy * spread**2 / (spread**2 + sigma**2)
            c_skip, c_out, _, _ = edm.scalings(sigma)
            return (best - c_skip * noisy) / c_out
        return SimpleNamespace(rgb=answer(rgb), part=answer(part))
    return model


@settings(deadline=None)
@given(levels, levels)
def test_scalings_meet_the_conditions_of_the_paper(sigma, spread):
    sigma = torch.tensor(sigma, dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = edm.scalings(sigma, spread)
    assert torch.isclose(c_in**2 * (sigma**2 + spread**2), torch.ones((), dtype=torch.float64))     # unit input
    target = ((1 - c_skip)**2 * spread**2 + c_skip**2 * sigma**2) / c_out**2
    assert torch.isclose(target, torch.ones((), dtype=torch.float64))                               # unit target
    assert torch.isclose(edm.loss_weight(sigma, spread) * c_out**2, torch.ones((), dtype=torch.float64))
    assert torch.isclose(torch.exp(4 * c_noise), sigma)


def test_unit_data_gives_the_coefficients_of_the_release():
    sigma = torch.tensor([0.002, 0.5, 1.0, 700.0], dtype=torch.float64)
    c_skip, c_out, c_in, _ = edm.scalings(sigma)
    torch.testing.assert_close(c_skip, 1 / (sigma**2 + 1))
    torch.testing.assert_close(c_out, -sigma / (sigma**2 + 1).sqrt())
    torch.testing.assert_close(c_in, 1 / (sigma**2 + 1).sqrt())


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 50), st.floats(0.2, 5))
def test_velocity_is_what_the_denoiser_needs(sigma, spread):
    clean, noise, _, _ = batch()
    sigma = torch.full((SHAPE[0],), sigma, dtype=torch.float64)
    c_skip, c_out, _, _ = (edm.expand(c, clean.rgb) for c in edm.scalings(sigma, spread))
    noisy = clean.rgb + edm.expand(sigma, noise.rgb) * noise.rgb
    v = edm.velocity(clean.rgb, noise.rgb, sigma, spread)
    torch.testing.assert_close(c_skip * noisy + c_out * v, clean.rgb, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 0.3])
def test_loss_is_the_weighted_error_of_the_denoiser(spread):
    clean, noise, condition, cameras = batch()
    sigma = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)

    def model(rgb, part, condition, timestep, cameras, gain):
        return SimpleNamespace(rgb=gain * rgb.roll(1, -1), part=gain * part + edm.expand(timestep, part))

    loss = edm.denoising_loss(model, clean, noise, sigma, condition, cameras, spread, gain=0.3)
    noisy = [x + edm.expand(sigma, x) * n for x, n in zip(clean, noise)]
    denoised = edm.denoise(model, *noisy, sigma, condition, cameras, spread, gain=0.3)
    for got, guess, truth in zip((loss.rgb, loss.part), denoised, clean):
        expected = edm.loss_weight(sigma, spread) * (guess - truth).square().flatten(1).mean(1)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss.total, (loss.rgb + loss.part) / 2)


def test_other_data_scale_is_the_unit_case_in_other_units():
    """D(x; σ) for data of root mean square s equals s·D₁(x / s; σ / s) up to the noise label."""
    _, noise, condition, cameras = batch()
    sigma, spread = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64), 0.4

    def model(rgb, part, condition, timestep, cameras):
        return SimpleNamespace(rgb=torch.sin(rgb), part=torch.cos(part))

    scaled = edm.denoise(model, *noise, sigma, condition, cameras, spread)
    unit = edm.denoise(model, *(n / spread for n in noise), sigma / spread, condition, cameras)
    torch.testing.assert_close(scaled.rgb, spread * unit.rgb)
    torch.testing.assert_close(scaled.part, spread * unit.part)


def test_training_noise_is_log_normal_and_repeats():
    sigmas = edm.sample_sigmas(20000, generator(1), p_mean=-0.4, p_std=1.5)
    assert abs(sigmas.log().mean() + 0.4) < 0.05 and abs(sigmas.log().std() - 1.5) < 0.05
    assert torch.equal(sigmas, edm.sample_sigmas(20000, generator(1), p_mean=-0.4, p_std=1.5))
    assert not torch.equal(sigmas, edm.sample_sigmas(20000, generator(2), p_mean=-0.4, p_std=1.5))


def test_schedule_ends():
    sigmas = edm.karras_sigmas(18)
    assert sigmas[0] == pytest.approx(80) and sigmas[-2] == pytest.approx(0.002) and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all() and len(sigmas) == 19
    assert edm.karras_sigmas(1).tolist() == pytest.approx([80, 0])
    for bad in (dict(steps=0), dict(steps=5, sigma_min=0), dict(steps=5, sigma_min=3, sigma_max=2)):
        with pytest.raises(ValueError):
            edm.karras_sigmas(**bad)


def test_euler_steps_follow_the_exact_flow_of_gaussian_data():
    """For data N(0, s²) the flow is x(σ) = x(σ₀) √((s² + σ²) / (s² + σ₀²)); Euler's error falls like 1 / steps."""
    spread, start = 0.5, torch.randn(SHAPE, generator=generator(), dtype=torch.float64) * 80
    condition, cameras = start[:, :, 0], torch.zeros(SHAPE[0], SHAPE[2], 2)
    exact = start * spread / (spread**2 + 80**2) ** 0.5
    errors = []
    for steps in (50, 100, 200):
        sample, sigmas = start, edm.karras_sigmas(steps)
        for now, after in zip(sigmas[:-1], sigmas[1:]):
            denoised = edm.denoise(ideal(spread), sample, sample, now.repeat(SHAPE[0]), condition, cameras).rgb
            sample = edm.euler_step(sample, denoised, now, after)
        errors.append(((sample - exact).norm() / exact.norm()).item())
    assert errors[0] < 0.1 and 1.7 < errors[0] / errors[1] < 2.3 and 1.7 < errors[1] / errors[2] < 2.3
