import pytest
import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

from model.clip import shrink


@pytest.mark.parametrize("size", [(320, 576), (128, 192), (224, 224), (90, 1000), (448, 300)])
def test_resize_is_that_of_the_stock_pipeline(size: tuple[int, int]) -> None:
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    stock = _resize_with_antialiasing(pixels, (224, 224))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(shrink(pixels), stock, rtol=0, atol=1e-6)
