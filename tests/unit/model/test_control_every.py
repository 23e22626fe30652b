from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from model.conditioning import Entity
from model.pipeline import Conditions, DragAnythingPipeline
from tests.unit.model.conftest import JOB


@pytest.fixture(scope="module")
def conditions(
    tiny: DragAnythingPipeline, image: np.ndarray[Any, Any], entity: Callable[..., Entity]
) -> Conditions:
    shape = {key: JOB[key] for key in ("num_frames", "height", "width")}
    return tiny.condition(image, [entity()], generator=torch.Generator().manual_seed(0), **shape)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"control_every": 2}, [0, 2, 4]),
        ({"control_every": 3}, [0, 3]),
        ({"control_every": 9}, [0]),
        ({"control_every": 2, "control_start": 0.2}, [1, 3]),  # counted from the first step with control
        ({"control_every": 2, "control_end": 0.6}, [0, 2]),
    ],
    ids=str,
)
def test_the_controlnet_is_asked_in_every_nth_step(
    tiny: DragAnythingPipeline, conditions: Conditions, options: dict[str, Any], asked: list[int]
) -> None:
    steps: list[int] = []
    given: list[bool] = []
    done = [0]
    handles = [
        tiny.controlnet.register_forward_hook(lambda *_: steps.append(done[0])),
        tiny.unet.register_forward_hook(lambda _m, inputs, _out: given.append(inputs[4] is not None)),
    ]
    try:
        tiny.denoise(
            conditions,
            num_inference_steps=5,
            on_stage=lambda _stage, count, _total: done.__setitem__(0, count),
            **options,
        )
    finally:
        for handle in handles:
            handle.remove()
    assert steps == asked
    window = round(5 * options.get("control_start", 0)), round(5 * options.get("control_end", 1))
    assert given == [window[0] <= i < window[1] for i in range(5)]


def test_what_it_said_last_is_an_approximation(tiny: DragAnythingPipeline, conditions: Conditions) -> None:
    exact, sparse, without = (
        tiny.denoise(conditions, num_inference_steps=4, **options)
        for options in ({}, {"control_every": 2}, {"control_end": 0.0})
    )
    assert not torch.equal(exact, sparse)
    assert (exact - sparse).norm() < (exact - without).norm()


def test_it_is_asked_at_least_once(tiny: DragAnythingPipeline, conditions: Conditions) -> None:
    with pytest.raises(ValueError, match="control_every"):
        tiny.denoise(conditions, control_every=0)
