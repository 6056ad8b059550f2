"""What `import leaf_audio` imports, in scripts and in commands."""

import importlib.machinery
import sys
import types

import pytest
from tones import python

from leaf_audio.common import commands

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "module, running",
    [
        ("example.main", True),
        ("leaf_audio.app.main", True),
        ("pytest.__main__", False),
        ("leaf_audio_recipes.main", False),
    ],
)
def test_modules_of_the_package_are_commands(module, running, monkeypatch):
    main = types.ModuleType("__main__")
    main.__spec__ = importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert commands.is_running() is running


@pytest.mark.parametrize(
    "script, running",
    [
        ("/usr/bin/leaf-audio", True),
        ("leaf-audio.exe", True),
        ("train.py", False),
        ("", False),
    ],
)
def test_the_installed_script_is_a_command(script, running, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    monkeypatch.setattr(sys, "argv", [script])
    assert commands.is_running() is running


@pytest.mark.slow
def test_importing_the_package_imports_all_layers():
    python(
        "-c",
        "import sys, leaf_audio\n"
        "assert 'leaf_audio.models' in sys.modules\n"
        "assert 'leaf_audio.convolution.gabor' in sys.modules",
    )


IN_A_COMMAND = """
import sys
sys.argv = ["leaf-audio"]
import leaf_audio
"""


def test_a_command_imports_keras_later():
    python("-c", f"{IN_A_COMMAND}assert 'keras' not in sys.modules")


@pytest.mark.slow
def test_a_command_has_the_frontends_too():
    python("-c", f"{IN_A_COMMAND}assert leaf_audio.Leaf.__name__ == 'Leaf'")
