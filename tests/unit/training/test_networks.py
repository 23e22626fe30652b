"""Batched conditions, rewritten convolutions and folded scales: the same numbers as the model's own paths."""

from pathlib import Path

import pytest
import torch

from model.conditioning import Entity
from model.entity import pool as model_pool
from model.entity import tabulate
from tests.unit.training import micro
from training import networks, stages
from training.conditions import Cache, embed, entity_features, pool
from training.config import Config, ConfigError, Networks, load
from training.data.signal import build
from training.networks import Parts, TimeConvolution, export, pipeline_of, start_from_unet
from training.stages import base

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate(micro.config(Path("unused")))


@pytest.fixture
def parts(config: Config) -> Parts:
    return networks.build(config.networks, 1, CPU, torch.float32)


def test_the_same_seed_gives_the_same_networks(config: Config, parts: Parts) -> None:
    again = networks.build(config.networks, 1, CPU, torch.float32)
    other = networks.build(config.networks, 2, CPU, torch.float32)
    assert torch.equal(parts.unet.conv_in.weight, again.unet.conv_in.weight)
    assert not torch.equal(parts.unet.conv_in.weight, other.unet.conv_in.weight)


def test_batched_condition_embedding_equals_the_models_for_each_clip(parts: Parts) -> None:
    random = torch.Generator().manual_seed(1)
    embedding = parts.controlnet.controlnet_cond_embedding
    heat = torch.randint(256, (2, 5, 64, 64), generator=random, dtype=torch.uint8)
    labels = torch.randint(4, (2, 5, 64, 64), generator=random, dtype=torch.uint8)
    table = torch.randn(2, 3, 4, generator=random)
    for again in (False, True):
        found = embed(embedding, heat, labels, table, again=again)
        for b in range(2):
            expected = embedding(heat[b], labels[b], table[b])
            assert (found[b] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_control_signal_passes_fresh_networks(parts: Parts) -> None:
    clips = micro.source().batch(0, 0, 0, 2, 3)
    signal = build(clips)
    table = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2))
    embedding = parts.controlnet.controlnet_cond_embedding
    nothing = torch.zeros_like(signal.heat)
    with torch.no_grad():
        for heat, labels in ((signal.heat, nothing), (nothing, signal.labels)):
            difference = embed(embedding, heat, labels, table) - embed(embedding, nothing, nothing, table)
            assert difference.std() > 0.01  # PyTorch's own start leaves 0.00005


def test_entity_tables_equal_the_models() -> None:
    random = torch.Generator().manual_seed(2)
    features = torch.randn(2, 6, 8, 8, generator=random)
    masks = torch.rand(2, 3, 8, 8, generator=random) > 0.7
    found = pool(features, masks)
    for b in range(2):
        assert torch.allclose(found[b], tabulate(model_pool(features[b], masks[b]), "vector"), atol=1e-6)
    masks[1, 2] = False
    assert not pool(features, masks)[1, 2].any()


