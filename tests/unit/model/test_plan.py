import pytest

from model.plan import Plan, plan


@pytest.fixture(scope="module")
def full() -> Plan:
    return plan("draganything-xt", num_frames=25, dtype="bfloat16")


def test_parameters_are_those_of_the_published_networks(full: Plan) -> None:
    assert full.parameters["unet"] == 1_524_623_082
    assert full.parameters["controlnet"] == 684_999_873


def test_a_full_job_fits_24_gb_and_12_with_offloading(full: Plan) -> None:
    assert full.peak < 24
    assert full.peak_offload < 12


def test_nothing_is_as_large_as_a_float_feature_map_per_pixel(full: Plan) -> None:
    embedding = next(stage for stage in full.stages if stage.name == "condition embedding")
    assert embedding.activations < 25 * 320 * 576 * 160 * 2  # even the 16-bit map of paired features


def test_weights_are_counted_once_per_tensor(full: Plan) -> None:
    buffers = full.weights - 2 * sum(full.parameters.values())
    assert 0 < buffers < 1e6  # the empty prompt and position ids


def test_more_frames_and_larger_chunks_take_more() -> None:
    small = plan("tiny", dtype="float32", num_frames=8, decode_chunk_size=2)
    large = plan("tiny", dtype="float32", num_frames=14, decode_chunk_size=8)
    for a, b in zip(small.stages, large.stages, strict=True):
        grows = a.name in ("condition embedding", "denoising step", "VAE decode")
        assert (a.activations < b.activations) is grows, a.name


def test_the_text_says_that_it_is_computed(full: Plan) -> None:
    text = str(full)
    assert "computed, not measured" in text
    assert f"{full.peak:.1f} GB" in text
    assert "1524.6 M" in text
