"""The noise levels and solvers that the pipeline may use: diffusers' schedulers, set up for SV4D 2.0's v-prediction."""

from __future__ import annotations

from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler

SOLVERS = ("euler", "multistep")


def euler_scheduler(sigma_max: float = 80.0, sigma_min: float = 0.002) -> EulerDiscreteScheduler:
    """diffusers' Euler sampler set up to be that of SV4D 2.0: v-prediction, Karras noise levels, ¼ ln σ as time.

    Parameters
    ----------
    sigma_max : float
        700 in the releases of SV4D 2.0 and SP4D, whose latents have one value for 8x8 pixels. Small pixel images are
        drowned sooner; 80 is the value of Karras et al. 2022.
    sigma_min : float
    """
    return EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=sigma_min,
        sigma_max=sigma_max, timestep_spacing="leading", steps_offset=1, interpolation_type="linear",
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def multistep_scheduler(sigma_max: float = 80.0, sigma_min: float = 0.002) -> EDMDPMSolverMultistepScheduler:
    """The second-order multistep solver DPM-Solver++(2M) (arXiv 2211.01095) at the same noise levels.

    It integrates the same probability flow as `euler_scheduler` and asks the network once for each step, too, but
    extrapolates from the last two answers: the error falls with the square of the step.

    Parameters
    ----------
    sigma_max, sigma_min : float
        As in `euler_scheduler`.
    """
    return EDMDPMSolverMultistepScheduler(
        prediction_type="v_prediction", sigma_data=1.0, sigma_min=sigma_min, sigma_max=sigma_max, rho=7.0,
        solver_order=2, solver_type="midpoint", algorithm_type="dpmsolver++", final_sigmas_type="zero")


def make_scheduler(solver: str, sigma_max: float, sigma_min: float):
    """The scheduler called ``"euler"`` or ``"multistep"``."""
    makers = dict(zip(SOLVERS, (euler_scheduler, multistep_scheduler)))
    if solver not in makers:
        raise ValueError(f"solver is one of {', '.join(SOLVERS)}; got {solver!r}")
    return makers[solver](sigma_max, sigma_min)


def solver_name(scheduler) -> str:
    """What `make_scheduler` calls this scheduler, or the name of its class."""
    for name, kind in zip(SOLVERS, (EulerDiscreteScheduler, EDMDPMSolverMultistepScheduler)):
        if isinstance(scheduler, kind):
            return name
    return type(scheduler).__name__
