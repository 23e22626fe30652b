"""The optional segmenter, with small random weights: what it takes, what it gives, that it is really loaded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam2Config, Sam2Model

from model.hub import WeightsError
from model.pipeline import DragAnythingPipeline
from model.segmenter import Segmenter

SIDE = 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    backbone = {
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "global_attention_blocks": [],
        "window_positional_embedding_background_size": [2, 2],
    }
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    prompt = {"hidden_size": 32, "image_size": SIDE}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    network = Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )
    where = tmp_path_factory.mktemp("segmenter")
    network.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Segmenter:
    loaded = DragAnythingPipeline.from_pretrained("tiny", segmenter=folder, device="cpu")
    assert loaded.segmenter is not None
    assert "segmenter" in loaded.card.weights_sha256
    return loaded.segmenter


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))


def test_a_mask_has_the_image_s_size_and_is_binary(segmenter: Segmenter, picture: Image.Image) -> None:
    mask, rating = segmenter(picture, [(30, 20)], [1])
    assert mask.shape == (60, 90)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    assert np.isfinite(rating)


def test_the_answer_depends_on_the_picture_and_on_every_part_of_the_prompt(
    segmenter: Segmenter, picture: Image.Image
) -> None:
    base = segmenter(picture, [(30, 20)], [1])[1]
    assert segmenter(picture, [(30, 20)], [1])[1] == base
    others = [
        segmenter(picture, [(70, 50)], [1]),
        segmenter(picture, [(30, 20)], [0]),
        segmenter(picture, [(30, 20), (5, 5)], [1, 0]),
        segmenter(picture, [(30, 20)], [1], (10, 10, 50, 40)),
        segmenter(picture, box=(10, 10, 50, 40)),
        segmenter(picture.rotate(180), [(30, 20)], [1]),
    ]
    assert all(rating != base for _, rating in others)


def test_points_are_in_pixels_of_the_image(segmenter: Segmenter, picture: Image.Image) -> None:
    """The same place of the same square picture, given in the coordinates of another size."""
    square = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    ratings = [
        segmenter(picture, [(30, 20)], [1])[1],
        segmenter(square, [(30 * SIDE / 90, 20 * SIDE / 60)], [1])[1],
    ]
    assert ratings[0] == pytest.approx(ratings[1], rel=1e-4)


def test_an_empty_or_uneven_prompt_is_refused(segmenter: Segmenter, picture: Image.Image) -> None:
    with pytest.raises(ValueError, match="at least one point or a box"):
        segmenter(picture)
    with pytest.raises(ValueError, match="2 points need as many labels, not 1"):
        segmenter(picture, [(1, 1), (2, 2)], [1])


def test_a_folder_that_holds_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^segmenter: "):
        DragAnythingPipeline.from_pretrained("tiny", segmenter=tmp_path, device="cpu")
