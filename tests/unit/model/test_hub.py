from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from model.hub import DIFFUSERS, TRANSFORMERS, Choice, WeightsError, choose, fetch, pull, wanted

SVD = [
    "README.md",
    "svd.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "image_encoder/config.json",
    "image_encoder/model.fp16.safetensors",
    "image_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
]


def test_safetensors_come_before_pickles_and_the_wanted_width_first() -> None:
    names = [f"{DIFFUSERS}.fp16.bin", f"{DIFFUSERS}.safetensors", f"{DIFFUSERS}.fp16.safetensors"]
    pick = {
        half: choose(names, DIFFUSERS, half=half, allow_pickle=True, part="svd/unet") for half in (True, False)
    }
    assert pick[True] == Choice((f"{DIFFUSERS}.fp16.safetensors",), "fp16", True)
    assert pick[False] == Choice((f"{DIFFUSERS}.safetensors",), None, True)


def test_any_safetensors_is_better_than_a_pickle_of_the_wanted_width() -> None:
    names = [f"{DIFFUSERS}.fp16.bin", f"{DIFFUSERS}.safetensors"]
    assert choose(names, DIFFUSERS, half=True, allow_pickle=True, part="x").safe


def test_shards_come_with_their_index() -> None:
    shards = [f"{DIFFUSERS}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = f"{DIFFUSERS}.safetensors.index.json"
    found = choose([*reversed(shards), index], DIFFUSERS, half=True, allow_pickle=False, part="x")
    assert found.files == (index, *shards)


def test_pickles_must_be_asked_for() -> None:
    with pytest.raises(WeightsError, match=r"^entity_encoder/text_encoder: .*allow_pickle=True"):
        choose(
            ["pytorch_model.bin"], TRANSFORMERS, half=True, allow_pickle=False, part="entity_encoder/text_encoder"
        )
    found = choose(["pytorch_model.bin"], TRANSFORMERS, half=True, allow_pickle=True, part="x")
    assert found == Choice(("pytorch_model.bin",), None, False)


def test_only_what_is_needed_is_downloaded() -> None:
    files = wanted("svd", SVD, half=True, allow_pickle=False)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in files
    assert "unet/diffusion_pytorch_model.safetensors" not in files
    assert "svd.safetensors" not in files
    assert sum(name.endswith(".safetensors") and "model" in name for name in files) == 3


def test_a_repository_without_a_part_names_it() -> None:
    with pytest.raises(WeightsError, match=r"^svd/vae: no weights"):
        wanted("svd", [name for name in SVD if not name.startswith("vae/")], half=True, allow_pickle=False)


def test_offline_mode_never_asks_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def snapshot(_repo: str, **options: Any) -> str:
        asked.append(options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "HfApi", _unreachable)
    assert fetch("svd", "someone/something", local_files_only=True) == tmp_path
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch("svd", "someone/something") == tmp_path
    assert asked == [{"local_files_only": True}] * 2


def test_offline_mode_without_a_copy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(_repo: str, **_options: Any) -> str:
        raise LocalEntryNotFoundError("nothing")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(WeightsError, match=r"^controlnet: someone/something is not in the local cache"):
        fetch("controlnet", "someone/something", local_files_only=True)


@pytest.mark.parametrize("location", ["/nowhere/at/all", "./nowhere", "plain"])
def test_a_path_is_never_taken_for_a_hub_id(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", _unreachable)
    with pytest.raises(WeightsError, match=r"^svd: no directory"):
        fetch("svd", location)


def test_a_network_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def list_repo_files(self, _repo: str) -> list[str]:
            raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(WeightsError, match=r"^svd: cannot fetch someone/something: no route$"):
        fetch("svd", "someone/something")


def test_pull_shows_the_licences_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[str] = []
    fetched: list[str] = []

    def decline(text: str) -> bool:
        shown.append(text)
        return False

    def remember(_component: str, place: str, **_options: Any) -> Path:
        fetched.append(place)
        return tmp_path

    monkeypatch.setattr("model.hub.fetch", remember)
    with pytest.raises(WeightsError, match="licences not accepted"):
        pull("draganything", accept=decline)
    assert not fetched
    assert "Stability AI Community License" in shown[0]
    found = pull("draganything", accept=lambda _text: True)
    assert set(found) == {"svd", "controlnet", "entity_encoder"}
    assert "weijiawu/DragAnything" in fetched


def _unreachable() -> None:
    raise AssertionError("the network was asked")
