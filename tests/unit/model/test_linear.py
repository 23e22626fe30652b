"""Linear layers in one pass with what follows them: the same numbers as in several."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.linear import fused, fused_gelu, fused_plus, fused_times


@pytest.fixture(params=[torch.float32, torch.float64], ids=["fused", "apart"])
def given(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, weight, bias, and another tensor of the output's shape."""
    random = torch.Generator().manual_seed(1)
    shapes = ((2, 3, 5, 24), (40, 24), (40,), (2, 3, 5, 40))
    x, weight, bias, other = (torch.randn(shape, generator=random, dtype=request.param) for shape in shapes)
    return x, weight, bias, other


@torch.no_grad()
def test_a_fused_layer_is_the_layer_and_what_follows(given: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, other = given
    torch.testing.assert_close(fused(x, weight), F.linear(x, weight))
    layer = F.linear(x, weight, bias)
    torch.testing.assert_close(fused(x, weight, bias), layer)
    torch.testing.assert_close(fused_gelu(x, weight, bias), F.gelu(layer))
    torch.testing.assert_close(fused_times(x, weight, bias, other.clone()), layer * other)
    torch.testing.assert_close(fused_plus(x, weight, bias, other), layer + other)


@torch.no_grad()
def test_what_is_added_stays_as_it_was(given: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, other = given
    before = other.clone()
    fused_plus(x, weight, bias, other)
    assert torch.equal(other, before)


@torch.no_grad()
def test_halves_of_a_weight_and_views_of_an_input_count_as_they_are() -> None:
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(80, 24, generator=random), torch.randn(80, generator=random)
    x = torch.randn(2, 5, 3, 24, generator=random).transpose(1, 2)
    torch.testing.assert_close(fused(x, weight.chunk(2)[1], bias.chunk(2)[1]), F.linear(x, weight, bias)[..., 40:])