def test_entity_features_equal_the_encoders_own_path(parts: Parts) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    found = entity_features(parts.entity_encoder, pixels, 2, torch.Generator().manual_seed(4))
    vae_noise, noise = torch.randn((2, 2, 2, 4, 8, 8), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for b in range(2):
            expected = parts.entity_encoder(pixels[b : b + 1], vae_noise[b], noise[b])
            assert (found[b] - expected).abs().max() < 1e-4


def test_time_convolutions_compute_the_same_and_keep_their_keys() -> None:
    torch.manual_seed(1)
    conv = torch.nn.Conv3d(3, 5, (3, 1, 1), padding=(1, 0, 0))
    plain = torch.nn.Sequential(conv)
    sample = torch.randn(2, 3, 4, 6, 5, requires_grad=True)
    expected = plain(sample)
    grads = torch.autograd.grad(expected.square().sum(), [sample, conv.weight])
    keys = list(plain.state_dict())
    networks.use_2d_time_convolutions(plain)
    assert isinstance(conv, TimeConvolution)
    assert list(plain.state_dict()) == keys
    found = plain(sample)
    assert torch.allclose(found, expected, atol=1e-5)
    for a, b in zip(torch.autograd.grad(found.square().sum(), [sample, conv.weight]), grads, strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_the_networks_use_them(parts: Parts) -> None:
    assert any(isinstance(m, TimeConvolution) for m in parts.unet.modules())
    assert not any(type(m) is torch.nn.Conv3d and m.kernel_size == (3, 1, 1) for m in parts.vae.modules())


def test_a_controlnet_starts_as_the_unets_encoder(parts: Parts) -> None:
    copied = start_from_unet(parts.controlnet, parts.unet)
    assert torch.equal(parts.controlnet.mid_block.resnets[0].spatial_res_block.conv1.weight,
                       parts.unet.mid_block.resnets[0].spatial_res_block.conv1.weight)  # fmt: skip
    for start in ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block"):
        assert any(key.startswith(start) for key in copied)
    assert not any("controlnet_" in key for key in copied)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_turning_latents_leaves_the_vae_the_same(config: Config, parts: Parts, whitening: float) -> None:
    source = micro.source()
    options = config.stages[0].model_copy(update={"whitening": whitening, "linear_start": 1})
    stage = stages.make(options, parts, config)
    stage.begin(source, 0)
    pixels = torch.cat(base.measured(source, 0, 8))
    with torch.no_grad():
        before = parts.vae.decode(parts.vae.encode(pixels).latent_dist.mode(), num_frames=1).sample
        expected = parts.vae.decode(parts.vae.encode(pixels).latent_dist.mode() + 0.3, num_frames=1).sample
    stage.finish(source, 0)
    with torch.no_grad():
        posterior = parts.vae.encode(pixels).latent_dist
        after = parts.vae.decode(posterior.mode(), num_frames=1).sample
    assert (before - expected).abs().mean() > 0.01
    assert torch.allclose(before, after, atol=1e-3)
    flat = posterior.mode().transpose(0, 1).flatten(1)
    covariance = torch.cov(flat)
    assert float(covariance.diagonal().mean()) == pytest.approx(1, rel=0.02)
    deviations = covariance.diagonal().sqrt()
    correlation = covariance / deviations[:, None] / deviations
    assert (correlation - torch.eye(4)).abs().max() < 0.05
    if whitening == 1:
        assert deviations.tolist() == pytest.approx([1] * 4, abs=0.02)
    else:
        assert deviations.tolist() == sorted(deviations.tolist(), reverse=True)
    assert posterior.std.flatten(2).std(dim=(0, 2)).max() < 1e-6


def test_folding_scales_standardises_entity_features(config: Config, parts: Parts) -> None:
    source = micro.source()
    stages.make(config.stages[1], parts, config).finish(source, 1)
    pixels = torch.cat(base.measured(source, 1, 8))
    features = entity_features(parts.entity_encoder, pixels, 1, torch.Generator().manual_seed(9))
    assert features.mean(dim=(0, 2, 3)).abs().max() < 0.2
    assert features.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 8, abs=0.2)


def test_an_export_loads_as_a_model_and_computes_the_same(tmp_path: Path, parts: Parts) -> None:
    networks_pipeline = pipeline_of(parts, {"unet": {"conv_in.bias": torch.zeros(32)}}, CPU)
    assert not networks_pipeline.unet.conv_in.bias.any()
    assert parts.unet.conv_in.bias.any()
    export(networks_pipeline, tmp_path / "weights")
    export(networks_pipeline, tmp_path / "weights")  # in place of the former one
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    options = Networks(scratch=True, init=tmp_path / "weights")
    again = networks.build(options, 1, CPU, torch.float32)
    assert not again.unet.conv_in.bias.any()
    frames = pipeline_of(again, {}, CPU)(
        torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy(),
        [Entity(torch.ones(64, 64, dtype=torch.uint8).numpy(), torch.full((3, 2), 32.0).double().numpy())],
        num_frames=3,
        num_inference_steps=1,
        width=64,
        height=64,
    ).frames
    assert frames.shape == (3, 64, 64, 3)


def test_overrides_must_name_config_values() -> None:
    options = Networks(scratch=True, overrides={"unet": {"block_channels": [32]}})
    with pytest.raises(ConfigError, match=r"networks\.overrides\.unet.*block_channels"):
        networks.build(options, 1, CPU, torch.float32)


def test_cached_features_come_back_only_for_the_same_clips_and_weights(tmp_path: Path, parts: Parts) -> None:
    cache = Cache(tmp_path, "x", parts.entity_encoder)
    features = torch.randn(2, 8, 8, 8)
    kept = cache.write(("a", "b"), features)
    found = cache.read(("b", "a"))
    assert found is not None
    assert torch.equal(found, kept.flip(0))
    assert torch.allclose(kept, features, atol=1e-2)
    assert torch.equal(cache.get(("b", "a"), CPU, pytest.fail), found)
    assert torch.equal(cache.get(("d",), CPU, lambda: features[:1]), kept[:1])
    assert torch.equal(cache.get(("d",), CPU, pytest.fail), kept[:1])
    assert cache.read(("a", "c")) is None
    assert Cache(tmp_path, "y", parts.entity_encoder).read(("a",)) is None
    with torch.no_grad():
        parts.entity_encoder.unet.conv_in.bias += 1
    assert Cache(tmp_path, "x", parts.entity_encoder).read(("a",)) is None
    nowhere = Cache(None, "x", parts.entity_encoder)
    assert torch.equal(nowhere.write(("a", "b"), features), features)
    assert nowhere.read(("a",)) is None


@pytest.mark.parametrize("name", ["tiny", "tiny-cpu", "quick", "vipseg", "youtube_vos", "ablation"])
def test_the_configs_that_come_with_the_package_are_valid(name: str) -> None:
    assert load(Path("training/configs") / f"{name}.yaml").stages


def test_an_unknown_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    content = micro.config(tmp_path)
    content["stages"][0]["learning_rate"] = 1
    path = micro.write(tmp_path / "c.yaml", content)
    with pytest.raises(ConfigError, match=r"c\.yaml: stages\.0.*learning_rate"):
        load(path)
    content["stages"][0].pop("learning_rate")
    path = micro.write(tmp_path / "c.yaml", content)
    assert load(path, {"stages.2.steps": 9}).stages[2].steps == 9
    with pytest.raises(ConfigError, match=r"no stages\.7\.steps"):
        load(path, {"stages.7.steps": 9})
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
