import json
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from model.pipeline import DragAnythingPipeline
from model.unet import UNet, residual_repeats
from tests.unit.model.conftest import GOLDEN


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    cross, up = "CrossAttnDownBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
    net: UNet = UNet(
        down_block_types=(cross, "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", up),
        block_out_channels=(32, 64),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4),
    )
    net.eval()
    return net


def stock(unet: UNet) -> Any:
    config = {key: value for key, value in unet.config.items() if key != "norm_num_groups"}
    twin: Any = UNetSpatioTemporalConditionModel.from_config(config)
    twin.eval()
    twin.load_state_dict(unet.state_dict())
    return twin


def inputs(tokens: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 3, 8, 8, 8, generator=g)
    context = torch.randn(2, tokens, 16, generator=g)  # the halves differ, so a mix-up between them shows
    return sample, torch.tensor(0.7), context, torch.tensor([[6.0, 128.0, 0.02]]).expand(2, -1)


@pytest.mark.parametrize("tokens", [1, 2])
@torch.no_grad()
def test_without_residuals_it_is_the_stock_unet(unet: UNet, tokens: int) -> None:
    """With one token this also proves that the shortcut through cross-attention is exact."""
    theirs = stock(unet)(*inputs(tokens)).sample
    torch.testing.assert_close(unet(*inputs(tokens)), theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_residuals_accumulate_as_in_the_reference(unet: UNet) -> None:
    """The reference adds, after every down block, the residuals so far to all the skips so far."""
    sample, timestep, context, ids = inputs()
    skips: list[Tensor] = []
    handles = [unet.conv_in.register_forward_hook(lambda _m, _i, out: skips.append(out))]
    handles += [b.register_forward_hook(lambda _m, _i, out: skips.extend(out[1])) for b in unet.down_blocks]
    unet(sample, timestep, context, ids)
    for handle in handles:
        handle.remove()
    g = torch.Generator().manual_seed(2)
    residuals = tuple(torch.randn(skip.shape, generator=g) for skip in skips)
    mid = torch.randn(6, 64, 4, 4, generator=g)

    twin = stock(unet)
    totals = [torch.zeros_like(r) for r in residuals]
    count = 1
    for block in twin.down_blocks:
        count += len(block.resnets) + (block.downsamplers is not None)
        for i in range(count):
            totals[i] += residuals[i]
    # Feed the totals to the stock network's up blocks in place of its own skips.
    taken = [s + t for s, t in zip(skips, totals, strict=True)]

    def replace(block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        n = len(block.resnets)
        kwargs["res_hidden_states_tuple"] = tuple(taken[-n:])
        del taken[-n:]
        return args, kwargs

    for block in twin.up_blocks:
        block.register_forward_pre_hook(replace, with_kwargs=True)
    twin.mid_block.register_forward_hook(lambda _m, _i, out: out + mid)
    expected = twin(sample, timestep, context, ids).sample
    found = unet(sample, timestep, context, ids, (residuals, mid))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_group_count_is_a_saved_setting(tiny: DragAnythingPipeline) -> None:
    norms = [m for m in tiny.unet.modules() if isinstance(m, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {tiny.unet.config.norm_num_groups} != {32}


def test_full_size_repeats_are_the_references() -> None:
    with torch.device("meta"):
        assert residual_repeats(UNet().down_blocks) == (4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden directory is not beside this checkout")
def test_full_size_has_the_official_keys_and_shapes() -> None:
    golden = json.loads((GOLDEN / "keys_unet.json").read_text())
    with torch.device("meta"):
        found = {key: list(value.shape) for key, value in UNet.from_config(golden["config"]).state_dict().items()}
    assert found == golden["keys"]
