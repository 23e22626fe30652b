import subprocess
import sys

import pytest

import model


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, model, model.presets, model.hub; model.Entity; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_there_and_others_are_not() -> None:
    assert {"DragAnythingPipeline", "Entity"} <= set(model.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = model.Nonsense
