import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from model import sampler

SVD = {
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}


@pytest.mark.parametrize("steps", [1, 2, 7, 25])
def test_euler_levels_run_from_the_configs_bound_to_zero(steps: int) -> None:
    sigmas, timesteps = sampler.noise_levels(SVD, steps)
    assert sigmas.shape == (steps + 1,)
    assert sigmas[0] == 700
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    torch.testing.assert_close(timesteps, 0.25 * sigmas[:-1].log())


def test_ten_ays_levels_are_the_published_ones() -> None:
    sigmas, _ = sampler.noise_levels(SVD, 10, "ays")
    published = [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.0]
    torch.testing.assert_close(sigmas, torch.tensor(published))


@pytest.mark.parametrize("steps", [2, 5, 17])
def test_other_ays_counts_interpolate_between_the_same_ends(steps: int) -> None:
    sigmas, _ = sampler.noise_levels(SVD, steps, "ays")
    assert len(sigmas) == steps + 1
    torch.testing.assert_close(sigmas[[0, -2, -1]], torch.tensor([700.0, 0.034, 0.0]))
    assert (sigmas.diff() < 0).all()


def test_ays_levels_are_stretched_to_other_bounds() -> None:
    sigmas, _ = sampler.noise_levels(SVD | {"sigma_min": 5.0, "sigma_max": 80.0}, 10, "ays")
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[-2] > 5
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize(("steps", "name"), [(0, "euler"), (-1, "ays"), (5, "heun")])
def test_nonsense_is_refused(steps: int, name: str) -> None:
    with pytest.raises(ValueError, match=r"num_inference_steps|sampler"):
        sampler.noise_levels(SVD, steps, name)


def test_steps_are_those_of_the_stock_scheduler() -> None:
    scheduler = EulerDiscreteScheduler.from_config(SVD)
    scheduler.set_timesteps(4)
    sigmas, timesteps = sampler.noise_levels(SVD, 4)
    stock = ours = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 700
    for i, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(stock, timestep)
        v = torch.tanh(scaled)  # stands in for a network
        stock = scheduler.step(v, timestep, stock).prev_sample
        ours = sampler.euler_step(ours, torch.tanh(ours / (sigmas[i] ** 2 + 1) ** 0.5), sigmas[i], sigmas[i + 1])
    torch.testing.assert_close(ours, stock)


def test_guidance_rises_over_the_frames() -> None:
    weights = sampler.guidance_weights(1.0, 3.0, 3)
    v = torch.stack([torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)])
    assert sampler.guide(v, weights).flatten().tolist() == [1, 2, 3]


def test_no_guidance_needs_no_second_half() -> None:
    assert sampler.guidance_weights(1.0, 1.0, 3) is None
    v = torch.rand(1, 3, 1, 1, 1)
    assert torch.equal(sampler.guide(v, None), v)


def test_channels_last_draws_follow_the_reference() -> None:
    """It calls randn_like on a channels-last tensor, which is another order and algorithm than randn."""
    like = torch.empty(8, 4, 16, 24, memory_format=torch.channels_last)
    torch.manual_seed(5)
    reference = torch.randn_like(like)
    assert torch.equal(
        sampler.draw((8, 4, 16, 24), torch.Generator().manual_seed(5), channels_last=True), reference
    )
    torch.manual_seed(5)
    assert torch.equal(sampler.draw((8, 4, 16, 24), torch.Generator().manual_seed(5)), torch.randn(8, 4, 16, 24))
