"""The smallest model and run that have everything: 64 x 64 pixels, three frames, few channels."""

from pathlib import Path
from typing import Any

import torch
import yaml

from training.config import Synthetic
from training.data.synthetic import SyntheticSource

WIDTHS = [32, 32]  # diffusers asks for multiples of 32
TRUNK = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": WIDTHS,
    "num_attention_heads": [1, 1],
    "cross_attention_dim": 8,
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 12,
    "norm_num_groups": 4,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "vae": {"block_out_channels": [32, 32, 32, 32], "latent_channels": 4, "norm_num_groups": 1},
    "unet": TRUNK,
    "controlnet": {
        **TRUNK,
        "conditioning_embedding_out_channels": [4, 4, 4, 8],
        "entity_embedding_channels": [4, 4, 4, 8],
    },
    "entity_encoder/unet": {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 8],
        "cross_attention_dim": 4,
        "norm_num_groups": 4,
    },
    "image_encoder": {"hidden_size": 8, "intermediate_size": 8, "projection_dim": 8, "num_hidden_layers": 1},
}
STAGE: dict[str, Any] = {"batch": 2, "lr": 1e-3, "warmup": 2}
VIDEO: dict[str, Any] = {
    **STAGE,
    "kind": "video",
    "frames": 3,
    "train": ["unet", "controlnet", "image_encoder"],
    "loss_mask": "weighted",
    "control_dropout": 0.1,
    "image_dropout": 0.1,
    "ensemble": 1,
}


def config(out: Path, *, vae: int = 2, entity: int = 2, video: int = 4, **changes: Any) -> dict[str, Any]:
    """A config with so many steps of each stage; 0 leaves the stage out."""
    stages = [
        {**STAGE, "kind": "vae", "steps": vae, "clip_frames": 2, "linear_start": 2},
        {**STAGE, "kind": "entity", "steps": entity},
        {**VIDEO, "steps": video},
    ]
    return {
        "seed": 5,
        "out": str(out),
        "networks": {"scratch": True, "overrides": OVERRIDES},
        "data": {"kind": "synthetic", "sizes": [[64, 64]], "max_entities": 2, "entities": [1.0, 1.0]},
        "stages": [stage for stage in stages if stage["steps"]],
        "checkpoint_minutes": 60,
        "log_every": 1,
        "samples": {"every": 1000, "count": 1, "steps": 2, "frames": 3},
        **changes,
    }


def source() -> SyntheticSource:
    """The clips of such a run."""
    data = Synthetic.model_validate(config(Path())["data"])
    return SyntheticSource(data, 1, torch.device("cpu"))


def write(path: Path, content: dict[str, Any]) -> Path:
    """Write a config file."""
    path.write_text(yaml.safe_dump(content))
    return path
