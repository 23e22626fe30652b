import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.conditioning import ConditionError, Entity
from model.pipeline import DragAnythingPipeline
from tests.unit.model.conftest import FRAMES, JOB

Make = Callable[..., Entity]
Seeded = Callable[..., torch.Generator]
Picture = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def plain(tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded) -> Tensor:
    """Final latents of the plain job."""
    return tiny(image, [entity()], generator=seeded(), **JOB).latents


def test_a_call_gives_frames(tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded) -> None:
    output = tiny(image, [entity()], generator=seeded(), **JOB)
    assert output.frames.shape == (FRAMES, 64, 64, 3)
    assert output.frames.dtype == np.uint8
    assert output.latents.shape == (1, FRAMES, tiny.vae.config.latent_channels, 8, 8)


def test_a_call_is_its_three_stages(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    whole = tiny(image, [entity()], generator=seeded(), decode_chunk_size=2, **JOB)
    shape = {key: JOB[key] for key in ("num_frames", "height", "width")}
    conditions = tiny.condition(image, [entity()], generator=seeded(), **shape)
    latents = tiny.denoise(conditions, num_inference_steps=2)
    assert np.array_equal(tiny.decode(latents, 2), whole.frames)


def test_seeds_decide(tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (tiny(image, [entity()], generator=seeded(seed), **JOB).latents for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_can_be_given(tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded) -> None:
    g = seeded(4)
    c = tiny.vae.config.latent_channels
    given: dict[str, Any] = {
        "entity_vae_noise": torch.randn(8, c, 8, 8, generator=g),
        "entity_noise": torch.empty(8, c, 8, 8, memory_format=torch.channels_last).normal_(generator=g),
        "image_noise": torch.randn(1, 3, 64, 64, generator=g),
        "latents": torch.randn(1, FRAMES, c, 8, 8, generator=g),
    }
    drawn = tiny(image, [entity()], generator=seeded(4), **JOB).latents
    assert torch.equal(tiny(image, [entity()], **given, **JOB).latents, drawn)
    for name, tensor in given.items():
        with pytest.raises(ValueError, match=rf"{name} must have shape"):
            tiny.condition(image, [entity()], **{name: tensor[..., :-1]}, **_shape())


def test_guidance_of_one_runs_one_half(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    batches: list[int] = []
    handle = tiny.unet.register_forward_hook(lambda _m, inputs, _out: batches.append(len(inputs[0])))
    try:
        one = tiny(image, [entity()], generator=seeded(), max_guidance_scale=1.0, **JOB).latents
        two = tiny(image, [entity()], generator=seeded(), max_guidance_scale=3.0, **JOB).latents
    finally:
        handle.remove()
    assert batches == [1, 1, 2, 2]
    assert torch.isfinite(one).all()
    assert not torch.equal(one, two)


def test_both_halves_agree_where_the_weight_is_one(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    """Guidance of 1 in every frame is the conditional half, so the second half changes rounding only."""
    conditions = tiny.condition(image, [entity()], generator=seeded(), **_shape())
    single = tiny.denoise(conditions, num_inference_steps=2)
    both = tiny.denoise(conditions, num_inference_steps=2, min_guidance_scale=1.0, max_guidance_scale=1.0 + 1e-6)
    torch.testing.assert_close(single, both, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"entity_map": "scalar"},
        {"control_scale": 0.5},
        {"control_end": 0.5},
        {"control_start": 0.5},
        {"sampler": "ays"},
        {"fps": 24},
        {"motion_bucket_id": 20},
        {"noise_aug_strength": 0.2},
        {"subpixel": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_matter(
    tiny: DragAnythingPipeline,
    image: Picture,
    entity: Make,
    seeded: Seeded,
    plain: Tensor,
    change: dict[str, Any],
) -> None:
    changed = tiny(image, [entity()], generator=seeded(), **change, **JOB).latents
    assert torch.isfinite(changed).all()
    assert not torch.equal(plain, changed)


def test_without_control_the_controlnet_is_not_called(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    conditions = tiny.condition(image, [entity()], generator=seeded(), **_shape())
    calls: list[int] = []
    handle = tiny.controlnet.register_forward_hook(lambda *_: calls.append(1))
    try:
        without = tiny.denoise(conditions, num_inference_steps=2, control_end=0.0)
    finally:
        handle.remove()
    assert not calls
    torch.testing.assert_close(without, tiny.denoise(conditions, num_inference_steps=2, control_scale=0.0))


def test_a_point_has_heat_but_no_features(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    as_entity = tiny.condition(image, [entity()], generator=seeded(), **_shape())
    as_point = tiny.condition(image, [entity(control="point")], generator=seeded(), **_shape())
    assert np.array_equal(as_entity.conditioning.heat, as_point.conditioning.heat)
    assert as_entity.conditioning.labels.any()
    assert not as_point.conditioning.labels.any()
    assert not torch.equal(as_entity.control, as_point.control)


class Canceled(Exception):
    pass


def test_an_exception_in_the_callback_ends_the_run_at_once(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    steps: list[int] = []

    def cancel(pipe: DragAnythingPipeline, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> None:
        assert pipe is tiny
        assert timestep.ndim == 0
        assert tensors["latents"].shape == (1, FRAMES, tiny.vae.config.latent_channels, 8, 8)
        steps.append(step)
        if step == 1:
            raise Canceled

    with pytest.raises(Canceled):
        tiny(
            image, [entity()], generator=seeded(), callback_on_step_end=cancel, **{**JOB, "num_inference_steps": 4}
        )
    assert steps == [0, 1]


def test_the_callback_may_replace_the_latents(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    last = JOB["num_inference_steps"] - 1
    output = tiny(
        image,
        [entity()],
        generator=seeded(),
        callback_on_step_end=lambda _p, i, _t, x: (
            {"latents": torch.zeros_like(x["latents"])} if i == last else None
        ),
        **JOB,
    )
    assert not output.latents.any()


def test_stages_report_their_progress(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    seen: list[tuple[str, int, int]] = []
    tiny(image, [entity()], generator=seeded(), decode_chunk_size=2, on_stage=lambda *at: seen.append(at), **JOB)
    assert seen == [
        *(("conditioning", i, 4) for i in range(5)),
        *(("denoising", i, 2) for i in range(3)),
        *(("decoding", i, 3) for i in (0, 2, 3)),
    ]


def test_bad_inputs_are_refused_before_any_work(
    tiny: DragAnythingPipeline, image: Picture, entity: Make, seeded: Seeded
) -> None:
    with pytest.raises(ConditionError):
        tiny(image, [entity(frames=FRAMES + 1)], **JOB)
    with pytest.raises(ConditionError, match="64"):
        tiny(image, [entity()], **{**JOB, "height": 72})
    with pytest.raises(ConditionError):
        tiny(image, [entity()], **{**JOB, "num_frames": 0})
    with pytest.raises(ValueError, match="entity_map"):
        tiny(image, [entity()], entity_map="matrix", **JOB)
    with pytest.raises(ValueError, match="num_inference_steps"):
        tiny(image, [entity()], generator=seeded(), **{**JOB, "num_inference_steps": 0})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_work(saved: Any, image: Picture, entity: Make, seeded: Seeded, dtype: str) -> None:
    pipe = _load(saved, dtype=dtype)
    vae = torch.float32 if dtype == "float16" else torch.bfloat16
    assert {pipe.vae.dtype, pipe.entity_encoder.vae.dtype} == {vae}
    assert str(pipe.unet.dtype) == f"torch.{dtype}"
    output = pipe(image, [entity()], generator=seeded(), **JOB)
    assert torch.isfinite(output.latents).all()
    exact = _load(saved)(image, [entity()], generator=seeded(), **JOB)
    difference = output.frames.astype(int) - exact.frames
    assert np.abs(difference).mean() < 8


def test_offloading_changes_nothing(
    tiny: DragAnythingPipeline, saved: Any, image: Picture, entity: Make, seeded: Seeded
) -> None:
    output = _load(saved, offload=True)(image, [entity()], generator=seeded(), **JOB)
    assert np.array_equal(output.frames, tiny(image, [entity()], generator=seeded(), **JOB).frames)


def test_the_card_is_plain_data(tiny: DragAnythingPipeline) -> None:
    card = json.loads(json.dumps(asdict(tiny.card)))
    assert card["name"] == "tiny"
    assert (card["dtype"], card["device"]) == ("float32", "cpu")
    assert (card["defaults"]["width"], card["defaults"]["height"]) == (192, 128)
    assert card["parameters"] < 12e6
    assert len(card["weights_sha256"]["combined"]) == 64


def _shape() -> dict[str, Any]:
    return {key: JOB[key] for key in ("num_frames", "height", "width")}


def _load(folder: Any, **options: Any) -> DragAnythingPipeline:
    return DragAnythingPipeline.from_pretrained(
        "tiny",
        svd=folder,
        controlnet=folder / "controlnet",
        entity_encoder=folder / "entity_encoder",
        device="cpu",
        **options,
    )
