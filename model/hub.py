"""Weight files: which ones a component needs, and how they come from the hub or its cache. Imports no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from model.presets import Preset, find_preset

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
PROMPT = "prompt_embeds.safetensors"

# Per component the subfolders that hold weights, with the stem of their file names.
STEMS = {
    "svd": {"unet": DIFFUSERS, "vae": DIFFUSERS, "image_encoder": TRANSFORMERS},
    "controlnet": {"": DIFFUSERS},
    "segmenter": {"": TRANSFORMERS},
    "entity_encoder": {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS},
}
SMALL = ("config.json", "scheduler/*.json", "tokenizer/*", PROMPT)


class WeightsError(ValueError):
    """Weights are missing, refused, broken or do not fit each other. One line; it names the part."""


@dataclass(frozen=True)
class Choice:
    """The weight files of one part, and how diffusers and transformers are told to read them."""

    files: tuple[str, ...]  # index first where the weights are in shards
    variant: str | None
    safe: bool  # safetensors, not pickles


def choose(names: Iterable[str], stem: str, *, half: bool, allow_pickle: bool, part: str) -> Choice:
    """Pick the weights among the file names of one folder: safetensors before pickles, the wanted width first.

    half: prefer the 16-bit variant. Raises WeightsError if there are none, or only pickles that are not allowed.
    """
    present = set(names)
    variants = ("fp16", None) if half else (None, "fp16")
    pickle_stem = "pytorch_model" if stem == TRANSFORMERS else stem
    for kind, base in (("safetensors", stem), ("bin", pickle_stem)):
        for variant in variants:
            files = _files(present, base, kind, variant)
            if files and kind == "bin" and not allow_pickle:
                raise WeightsError(
                    f"{part}: the weights are pickles ({files[0]}), which can run code when they are read; "
                    "pass allow_pickle=True if you trust their source"
                )
            if files:
                return Choice(files, variant, kind == "safetensors")
    raise WeightsError(
        f"{part}: no weights; expected {stem}.safetensors among {_some(sorted(present)) or 'no files'}"
    )


def _files(present: set[str], stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    dotted = f".{variant}" if variant else ""
    if (single := f"{stem}{dotted}.{kind}") in present:
        return (single,)
    index = f"{stem}.{kind}.index{dotted}.json"
    shards = sorted(n for n in present if n.startswith(f"{stem}{dotted}-") and n.endswith(f".{kind}"))
    return (index, *shards) if index in present and shards else ()


def fetch(
    component: str, location: str, *, half: bool = True, allow_pickle: bool = False, local_files_only: bool = False
) -> Path:
    """The directory of a component: `location` itself if it is one, else the hub's snapshot, downloaded as needed.

    Only the chosen weight files are downloaded. Raises WeightsError, also where offline mode has no snapshot.
    """
    if Path(location).expanduser().is_dir():
        return Path(location).expanduser()
    if location.startswith((".", "/", "~")) or location.count("/") != 1:
        raise WeightsError(f"{component}: no directory {location}")
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if local_files_only or constants.HF_HUB_OFFLINE:
        try:
            return Path(snapshot_download(location, local_files_only=True))
        except LocalEntryNotFoundError:
            raise WeightsError(
                f"{component}: {location} is not in the local cache, and offline mode is on"
            ) from None
    try:
        names = HfApi().list_repo_files(location)
        patterns = wanted(component, names, half=half, allow_pickle=allow_pickle)
        return Path(snapshot_download(location, allow_patterns=patterns))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{component}: cannot fetch {location}: {reason}") from error


def wanted(component: str, names: Iterable[str], *, half: bool, allow_pickle: bool) -> list[str]:
    """The files of a repository that a component needs, out of all its names; small ones as patterns."""
    names = list(names)
    files = [*SMALL]
    for sub, stem in STEMS[component].items():
        prefix = f"{sub}/" if sub else ""
        inside = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
        if component == "entity_encoder" and not inside:
            continue  # its vae and text encoder are optional
        part = f"{component}/{sub}".rstrip("/")
        choice = choose(inside, stem, half=half, allow_pickle=allow_pickle, part=part)
        files += [prefix + file for file in ("config.json", *choice.files)]
    return files


def pull(
    name: str, *, accept: Callable[[str], bool], half: bool = True, allow_pickle: bool = False
) -> dict[str, Path]:
    """Download a preset (with the hub's progress bars) after `accept` was shown its licences and returned True.

    Returns the directory of each component. Raises WeightsError if the licences are declined or a download fails.
    """
    preset = find_preset(name)
    if not accept(licences(preset)):
        raise WeightsError(f"{name}: licences not accepted, nothing was downloaded")
    return {
        component: fetch(component, source.location, half=half, allow_pickle=allow_pickle)
        for component, source in preset.sources.items()
    }


def licences(preset: Preset) -> str:
    """What a preset consists of and under which terms, one component per line."""
    return "\n".join(f"{component}: {s.location}: {s.licence}" for component, s in preset.sources.items())


def list_files(folder: Path) -> list[str]:
    """File names directly inside a folder; none if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
