"""The blocks with what a job leaves constant, against diffusers' own with the same weights."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from model.blocks import ResBlock, Savings, Transformer, adopt, lay_out, prepare
from model.pipeline import DragAnythingPipeline
from model.unet import UNet

FRAMES = 3
OFF = [Savings(**{name: False}) for name in Savings.__dataclass_fields__]
CROSS, UP = "CrossAttnDownBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
CONFIG: dict[str, Any] = {
    "down_block_types": (CROSS, "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", UP),
    "block_out_channels": (32, 64),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "num_attention_heads": (2, 4),
}


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    """Our UNet and the stock one; every weight is random, the mixtures too."""
    torch.manual_seed(0)
    ours, theirs = UNet(**CONFIG).eval(), UNetSpatioTemporalConditionModel(**CONFIG).eval()
    for parameter in ours.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    theirs.load_state_dict(ours.state_dict())
    lay_out(ours)
    return ours, theirs


def job(steps: int = 3, tokens: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    sample = torch.randn(2, FRAMES, 8, 8, 8, generator=g)
    context = torch.randn(2, tokens, 16, generator=g)  # the halves differ, so a mix-up between them shows
    return sample, torch.linspace(1.6, -1.5, steps), context, torch.tensor([[6.0, 128.0, 0.02]])


@pytest.mark.parametrize("savings", [None, *OFF], ids=str)
@torch.no_grad()
def test_every_step_is_the_stock_networks(pair: tuple[Any, Any], savings: Savings | None) -> None:
    ours, theirs = pair
    sample, times, context, ids = job()
    first = prepare(ours, times, context, ids, FRAMES, savings)
    for i, time in enumerate(times):
        wanted = theirs(sample, time, context, ids.expand(2, -1)).sample
        found = ours(sample, time, context, ids, step=first.at(i))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_bfloat16_costs_no_more_than_in_the_stock_networks(pair: tuple[Any, Any]) -> None:
    sample, times, context, ids = job()
    wanted = torch.stack([pair[1](sample, time, context, ids.expand(2, -1)).sample for time in times])
    ours, theirs = (copy.deepcopy(net).bfloat16() for net in pair)
    sample, context = sample.bfloat16(), context.bfloat16()
    step = prepare(ours, times, context, ids, FRAMES)
    stock = torch.stack([theirs(sample, time, context, ids.expand(2, -1)).sample for time in times])
    found = torch.stack([ours(sample, time, context, ids, step=step.at(i)) for i, time in enumerate(times)])
    assert 0 < (found - wanted).norm() < 1.1 * (stock - wanted).norm()


@torch.no_grad()
def test_several_tokens_are_attended_to(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    sample, times, context, ids = job(steps=1, tokens=2)
    step = prepare(ours, times, context, ids, FRAMES)
    assert not step.crossed
    wanted = theirs(sample, times[0], context, ids.expand(2, -1)).sample
    torch.testing.assert_close(ours(sample, times[0], context, ids, step=step), wanted, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_a_job_is_prepared_once(pair: tuple[Any, Any]) -> None:
    """In a step nothing is computed that the job has already: no time, no queries of the image token."""
    ours, _ = pair
    sample, times, context, ids = job(steps=1)
    step = prepare(ours, times, context, ids, FRAMES)
    called: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    idle = ("time_embedding", "add_embedding", "time_emb_proj", "time_pos_embed", "attn2", "norm2", "time_mixer")
    watched = [
        (n, m)
        for n, m in ours.named_modules()
        if n.endswith(idle) and not (n.endswith("norm2") and "res_block" in n)
    ]
    handles = [module.register_forward_hook(note(name)) for name, module in watched]
    try:
        ours(sample, times[0], context, ids, step=step)
    finally:
        for handle in handles:
            handle.remove()
    assert len(watched) > 20
    assert not called


@torch.no_grad()
def test_layout_changes_no_value(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    weight = ours.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@torch.no_grad()
def test_one_clip_is_not_copied_between_layouts(pair: tuple[Any, Any]) -> None:
    """With a batch of one, PyTorch takes a careless view of it for contiguous, and copies it there and back."""
    ours, _ = pair
    block = next(module for module in ours.modules() if isinstance(module, ResBlock))
    x = torch.randn(FRAMES, block.spatial_res_block.conv1.in_channels, 8, 8)
    x = x.contiguous(memory_format=torch.channels_last)
    step = prepare(ours, torch.zeros(1), torch.randn(1, 1, 16), torch.tensor([[6.0, 128.0, 0.02]]), FRAMES)
    with torch.autograd.profiler.profile() as profile:
        block(x, step, torch.zeros(1, FRAMES))
    assert "aten::clone" not in {event.key for event in profile.key_averages()}


def test_gradients_take_the_stock_way(pair: tuple[Any, Any]) -> None:
    """Training, which needs them, computes what it would with the stock blocks."""
    ours, theirs = pair
    sample, times, context, ids = job(steps=1)
    inputs = sample.clone().requires_grad_(), sample.clone().requires_grad_()
    ours(inputs[0], times[0], context, ids.expand(2, -1)).square().sum().backward()
    theirs(inputs[1], times[0], context, ids.expand(2, -1)).sample.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("switch", [True, False])
@torch.no_grad()
def test_the_vaes_blocks_mix_the_other_way_round(switch: bool) -> None:
    torch.manual_seed(0)
    options = {"temb_channels": None, "merge_strategy": "learned", "switch_spatial_to_temporal_mix": switch}
    theirs = SpatioTemporalResBlock(32, 64, merge_factor=0.7, **options).eval()  # type: ignore[arg-type]
    net = nn.ModuleList([SpatioTemporalResBlock(32, 64, merge_factor=0.7, **options)]).eval()  # type: ignore[arg-type]
    net[0].load_state_dict(theirs.state_dict())
    adopt(net)
    lay_out(net)
    x, frames = torch.randn(4, 32, 8, 8), torch.zeros(2, 2)
    wanted = theirs(x, image_only_indicator=frames)
    torch.testing.assert_close(net[0](x, image_only_indicator=frames), wanted, rtol=1e-4, atol=1e-5)


def test_stock_blocks_become_ours(tiny: DragAnythingPipeline) -> None:
    for net in (tiny.unet, tiny.controlnet, tiny.vae):
        kinds = {type(module) for module in net.modules()}
        assert ResBlock in kinds
        assert not kinds & {SpatioTemporalResBlock, TransformerSpatioTemporalModel}
    assert any(isinstance(module, Transformer) for module in tiny.unet.modules())
