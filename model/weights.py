"""Loading: that a model's parts are whole and fit each other, and what exactly was loaded.

Parts by component, in diffusers' layout:
svd             unet/ vae/ image_encoder/ scheduler/
controlnet      config.json and its weights
entity_encoder  unet/ vae/ text_encoder/ tokenizer/, or prompt_embeds.safetensors instead of the last two;
                without vae/ the video VAE's encoder is used
segmenter       config.json and its weights (SAM 2 as transformers stores it); optional
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection, Sam2Model
from transformers.utils import logging as transformers_logging

from model.blocks import lay_out
from model.controlnet import ControlNet
from model.entity import EntityEncoder
from model.hub import DIFFUSERS, PROMPT, TRANSFORMERS, WeightsError, choose, fetch, list_files
from model.pipeline import DragAnythingPipeline
from model.presets import PRESETS, ModelCard, Source, find_preset
from model.segmenter import Segmenter
from model.unet import UNet
from model.vae import VideoVAE

Location = str | os.PathLike[str]


def load(
    name: str | None = None,
    *,
    svd: Location | None = None,
    controlnet: Location | None = None,
    entity_encoder: Location | None = None,
    segmenter: Location | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    offload: bool = False,
    allow_pickle: bool = False,
    local_files_only: bool = False,
) -> DragAnythingPipeline:
    """Load a preset, or components from directories or hub ids; those given beside a name replace the preset's.

    device: CUDA where there is one, else the CPU. dtype: bfloat16 on CUDA, else float32; under float16, which a
    VAE overflows, VAEs stay in float32. offload: keep each network in host memory except while it works; one job
    at a time. allow_pickle: accept weights that exist as pickles only, which can run code. local_files_only:
    never go to the network (HF_HUB_OFFLINE=1 says the same). segmenter: a SAM 2, which no video needs. Raises
    WeightsError, in one line that names the part.
    """
    given = {"svd": svd, "controlnet": controlnet, "entity_encoder": entity_encoder}
    sources = {key: Source(os.fspath(value), "unknown") for key, value in given.items() if value is not None}
    if name is None and len(sources) < len(given):
        missing = ", ".join(key for key in given if key not in sources)
        raise WeightsError(f"give a preset ({', '.join(PRESETS)}), or all components; missing: {missing}")
    preset = find_preset(name or "draganything")
    sources = {**preset.sources, **sources}

    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    reader = _Reader(_dtype(dtype, target), allow_pickle)
    folders = {
        key: fetch(key, s.location, half=reader.half, allow_pickle=allow_pickle, local_files_only=local_files_only)
        for key, s in sources.items()
    }
    parts = _read(reader, folders)
    finder = None
    if segmenter is not None:
        options = {"half": reader.half, "allow_pickle": allow_pickle, "local_files_only": local_files_only}
        folder = fetch("segmenter", os.fspath(segmenter), **options)
        network = reader.network(Sam2Model, "segmenter", folder, stem=TRANSFORMERS, dtype=torch.float32)
        finder = Segmenter(network, target)
    scheduler_config = _json(folders["svd"] / "scheduler" / "scheduler_config.json", "svd/scheduler")
    check_fit(**parts)
    for part in parts.values():
        lay_out(part)
    parameters = {id(p): p.numel() for part in parts.values() for p in part.parameters()}
    card = ModelCard(
        name=name or "custom",
        defaults=preset.defaults,
        licences={key: source.licence for key, source in sources.items()},
        weights_sha256={**reader.hashes, "combined": _combine(reader.hashes)},
        parameters=sum(parameters.values()),
        dtype=str(reader.dtype).removeprefix("torch."),
        device=str(target),
    )
    return DragAnythingPipeline(
        **parts,
        scheduler_config=scheduler_config,
        card=card,
        device=target,
        offload=offload,
        segmenter=finder,
    )


def _read(reader: "_Reader", folders: dict[str, Path]) -> dict[str, Any]:
    svd, drag, entity = folders["svd"], folders["controlnet"], folders["entity_encoder"]
    own_vae = (entity / "vae").is_dir()
    with tqdm(total=6 if own_vae else 5, desc="loading", unit="network", disable=None, leave=False) as bar:

        def network(cls: Any, component: str, folder: Path, sub: str = "", **options: Any) -> Any:
            module = reader.network(cls, component, folder, sub, **options)
            bar.update()
            return module

        vae_dtype = torch.float32 if reader.dtype == torch.float16 else reader.dtype
        unet = network(UNet, "svd", svd, "unet")
        vae = network(VideoVAE, "svd", svd, "vae", dtype=vae_dtype)
        image_encoder = network(CLIPVisionModelWithProjection, "svd", svd, "image_encoder", stem=TRANSFORMERS)
        controlnet = network(ControlNet, "controlnet", drag)
        entity_vae = network(AutoencoderKL, "entity_encoder", entity, "vae", dtype=vae_dtype) if own_vae else vae
        entity_unet = network(UNet2DConditionModel, "entity_encoder", entity, "unet")
    prompt = reader.prompt(entity)
    return {
        "unet": unet,
        "controlnet": controlnet,
        "vae": vae,
        "image_encoder": image_encoder,
        "entity_encoder": EntityEncoder(entity_vae, entity_unet, prompt),
    }


class _Reader:
    """Reads networks in one dtype and keeps the hashes of what it read."""

    def __init__(self, dtype: torch.dtype, allow_pickle: bool) -> None:
        self.dtype = dtype
        self.half = dtype != torch.float32
        self.allow_pickle = allow_pickle
        self.hashes: dict[str, str] = {}

    def network(
        self,
        cls: Any,
        component: str,
        folder: Path,
        sub: str = "",
        *,
        stem: str = DIFFUSERS,
        dtype: torch.dtype | None = None,
    ) -> Any:
        part, place, dtype = f"{component}/{sub}".rstrip("/"), folder / sub, dtype or self.dtype
        config = _json(place / "config.json", part)
        choice = choose(list_files(place), stem, half=self.half, allow_pickle=self.allow_pickle, part=part)
        kind = "dtype" if stem == TRANSFORMERS else "torch_dtype"
        options = {
            kind: dtype,
            "variant": choice.variant,
            "use_safetensors": choice.safe,
            "local_files_only": True,
        }
        try:
            with _quiet():
                module, info = cls.from_pretrained(str(place), output_loading_info=True, **options)
        except Exception as error:  # what the libraries raise for a broken file is not documented
            raise WeightsError(f"{part}: cannot load {place}: {_first_line(error)}") from error
        _demand_complete(info, part, place, config)
        self.hashes[part] = _hash_files(place / file for file in choice.files)
        return module

    def prompt(self, folder: Path) -> Tensor:
        """Text embedding of the empty prompt, float32 [1, T, D]: stored, or computed from the text encoder."""
        if (stored := folder / PROMPT).exists():
            self.hashes["entity_encoder/prompt"] = _hash_files([stored])
            return load_file(stored)["prompt_embeds"].float()
        encoder = self.network(
            CLIPTextModel, "entity_encoder", folder, "text_encoder", stem=TRANSFORMERS, dtype=torch.float32
        )
        try:
            tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        except Exception as error:  # as above
            raise WeightsError(f"entity_encoder/tokenizer: cannot load it: {_first_line(error)}") from error
        length = encoder.config.max_position_embeddings
        tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            embeds: Tensor = encoder(tokens.input_ids).last_hidden_state
        return embeds


def check_fit(unet: Any, controlnet: Any, vae: Any, image_encoder: Any, entity_encoder: EntityEncoder) -> None:
    """Raise WeightsError, naming the part and both sizes, where two parts of a model do not belong together."""
    u, c, e = unet.config, controlnet.config, entity_encoder.unet.config
    latent, tokens = vae.config.latent_channels, image_encoder.config.projection_dim
    halvings = len(vae.config.block_out_channels) - 1
    table = c.entity_embedding_channels[0]
    pairs = [
        ("svd/unet", "in_channels", u.in_channels, "twice the VAE's latent channels", 2 * latent),
        ("svd/unet", "out_channels", u.out_channels, "the VAE's latent channels", latent),
        ("svd/unet", "cross_attention_dim", u.cross_attention_dim, "the image encoder's projection_dim", tokens),
        ("svd/vae", "reduction", 2**halvings, "the one that conditions are made for", 8),
        (
            "entity_encoder/unet",
            "first width",
            e.block_out_channels[0],
            "twice the ControlNet's entity width",
            2 * table,
        ),
        (
            "entity_encoder/unet",
            "in_channels",
            e.in_channels,
            "its VAE's latent channels",
            entity_encoder.vae.config.latent_channels,
        ),
        (
            "entity_encoder/unet",
            "cross_attention_dim",
            e.cross_attention_dim,
            "the width of its text embedding",
            entity_encoder.prompt_embeds.shape[-1],
        ),
    ]
    shared = (
        "in_channels",
        "cross_attention_dim",
        "layers_per_block",
        "addition_time_embed_dim",
        "down_block_types",
    )
    pairs += [("controlnet", key, c[key], "the UNet's", u[key]) for key in (*shared, "block_out_channels")]
    for part, what, ours, other, theirs in pairs:
        if _plain(ours) != _plain(theirs):
            raise WeightsError(f"{part}: {what} is {_plain(ours)}, but {other} is {_plain(theirs)}")


def save(pipeline: DragAnythingPipeline, directory: Location, dtype: torch.dtype) -> None:
    """Write a pipeline in the layout above: `directory` is svd, controlnet/ and entity_encoder/ lie in it."""
    root, entity = Path(directory), pipeline.entity_encoder
    places: dict[str, tuple[Any, str]] = {
        "unet": (pipeline.unet, DIFFUSERS),
        "vae": (pipeline.vae, DIFFUSERS),
        "image_encoder": (pipeline.image_encoder, TRANSFORMERS),
        "controlnet": (pipeline.controlnet, DIFFUSERS),
        "entity_encoder/unet": (entity.unet, DIFFUSERS),
    }
    if entity.vae is not pipeline.vae:
        places["entity_encoder/vae"] = (entity.vae, DIFFUSERS)
    for place, (module, stem) in places.items():
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        module.config.save_pretrained(folder) if stem == TRANSFORMERS else module.save_config(folder)
        state = {key: value.to("cpu", dtype).contiguous() for key, value in module.state_dict().items()}
        save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})
    save_file({"prompt_embeds": entity.prompt_embeds.to("cpu", dtype)}, root / "entity_encoder" / PROMPT)
    (root / "scheduler").mkdir(exist_ok=True)
    (root / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(pipeline.scheduler_config, indent=2) + "\n"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' pages about tensors that do not match to themselves: the error says it in a line."""
    libraries: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    bar = transformers_logging.is_progress_bar_enabled()
    try:
        for library in libraries:
            library.set_verbosity_error()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _demand_complete(info: dict[str, Any], part: str, place: Path, config: dict[str, Any]) -> None:
    faults = {
        key: sorted(map(str, info.get(f"{key}_keys") or ())) for key in ("missing", "unexpected", "mismatched")
    }
    if any(faults.values()):
        holds = config.get("_class_name") or ", ".join(config.get("architectures") or ["a network"])
        said = "; ".join(f"{len(keys)} {kind} tensors such as {keys[0]}" for kind, keys in faults.items() if keys)
        raise WeightsError(f"{part}: {place} holds {holds}, which does not fit: {said}")


def _json(path: Path, part: str) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{part}: {path} does not exist; is this the directory of {part}?") from None
    except ValueError as error:
        raise WeightsError(f"{part}: {path} is not JSON: {error}") from None
    return loaded


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype is float32, float16 or bfloat16, not {dtype}")
    return found


def _hash_files(paths: Any) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _combine(hashes: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{key}:{hashes[key]}\n" for key in sorted(hashes)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
