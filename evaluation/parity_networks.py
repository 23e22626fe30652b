"""Parity of the networks: golden modules and cases, with the weights that the directory's own `procfill.py` makes.

The weights pass through files and `model.weights.load`, as official ones do, so loading is checked as well.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.parity import (
    CALL_TOLERANCE,
    LOOP_TOLERANCE,
    Array,
    Check,
    compare,
    compare_frames,
    guard,
    read_arrays,
    read_json,
)
from model import sampler
from model.clip import embed_image, shrink
from model.conditioning import load_demo
from model.entity import alpha_bar, tabulate
from model.pipeline import Conditions, DragAnythingPipeline
from model.vae import decode_frames, encode_frame
from model.weights import load

# Where the weights of each component of `procfill` go, below the golden directory's `weights/`.
FILES = {
    "unet": "svd/unet/diffusion_pytorch_model",
    "vae": "svd/vae/diffusion_pytorch_model",
    "image_encoder": "svd/image_encoder/model",
    "controlnet": "draganything/diffusion_pytorch_model",
    "sd_unet": "sd/unet/diffusion_pytorch_model",
    "sd_vae": "sd/vae/diffusion_pytorch_model",
    "text_encoder": "sd/text_encoder/model",
}


def check_modules(root: Path) -> Iterator[Check]:
    """Check `modules/*.npz`: the sampler, the encoders and one call of each network."""
    pipeline = golden_pipeline(root)
    checks: dict[str, Callable[[DragAnythingPipeline, str, dict[str, Array]], Iterator[Check]]] = {
        "scheduler": _check_scheduler,
        "clip_vae": _check_clip_vae,
        "dift": _check_dift,
        "controlnet_unet": _check_controlnet_unet,
    }
    for path in sorted((root / "modules").glob("*.npz")):
        name = f"modules/{path.stem}"
        if path.stem in checks:
            yield from guard(name, _without_grad(checks[path.stem](pipeline, name, read_arrays(path))))
        else:
            yield Check(name, None, None, False, "no check knows this file")


def check_cases(root: Path) -> Iterator[Check]:
    """Check the networks' part of `cases/<name>/`: variant D, and the final latents of variant B."""
    pipeline = golden_pipeline(root)
    for folder in sorted(path for path in (root / "cases").iterdir() if path.is_dir()):
        name = f"cases/{folder.name}"
        yield from guard(name, _without_grad(_check_case(pipeline, name, folder)))


