"""The loss against closed forms that are written down another way."""

import pytest
import torch

from model.sampler import euler_step
from training import linear_code
from training.objective import add_noise, coarse_error, draw_sigmas, latent_weights, weighted_error


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_the_edm_loss_of_the_denoised_latent(latents: torch.Tensor) -> None:
    """lambda(sigma) |D(x) - latent|^2, D = c_skip x + c_out v, as in EDM's Table 1 with sigma_data = 1."""
    random = torch.Generator().manual_seed(2)
    noise = torch.randn(latents.shape, generator=random)
    prediction = torch.randn(latents.shape, generator=random)
    masks = torch.rand(3, 2, 64, 64, generator=random) > 0.5
    sigmas = torch.tensor([0.05, 1.0, 40.0])
    weights = latent_weights(masks, "entity", 0)
    found = weighted_error(prediction, add_noise(latents, noise, sigmas).target, weights)

    total = 0.0
    for b, sigma in enumerate(sigmas.double().tolist()):
        x = latents[b].double() + sigma * noise[b].double()
        denoised = x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * prediction[b].double()
        share = masks[b].double().reshape(2, 1, 8, 8, 8, 8).mean(dim=(3, 5))
        error = (denoised - latents[b].double()) ** 2 * share
        total += float((sigma**2 + 1) / sigma**2 * error.mean()) / 3
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_the_inputs_have_unit_variance_and_the_time_is_a_quarter_of_ln_sigma(latents: torch.Tensor) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    noised = add_noise(latents, noise, torch.tensor([0.002, 1.0, 700.0]))
    assert noised.inputs.std(dim=(1, 2, 3, 4)).tolist() == pytest.approx([1, 1, 1], abs=0.1)
    assert noised.timesteps.tolist() == pytest.approx([-1.553652, 0.0, 1.637770], abs=1e-5)


def test_the_sampler_takes_the_target_back_to_the_latents(latents: torch.Tensor) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(4))
    sigma = torch.tensor(5.0)
    noised = add_noise(latents, noise, sigma.expand(3))
    denoised = euler_step(latents + sigma * noise, noised.target, sigma, torch.tensor(0.0))
    assert (denoised - latents).abs().max() < 1e-4


def test_loss_masks() -> None:
    masks = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    masks[..., :8, :4] = True  # half of the first cell
    assert latent_weights(masks, "entity", 9).flatten().tolist() == [0.5, 0, 0, 0]
    assert latent_weights(masks, "weighted", 3).flatten().tolist() == [2.5, 1, 1, 1]
    assert latent_weights(masks, "none", 9).flatten().tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="'entity', 'weighted' or 'none'"):
        latent_weights(masks, "all", 1)


def test_what_an_entity_leaves_behind_is_weighted_too() -> None:
    masks = torch.zeros(1, 2, 8, 16, dtype=torch.bool)
    masks[:, 0, :, :8] = masks[:, 1, :, 8:] = True
    assert latent_weights(masks, "entity", 3).flatten().tolist() == [1, 0, 0, 1]
    assert latent_weights(masks, "weighted", 3).flatten().tolist() == [4, 1, 4, 4]


def test_the_coarse_error_sees_means_and_no_texture() -> None:
    texture = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 1, 8, 8)
    everywhere, nothing = torch.ones(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8)
    assert float(coarse_error(texture, nothing, everywhere)) == 0
    assert float(coarse_error(texture + 2, nothing, everywhere)) == 4
    assert float(coarse_error(nothing + 2, nothing, nothing)) == 0


def test_an_error_outside_of_the_mask_costs_nothing() -> None:
    masks = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    masks[..., :8, :8] = True
    weights = latent_weights(masks, "entity", 0)
    target = torch.zeros(1, 1, 4, 2, 2)
    outside = target.clone()
    outside[..., 1, :] = 5
    inside = target.clone()
    inside[..., 0, 0] = 2
    assert weighted_error(outside, target, weights) == 0
    assert weighted_error(inside, target, weights) == 1  # 4, averaged over four cells


def test_sigmas_are_log_normal_within_their_bounds() -> None:
    normal = torch.randn(20000, generator=torch.Generator().manual_seed(5))
    logs = draw_sigmas(normal, 0.7, 1.6, (1e-9, 1e9)).log()
    assert float(logs.mean()) == pytest.approx(0.7, abs=0.05)
    assert float(logs.std()) == pytest.approx(1.6, abs=0.05)
    clipped = draw_sigmas(normal, 0.7, 1.6, (0.5, 3.0))
    assert (float(clipped.min()), float(clipped.max())) == (0.5, 3.0)


def test_the_linear_code_is_exact_where_as_many_components_suffice() -> None:
    random = torch.Generator().manual_seed(6)
    basis = torch.randn(3, 3 * 64, generator=random)
    patches = torch.randn(40, 3, generator=random) @ basis + 0.3
    pixels = patches.reshape(40, 3, 8, 8)
    code = linear_code.fit(pixels, 3)
    assert (code.decode(code.encode(pixels)) - pixels).abs().max() < 1e-3
    assert code.encode(pixels).std(dim=(0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.05)
    fewer = linear_code.fit(pixels, 2)
    assert (fewer.decode(fewer.encode(pixels)) - pixels).abs().max() > 0.1


def test_psnr_of_a_known_error() -> None:
    truth = torch.zeros(2, 3, 8, 8)
    assert float(linear_code.psnr(truth + 0.2, truth)) == pytest.approx(20.0, abs=1e-4)
