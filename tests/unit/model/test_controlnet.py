import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model import controlnet as module
from model.controlnet import ControlNet
from model.pipeline import DragAnythingPipeline
from tests.unit.model.conftest import GOLDEN


@pytest.fixture
def net(tiny: DragAnythingPipeline) -> ControlNet:
    found: ControlNet = tiny.controlnet
    return found


def widths(net: ControlNet) -> tuple[int, int, int]:
    """Channels of the inputs, of the first level, of the context."""
    return net.config["in_channels"], net.config["block_out_channels"][0], net.config["cross_attention_dim"]


def signal(frames: int, entities: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    heat = torch.from_numpy(rng.integers(0, 256, (frames, 64, 64), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, entities + 1, (frames, 8, 8), dtype=np.uint8))
    return heat, labels.repeat_interleave(8, 1).repeat_interleave(8, 2)


@torch.no_grad()
def test_folding_the_table_equals_painting_the_features(net: ControlNet) -> None:
    embedding = net.controlnet_cond_embedding
    heat, labels = signal(frames=2, entities=3)
    table = torch.randn(3, net.config["entity_embedding_channels"][0], generator=torch.Generator().manual_seed(0))

    painted = torch.cat([torch.zeros(1, table.shape[1]), table])[labels.long()].permute(0, 3, 1, 2)
    x, y = painted, heat[:, None].float().expand(-1, 3, -1, -1)
    for conv in embedding.blocks_feature:
        x = F.silu(conv(x))
    for conv in (embedding.conv_in, *embedding.blocks):
        y = F.silu(conv(y))
    expected = embedding.conv_out_feature(x) + embedding.conv_out(y)
    torch.testing.assert_close(embedding(heat, labels, table), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_frames_are_embedded_one_by_one(net: ControlNet) -> None:
    frames = module.FRAMES_AT_ONCE + 1
    heat, labels = signal(frames, entities=2)
    table = torch.randn(2, net.config["entity_embedding_channels"][0])
    embedding = net.controlnet_cond_embedding
    singles = torch.cat([embedding(heat[i : i + 1], labels[i : i + 1], table) for i in range(frames)])
    torch.testing.assert_close(embedding(heat, labels, table), singles, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_one_condition_serves_both_halves(net: ControlNet) -> None:
    g = torch.Generator().manual_seed(0)
    inputs, first, width = widths(net)
    sample = torch.randn(2, 3, inputs, 8, 8, generator=g)
    context, ids = torch.randn(2, 1, width, generator=g), torch.tensor([[6.0, 128.0, 0.02]]).expand(2, -1)
    condition, t = torch.randn(3, first, 8, 8, generator=g), torch.tensor(1.0)
    down, mid = net(sample, t, context, ids, condition)
    for half in (0, 1):
        one = slice(half, half + 1)
        single_down, single_mid = net(sample[one], t, context[one], ids[one], condition)
        frames = slice(3 * half, 3 * half + 3)
        torch.testing.assert_close(mid[frames], single_mid, rtol=1e-4, atol=1e-5)
        for both, single in zip(down, single_down, strict=True):
            torch.testing.assert_close(both[frames], single, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scale_multiplies_every_residual(net: ControlNet) -> None:
    g = torch.Generator().manual_seed(0)
    channels, first, width = widths(net)
    sample, context = torch.randn(1, 2, channels, 8, 8, generator=g), torch.randn(1, 1, width, generator=g)
    ids, condition = torch.tensor([[6.0, 128.0, 0.02]]), torch.randn(2, first, 8, 8, generator=g)
    inputs = (sample, torch.tensor(1.0), context, ids, condition)
    down, mid = net(*inputs)
    half_down, half_mid = net(*inputs, scale=0.5)
    assert float(mid.abs().max()) > 0
    for whole, half in zip((*down, mid), (*half_down, half_mid), strict=True):
        torch.testing.assert_close(half, whole / 2)


def test_a_new_controlnet_starts_without_effect(net: ControlNet) -> None:
    fresh = ControlNet.from_config(net.config)
    weights = [conv.weight for conv in (*fresh.controlnet_down_blocks, fresh.controlnet_mid_block)]
    assert all(not weight.any() for weight in weights)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden directory is not beside this checkout")
def test_full_size_has_the_official_keys_and_shapes() -> None:
    golden = json.loads((GOLDEN / "keys_controlnet.json").read_text())
    config = {"_class_name": golden["class"], **golden["config"]}
    with torch.device("meta"):
        net = ControlNet.from_config(config)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == golden["keys"]
    assert sum(p.numel() for p in net.parameters()) == golden["parameters"]
