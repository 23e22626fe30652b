import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

from model.pipeline import DragAnythingPipeline
from model.vae import VideoVAE, decode_frames


@torch.no_grad()
def test_it_is_the_stock_vae() -> None:
    torch.manual_seed(0)
    config = {"block_out_channels": (32, 32), "down_block_types": ("DownEncoderBlock2D",) * 2}
    ours = VideoVAE(**config).eval()
    theirs = AutoencoderKLTemporalDecoder(**config).eval()
    theirs.load_state_dict(ours.state_dict())
    pixels, latents = torch.randn(1, 3, 16, 16), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(ours.encode(pixels).latent_dist.mean, theirs.encode(pixels).latent_dist.mean)
    found, wanted = (vae.decode(latents, num_frames=3).sample for vae in (ours, theirs))
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_chunks_are_decoded_apart(tiny: DragAnythingPipeline) -> None:
    channels = tiny.vae.config.latent_channels
    latents = torch.randn(5, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    counts: list[tuple[int, int]] = []
    whole = decode_frames(tiny.vae, latents, 5)
    pairs = decode_frames(tiny.vae, latents, 2, lambda done, total: counts.append((done, total)))
    assert whole.shape == (5, 64, 64, 3)
    assert whole.dtype == np.uint8
    assert counts == [(2, 5), (4, 5), (5, 5)]
    assert not np.array_equal(whole, pairs)  # temporal convolutions end at a chunk's border
    assert np.array_equal(pairs[2:4], decode_frames(tiny.vae, latents[2:4], 2))


def test_a_chunk_needs_a_frame(tiny: DragAnythingPipeline) -> None:
    with pytest.raises(ValueError, match="decode_chunk_size"):
        decode_frames(tiny.vae, torch.zeros(1, 8, 8, 8), 0)
