"""Two solvers at the same noise levels, against flows whose end is known."""

import pytest
import torch
from diffusion_toys import tiny_model, toy_clip

from sp4dlib.diffusion import edm
from sp4dlib.diffusion.data import camera_angles, to_model
from sp4dlib.diffusion.sampling import Sampling, sample_window
from sp4dlib.diffusion.samplers import euler_scheduler, make_scheduler, multistep_scheduler, solver_name


def solve(solver, steps, denoiser, noise, sigma_max):
    """Where the probability flow of ``denoiser(x, sigma)`` leads from ``noise``, by a scheduler."""
    scheduler = make_scheduler(solver, sigma_max, 0.002)
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step].to(noise)
        scheduler.scale_model_input(x, timestep)
        velocity = (x / (sigma**2 + 1) - denoiser(x, sigma)) * (sigma**2 + 1).sqrt() / sigma
        x = scheduler.step(velocity, timestep, x).prev_sample
    return x


def rms(x):
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("sigma_max", [80.0, 700.0])
@pytest.mark.parametrize("steps", [1, 2, 25, 50])
def test_both_have_the_same_noise_levels_and_times(sigma_max, steps):
    schedulers = [euler_scheduler(sigma_max), multistep_scheduler(sigma_max)]
    for scheduler in schedulers:
        scheduler.set_timesteps(steps)
        torch.testing.assert_close(scheduler.sigmas, edm.karras_sigmas(steps, 0.002, sigma_max).float(), rtol=1e-5,
                                   atol=0)
        torch.testing.assert_close(scheduler.timesteps, scheduler.sigmas[:-1].log() / 4, rtol=1e-5, atol=1e-6)
        assert scheduler.init_noise_sigma == pytest.approx((1 + sigma_max**2) ** 0.5)


@pytest.mark.parametrize("sigma_max", [80.0, 700.0])
@pytest.mark.parametrize("mean, spread", [(0.3, 0.5), (0.9, 0.1)])
def test_half_the_steps_on_a_gaussian(sigma_max, mean, spread):
    """Data N(m, s²): ``D = (s² x + σ² m) / (s² + σ²)`` and x ends at ``m + (x₀ - m) s / √(s² + σ₀²)``."""
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def denoiser(x, sigma):
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)

    start = noise * (1 + sigma_max**2) ** 0.5
    exact = mean + (start - mean) * spread / (spread**2 + sigma_max**2) ** 0.5
    error = {(solver, steps): rms(solve(solver, steps, denoiser, noise, sigma_max) - exact)
             for solver, steps in (("euler", 50), ("euler", 100), ("multistep", 25), ("multistep", 50),
                                   ("multistep", 100))}
    assert error["multistep", 25] < 0.9 * error["euler", 50]
    assert error["euler", 50] / error["euler", 100] == pytest.approx(2, rel=0.05), "first order"
    assert error["multistep", 50] / error["multistep", 100] == pytest.approx(4.4, rel=0.1), "second order"
    assert error["multistep", 100] < 0.002


def test_half_the_steps_on_a_mixture():
    """Three spots in the plane: the flow bends, and its end is that of 400 steps."""
    spots = torch.tensor([[0.8, 0.8], [-0.7, 0.5], [0.2, -0.9]], dtype=torch.float64)

    def denoiser(x, sigma):
        variance = 0.1**2 + sigma**2
        share = (-(x[:, None] - spots).square().sum(-1, keepdim=True) / (2 * variance)).softmax(1)
        return (share * (0.1**2 * x[:, None] + sigma**2 * spots) / variance).sum(1)

    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = solve("multistep", 400, denoiser, noise, 80.0)
    assert rms(solve("multistep", 25, denoiser, noise, 80.0) - exact) < 0.8 * rms(
        solve("euler", 50, denoiser, noise, 80.0) - exact)


def test_half_the_steps_with_a_network():
    """A tiny network at equal noise: 25 multistep steps end nearer to the flow's end than 50 Euler steps."""
    clip = toy_clip(frames=2, views=2, size=8)
    condition, cameras = to_model(clip.rgb[:, 0])[None], camera_angles([0, 90], [0, 0])[None]
    unet = tiny_model().eval()

    @torch.no_grad()
    def run(solver, steps):
        sampling = Sampling(steps, torch.ones(2, 2), torch.Generator().manual_seed(0))
        return sample_window(unet, make_scheduler(solver, 20.0, 0.002), condition, {"cameras": cameras}, None,
                             (2, 1, 2, 2, 12, 4, 4), sampling)

    exact = run("multistep", 100)
    assert rms(run("multistep", 25) - exact) < 0.5 * rms(run("euler", 50) - exact)


@pytest.mark.parametrize("solver", ["euler", "multistep"])
def test_names(solver):
    scheduler = make_scheduler(solver, 50.0, 0.01)
    assert solver_name(scheduler) == solver
    assert (scheduler.config.sigma_max, scheduler.config.sigma_min) == (50.0, 0.01)


def test_unknown_solvers_are_named():
    with pytest.raises(ValueError, match="euler, multistep; got 'heun'"):
        make_scheduler("heun", 80.0, 0.002)
