from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.conditioning import Entity
from model.memo import Memo
from model.pipeline import DragAnythingPipeline
from tests.unit.model.conftest import JOB

SHAPE = {key: JOB[key] for key in ("num_frames", "height", "width")}


class Counted:
    """A network and how often it worked."""

    def __init__(self) -> None:
        self.net = nn.Linear(2, 2)
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = self.net(x)
        return found


def ask(memo: Memo, counted: Counted, x: Tensor) -> Tensor:
    return memo(counted.net, (x,), lambda: counted(x))


@torch.no_grad()
def test_equal_inputs_are_computed_once() -> None:
    memo, counted = Memo(2), Counted()
    first = ask(memo, counted, torch.ones(3, 2))
    assert torch.equal(ask(memo, counted, torch.ones(3, 2)), first)
    assert counted.calls == 1


@pytest.mark.parametrize("other", [torch.tensor([[2.0, 3.0]]), torch.ones(4).view(2, 2), torch.zeros(1, 2)])
@torch.no_grad()
def test_other_inputs_have_other_results(other: Tensor) -> None:
    memo, counted = Memo(2), Counted()
    ask(memo, counted, torch.ones(1, 2))
    assert torch.equal(ask(memo, counted, other), counted.net(other))
    assert counted.calls == 2


@torch.no_grad()
def test_changed_weights_are_other_weights() -> None:
    memo, counted = Memo(2), Counted()
    before = ask(memo, counted, torch.ones(1, 2))
    counted.net.bias.add_(1)
    torch.testing.assert_close(ask(memo, counted, torch.ones(1, 2)), before + 1)


@torch.no_grad()
def test_the_oldest_is_forgotten() -> None:
    memo, counted = Memo(2), Counted()
    for value in (1.0, 2.0, 1.0, 3.0, 1.0):  # 1 is used again, so 2 goes
        ask(memo, counted, torch.full((1, 2), value))
    assert counted.calls == 3
    ask(memo, counted, torch.full((1, 2), 2.0))
    assert counted.calls == 4
    memo.clear()
    ask(memo, counted, torch.full((1, 2), 2.0))
    assert counted.calls == 5


def test_a_picture_is_encoded_once_and_entities_may_move(
    tiny: DragAnythingPipeline, image: np.ndarray[Any, Any], entity: Callable[..., Entity]
) -> None:
    calls: list[str] = []
    networks = ("image_encoder", "entity_encoder")
    handles = [
        getattr(tiny, name).register_forward_hook(lambda *_, name=name: calls.append(name)) for name in networks
    ]
    moved = entity()
    moved.points[:, 1] += 5
    try:
        tiny.memo.clear()
        once = tiny.condition(image, [entity()], generator=torch.Generator().manual_seed(7), **SHAPE)
        again = tiny.condition(image, [moved], generator=torch.Generator().manual_seed(7), **SHAPE)
        assert calls == ["image_encoder", "entity_encoder"]
        other = tiny.condition(image, [entity()], generator=torch.Generator().manual_seed(8), **SHAPE)
        assert calls == ["image_encoder", "entity_encoder", "entity_encoder"]
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(once.entity_features, again.entity_features)
    assert not torch.equal(once.control, again.control)
    assert not torch.equal(once.entity_features, other.entity_features)
    assert not torch.equal(once.image_latents, other.image_latents)
