"""``draganything models plan`` and ``pull``, as a user meets them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from local.models import commands

DECLINED = "licences not accepted, nothing was downloaded"


def test_the_plan_of_the_tiny_model_names_every_network() -> None:
    told = CliRunner().invoke(commands, ["plan", "tiny", "--frames", "2", "--width", "64", "--height", "64"])
    assert told.exit_code == 0, told.output
    for name in ("unet", "controlnet", "vae", "image_encoder", "entity_encoder", "64x64, 2 frames"):
        assert name in told.output


@pytest.mark.parametrize("command", ["plan", "pull"])
def test_an_unknown_model_is_a_usage_error_that_lists_the_known_ones(command: str) -> None:
    told = CliRunner().invoke(commands, [command, "huge"])
    assert told.exit_code == 2
    assert "tiny, draganything, draganything-xt" in told.stderr


def test_licences_are_shown_and_asked_for_before_anything_is_fetched() -> None:
    told = CliRunner().invoke(commands, ["pull", "draganything"], input="n\n")
    assert told.exit_code == 2
    assert told.stdout.index("Stability AI Community License") < told.stdout.index("Do you accept")
    assert DECLINED in " ".join(told.stderr.split())
