import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from model.entity import ENSEMBLE, TIMESTEP, EntityEncoder, alpha_bar, pool, tabulate


@pytest.fixture(scope="module")
def encoder() -> EntityEncoder:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(64, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    return EntityEncoder(vae, unet, torch.randn(1, 7, 16)).eval()


@pytest.mark.parametrize("size", [(32, 32), (28, 36)])
@torch.no_grad()
def test_savings_are_exact(encoder: EntityEncoder, size: tuple[int, int]) -> None:
    """One VAE encode and a stop after the last up block, against eight encodes and the whole UNet."""
    g = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 3, *size, generator=g) * 2 - 1
    shape = (ENSEMBLE, 4, size[0] // 2, size[1] // 2)
    vae_noise, noise = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    found = encoder(pixels, vae_noise, noise)

    posterior = encoder.vae.encode(pixels.expand(ENSEMBLE, -1, -1, -1)).latent_dist
    latents = (posterior.mean + posterior.std * vae_noise) * encoder.vae.config.scaling_factor
    noised = alpha_bar() ** 0.5 * latents + (1 - alpha_bar()) ** 0.5 * noise
    seen = []
    handle = encoder.unet.up_blocks[-1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    encoder.unet(noised, TIMESTEP, encoder.prompt_embeds.expand(ENSEMBLE, -1, -1))
    handle.remove()
    assert found.shape == (64, *shape[2:])
    torch.testing.assert_close(found, seen[0].mean(dim=0), rtol=1e-5, atol=1e-5)


def test_alpha_is_stable_diffusions() -> None:
    assert alpha_bar() == pytest.approx(0.65566903, rel=1e-6)


def test_pool_averages_over_each_mask() -> None:
    features = torch.arange(8.0).reshape(2, 2, 2)
    masks = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 1]]], dtype=torch.uint8)
    assert pool(features, masks).tolist() == [[0.5, 4.5], [3.0, 7.0]]


def test_pool_names_the_entity_without_a_mask() -> None:
    masks = torch.tensor([[[1]], [[0]]], dtype=torch.uint8)
    with pytest.raises(ValueError, match="entity 2"):
        pool(torch.zeros(2, 1, 1), masks)


def test_table_is_the_vector_in_pairs_or_one_scalar() -> None:
    features = torch.tensor([[1.0, 3.0, 5.0, 9.0]])
    assert tabulate(features, "vector").tolist() == [[2, 7]]
    assert tabulate(features, "scalar").tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="entity_map"):
        tabulate(features, "tensor")
