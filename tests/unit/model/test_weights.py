import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file

from model.conditioning import Entity
from model.hub import WeightsError
from model.pipeline import DragAnythingPipeline
from tests.unit.model.conftest import JOB

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(root: Path, **options: Any) -> DragAnythingPipeline:
    parts = {"svd": root, "controlnet": root / "controlnet", "entity_encoder": root / "entity_encoder"}
    return DragAnythingPipeline.from_pretrained(**{"name": "tiny", **parts, "device": "cpu", **options})


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(WeightsError) as raised:
        load(root, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_saved_loads_and_gives_the_same_frames(
    tiny: DragAnythingPipeline,
    saved: Path,
    image: np.ndarray[Any, np.dtype[np.uint8]],
    entity: Callable[..., Entity],
    seeded: Callable[..., torch.Generator],
) -> None:
    again = load(saved)
    first, second = (pipe(image, [entity()], generator=seeded(), **JOB).frames for pipe in (tiny, again))
    assert np.array_equal(first, second)


def test_hashes_name_every_part_and_follow_the_bytes(saved: Path, copy: Path) -> None:
    first = load(saved).card.weights_sha256
    assert set(first) == {
        "svd/unet",
        "svd/vae",
        "svd/image_encoder",
        "controlnet",
        "entity_encoder/unet",
        "entity_encoder/prompt",
        "combined",
    }
    path = copy / "unet" / WEIGHTS
    state = load_file(path)
    state["conv_in.bias"] += 1
    save_file(state, path, metadata={"format": "pt"})
    second = load(copy).card.weights_sha256
    assert {key for key in first if first[key] != second[key]} == {"svd/unet", "combined"}


def test_the_official_class_name_and_unknown_settings_load(copy: Path) -> None:
    edit(copy / "controlnet" / "config.json", _class_name="DragAnythingSDVModel", _diffusers_version="0.25.0.dev0")
    edit(copy / "unet" / "config.json", _class_name="UNetSpatioTemporalConditionControlNetModel")
    load(copy)


def test_an_entity_encoder_may_bring_its_own_vae(tiny: DragAnythingPipeline, copy: Path) -> None:
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=tiny.vae.config.latent_channels,
    )
    vae.save_pretrained(copy / "entity_encoder" / "vae")
    pipe = load(copy)
    assert isinstance(pipe.entity_encoder.vae, AutoencoderKL)
    assert "entity_encoder/vae" in pipe.card.weights_sha256


@pytest.mark.parametrize("wide", [True, False])
def test_the_variant_follows_the_dtype(copy: Path, wide: bool) -> None:
    """With both at hand, 16-bit jobs read the fp16 files and float32 jobs the full ones."""
    full = copy / "unet" / WEIGHTS
    state = load_file(full)
    marked = {key: value.half() for key, value in state.items()}
    marked["conv_in.bias"] = torch.full_like(marked["conv_in.bias"], 7)
    save_file(marked, full.with_name("diffusion_pytorch_model.fp16.safetensors"), metadata={"format": "pt"})
    pipe = load(copy, dtype="float32" if wide else "bfloat16")
    assert bool((pipe.unet.conv_in.bias == 7).all()) is not wide


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"controlnet": "unet"}, "controlnet"),
        ({"svd": "controlnet"}, "svd/unet"),
        ({"entity_encoder": "controlnet"}, "entity_encoder/unet"),
        ({"entity_encoder": "."}, "entity_encoder/vae"),
        ({"controlnet": "entity_encoder/unet"}, "controlnet"),
    ],
)
def test_mixed_up_directories_name_the_part(saved: Path, options: dict[str, str], part: str) -> None:
    message = refusal(saved, **{key: saved / place for key, place in options.items()})
    assert message.startswith(f"{part}: ")


def test_a_directory_that_is_not_there(saved: Path) -> None:
    assert refusal(saved, controlnet=saved / "nowhere") == f"controlnet: no directory {saved / 'nowhere'}"


def test_missing_weights(copy: Path) -> None:
    (copy / "vae" / WEIGHTS).unlink()
    assert refusal(copy).startswith("svd/vae: no weights; expected diffusion_pytorch_model.safetensors")


def test_truncated_weights(copy: Path) -> None:
    path = copy / "controlnet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    assert refusal(copy).startswith("controlnet: cannot load")


def test_a_broken_config(copy: Path) -> None:
    (copy / "image_encoder" / "config.json").write_text("{")
    assert refusal(copy).startswith("svd/image_encoder: ")
    assert "not JSON" in refusal(copy)


def test_a_lost_tensor_is_not_replaced_by_noise(copy: Path) -> None:
    path = copy / "unet" / WEIGHTS
    state = load_file(path)
    del state["conv_out.bias"]
    save_file(state, path, metadata={"format": "pt"})
    assert "1 missing tensors such as conv_out.bias" in refusal(copy)


@pytest.mark.parametrize("part", ["unet", "image_encoder"])
def test_a_tensor_of_another_shape(copy: Path, part: str) -> None:
    path = next((copy / part).glob("*.safetensors"))
    state = load_file(path)
    key = min(state)
    state[key] = torch.zeros(*state[key].shape, 2)
    save_file(state, path, metadata={"format": "pt"})
    assert refusal(copy).startswith(f"svd/{part}: ")


def test_parts_that_do_not_fit_each_other(tiny: DragAnythingPipeline, copy: Path) -> None:
    other = type(tiny.entity_encoder.unet).from_config(
        {**tiny.entity_encoder.unet.config, "block_out_channels": (64, 48)}
    )
    other.save_pretrained(copy / "entity_encoder" / "unet")
    twice = 2 * tiny.controlnet.config.entity_embedding_channels[0]
    assert (
        refusal(copy)
        == f"entity_encoder/unet: first width is 64, but twice the ControlNet's entity width is {twice}"
    )
    config = {**tiny.controlnet.config, "cross_attention_dim": 48}
    type(tiny.controlnet).from_config(config).save_pretrained(copy / "controlnet")
    shutil.rmtree(copy / "entity_encoder")
    tiny.save_pretrained(copy / "again")
    message = refusal(copy, entity_encoder=copy / "again" / "entity_encoder")
    width = tiny.unet.config.cross_attention_dim
    assert message == f"controlnet: cross_attention_dim is 48, but the UNet's is {width}"


def test_pickles_are_refused_unless_asked_for(copy: Path) -> None:
    path = copy / "controlnet" / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    assert "allow_pickle=True" in refusal(copy)
    load(copy, allow_pickle=True)


def test_a_name_or_all_components(saved: Path) -> None:
    with pytest.raises(WeightsError, match="missing: controlnet, entity_encoder"):
        DragAnythingPipeline.from_pretrained(svd=saved)
    with pytest.raises(ValueError, match="there are tiny, draganything, draganything-xt"):
        DragAnythingPipeline.from_pretrained("huge")
    with pytest.raises(ValueError, match="dtype"):
        load(saved, dtype="int8")


def test_all_components_make_a_custom_model(saved: Path) -> None:
    card = load(saved, name=None).card
    assert (card.name, card.defaults.width, card.defaults.height) == ("custom", 576, 320)


def test_a_component_can_replace_a_presets(saved: Path) -> None:
    pipe = DragAnythingPipeline.from_pretrained("tiny", controlnet=saved / "controlnet", device="cpu")
    assert pipe.card.licences["controlnet"] == "unknown"
    assert pipe.card.licences["svd"] == "Apache-2.0"