def golden_pipeline(root: Path) -> DragAnythingPipeline:
    """The pipeline of a golden directory, float32 on the CPU. Runs the directory's `procfill.py`."""
    with TemporaryDirectory() as scratch, _procfill(root) as state:
        weights = Path(scratch) / "weights"
        shutil.copytree(root / "weights", weights, copy_function=shutil.copyfile)
        for folder in (weights, *(path for path in weights.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        for component, stem in FILES.items():
            save_file(state(component), weights / f"{stem}.safetensors", metadata={"format": "pt"})
        return load(
            svd=weights / "svd",
            controlnet=weights / "draganything",
            entity_encoder=weights / "sd",
            device="cpu",
            dtype="float32",
        )


@contextmanager
def _procfill(root: Path) -> Iterator[Callable[[str], dict[str, Tensor]]]:
    """Import `procfill` from that directory only, and forget it afterwards."""
    names = ("procfill", "procedural")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(root.resolve()))
    try:
        import procfill  # type: ignore[import-not-found]

        yield procfill.state
    finally:
        sys.path.remove(str(root.resolve()))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _without_grad(checks: Iterator[Check]) -> Iterator[Check]:
    with torch.no_grad():
        yield from checks


def _near(name: str, found: Tensor, golden: Array, tolerance: float = CALL_TOLERANCE) -> Check:
    return compare(name, found.detach().float().numpy(), golden, tolerance)


def _check_scheduler(pipeline: DragAnythingPipeline, name: str, golden: dict[str, Array]) -> Iterator[Check]:
    counts = sorted(int(key.removeprefix("sigmas_")) for key in golden if key.startswith("sigmas_"))
    for steps in counts:
        sigmas, timesteps = sampler.noise_levels(pipeline.scheduler_config, steps)
        yield _near(f"{name}/sigmas_{steps}", sigmas, golden[f"sigmas_{steps}"])
        yield _near(f"{name}/timesteps_{steps}", timesteps, golden[f"timesteps_{steps}"])
        yield _near(f"{name}/init_sigma_{steps}", (sigmas[0] ** 2 + 1) ** 0.5, golden[f"init_sigma_{steps}"])
    trace = sum(key[0] == "v" and key[1:].isdigit() for key in golden)
    sigmas, _ = sampler.noise_levels(pipeline.scheduler_config, trace)
    for i in range(trace):
        x, v = torch.from_numpy(golden[f"x{i}"]), torch.from_numpy(golden[f"v{i}"])
        yield _near(f"{name}/scaled{i}", x / (sigmas[i] ** 2 + 1) ** 0.5, golden[f"scaled{i}"])
        yield _near(f"{name}/x{i + 1}", sampler.euler_step(x, v, sigmas[i], sigmas[i + 1]), golden[f"x{i + 1}"])


def _check_clip_vae(pipeline: DragAnythingPipeline, name: str, golden: dict[str, Array]) -> Iterator[Check]:
    for key in golden:
        if key.startswith("resize_"):
            height, width = map(int, key.split("_")[1].split("x"))
            resized = shrink(_pixels(_nearest(golden["image"], height, width)))
            yield _near(f"{name}/{key}", resized[..., ::8, ::8], golden[key])
    pixels = _pixels(golden["image"])
    embeds = embed_image(pipeline.image_encoder, pixels)
    yield _near(f"{name}/image_embeds", torch.cat([torch.zeros_like(embeds), embeds]), golden["image_embeds"])
    yield _near(f"{name}/vae_mode", encode_frame(pipeline.vae, pixels * 2 - 1), golden["vae_mode"])
    latents = torch.from_numpy(golden["latents"])  # as the decoder takes them, already divided by the scale
    for key in golden:
        if key.startswith("decoded_chunk"):
            parts = torch.split(latents, int(key.split("_")[1].removeprefix("chunk")))
            decoded = torch.cat([pipeline.vae.decode(part, num_frames=len(part)).sample for part in parts])
            yield _near(f"{name}/{key}", decoded.transpose(0, 1)[..., ::6, ::6], golden[key])
    frames = decode_frames(pipeline.vae, latents * pipeline.vae.config.scaling_factor, len(latents))
    yield compare_frames(f"{name}/decoded_uint8", frames, golden["decoded_uint8"])


def _check_dift(pipeline: DragAnythingPipeline, name: str, golden: dict[str, Array]) -> Iterator[Check]:
    encoder = pipeline.entity_encoder
    pixels = _pixels(golden["image"]) * 2 - 1
    posterior = encoder.vae.encode(pixels).latent_dist
    yield _near(f"{name}/vae_mean", posterior.mean, golden["vae_mean"])
    yield _near(f"{name}/vae_std", posterior.std, golden["vae_std"])
    yield compare(f"{name}/alphas_cumprod_261", alpha_bar(), golden["alphas_cumprod_261"], CALL_TOLERANCE)
    features = encoder(pixels, torch.from_numpy(golden["vae_noise"]), torch.from_numpy(golden["noise"]))
    yield _near(f"{name}/feature", features[None], golden["feature"])


def _check_controlnet_unet(pipeline: DragAnythingPipeline, name: str, golden: dict[str, Array]) -> Iterator[Check]:
    unet, controlnet = pipeline.unet, pipeline.controlnet
    tensor = {key: torch.from_numpy(value) for key, value in golden.items()}
    heat, labels, table = (tensor[key] for key in ("gaussian", "label_map", "pooled_features"))
    embedding = controlnet.controlnet_cond_embedding
    condition = embedding(heat, labels, table)
    yield _near(f"{name}/cond_embedding", condition, golden["cond_embedding"])
    heat_only = embedding(heat, labels, torch.zeros_like(table))
    yield _near(f"{name}/cond_embedding_gaussian_only", heat_only, golden["cond_embedding_gaussian_only"])

    inputs = [tensor[key] for key in ("sample", "timestep", "encoder_hidden_states", "added_time_ids")]
    down, mid = controlnet(*inputs, condition)
    for i, residual in enumerate(down):
        yield _near(f"{name}/down{i:02d}_fix", residual, golden[f"down{i:02d}_fix"])
    yield _near(f"{name}/mid_fix", mid, golden["mid_fix"])
    yield _near(f"{name}/unet_fix", unet(*inputs, (down, mid)), golden["unet_fix"])
    yield _near(f"{name}/unet_fix_no_residual", unet(*inputs), golden["unet_fix_no_residual"])
    halved = unet(*inputs, controlnet(*inputs, condition, scale=0.5))
    yield _near(f"{name}/unet_fix_scale0.5", halved, golden["unet_fix_scale0.5"])
    repeats = unet.residual_repeats
    try:
        unet.residual_repeats = (1,) * len(repeats)
        single = unet(*inputs, (down, mid))
    finally:
        unet.residual_repeats = repeats
    yield _near(f"{name}/unet_fix_single_addition", single, golden["unet_fix_single_addition"])


def _check_case(pipeline: DragAnythingPipeline, name: str, folder: Path) -> Iterator[Check]:
    meta, golden = read_json(folder / "meta.json"), read_arrays(folder / "golden.npz")
    low, high = meta["guidance"]
    settings = {
        "num_inference_steps": meta["num_inference_steps"],
        "min_guidance_scale": low,
        "max_guidance_scale": high,
        "control_scale": meta["controlnet_cond_scale"],
    }
    with _recording(pipeline) as seen:
        conditions = _condition(pipeline, folder, meta, golden, "vector")
        yield from _check_conditions(name, pipeline, conditions, seen, golden)
        latents = pipeline.denoise(conditions, **settings)
        yield from _check_first_step(name, seen, golden)
    sigmas, timesteps = sampler.noise_levels(pipeline.scheduler_config, meta["num_inference_steps"])
    yield _near(f"{name}/sigmas", sigmas, golden["sigmas"])
    yield _near(f"{name}/timesteps", timesteps, golden["timesteps"])
    weights = torch.linspace(low, high, meta["num_frames"])
    yield _near(f"{name}/guidance_scale", weights, golden["guidance_scale"])
    yield _near(f"{name}/latents_D", latents, golden["latents_D"], LOOP_TOLERANCE)
    if "frames_D" in golden:
        frames = pipeline.decode(latents, meta["decode_chunk_size"])
        yield compare_frames(f"{name}/frames_D", frames, golden["frames_D"])

    conditions = _condition(pipeline, folder, meta, golden, "scalar")
    ends = conditions.control[[0, -1]]
    yield _near(f"{name}/cond_embedding", ends, golden["cond_embedding"])
    yield _near(f"{name}/latents_B", pipeline.denoise(conditions, **settings), golden["latents_B"], LOOP_TOLERANCE)


def _condition(
    pipeline: DragAnythingPipeline, folder: Path, meta: Any, golden: dict[str, Array], entity_map: str
) -> Conditions:
    image, entities = load_demo(folder / "input")
    frames = meta["num_frames"]
    fps, bucket, strength = meta["added_time_ids_used"]  # not what the caller passed: the reference ignores it
    return pipeline.condition(
        image,
        [replace(entity, points=entity.points[:frames]) for entity in entities],
        num_frames=frames,
        height=meta["height"],
        width=meta["width"],
        fps=fps + 1,
        motion_bucket_id=bucket,
        noise_aug_strength=strength,
        entity_map=entity_map,
        entity_vae_noise=torch.from_numpy(golden["dift_vae_noise"]),
        entity_noise=torch.from_numpy(golden["dift_noise"]),
        image_noise=torch.from_numpy(golden["noise_aug_noise"]),
        latents=torch.from_numpy(golden["initial_noise"]),
    )


def _check_conditions(
    name: str, pipeline: DragAnythingPipeline, found: Conditions, seen: dict[str, Any], golden: dict[str, Array]
) -> Iterator[Check]:
    yield _near(f"{name}/prompt_embeds", pipeline.entity_encoder.prompt_embeds, golden["prompt_embeds"])
    yield _near(f"{name}/vae_input_slice", seen["vae"][0][..., ::8, ::8], golden["vae_input_slice"])
    yield _near(f"{name}/clip_pixels_slice", seen["clip"][0][..., ::14, ::14], golden["clip_pixels_slice"])
    yield _near(f"{name}/image_embeds", found.context[0], golden["image_embeds"])
    yield _near(f"{name}/image_latents", found.image_latents, golden["image_latents"])
    yield _near(f"{name}/dift_mean_feature_slice", seen["entity"][1][::20], golden["dift_mean_feature_slice"])
    yield _near(f"{name}/entity_features", found.entity_features, golden["entity_features"])
    pooled = tabulate(found.entity_features, "vector")
    yield _near(f"{name}/entity_features_pooled", pooled, golden["entity_features_pooled"])
    both = found.added_time_ids.expand(2, -1)
    yield _near(f"{name}/added_time_ids", both, golden["added_time_ids"])


def _check_first_step(name: str, seen: dict[str, Any], golden: dict[str, Array]) -> Iterator[Check]:
    sample, prediction = seen["unet"]
    yield _near(f"{name}/model_input_step0", sample[:, [0, -1]], golden["model_input_step0"])
    yield _near(f"{name}/residual_mid_D", seen["controlnet"][1][1], golden["residual_mid_D"])
    yield _near(f"{name}/noise_pred_step0_D", prediction, golden["noise_pred_step0_D"])


@contextmanager
def _recording(pipeline: DragAnythingPipeline) -> Iterator[dict[str, Any]]:
    """Keep (first input, output) of the first call of each network."""
    seen: dict[str, Any] = {}

    def keep(key: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, inputs, output: seen.setdefault(key, (inputs[0], output)) and None

    watched = {
        "vae": pipeline.vae.encoder,
        "clip": pipeline.image_encoder,
        "entity": pipeline.entity_encoder,
        "controlnet": pipeline.controlnet,
        "unet": pipeline.unet,
    }
    handles = [module.register_forward_hook(keep(key)) for key, module in watched.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _pixels(image: Array) -> Tensor:
    """RGB picture uint8 [H, W, 3] as float32 [1, 3, H, W] in 0..1."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def _nearest(image: Array, height: int, width: int) -> Array:
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), image.shape, strict=False))
    resized: Array = image[rows[:, None], columns]
    return resized
