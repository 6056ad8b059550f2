"""Tests of what counts as one of the package's own commands."""

import sys
import types

import pytest

from leaf_audio.common import commands

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("program", "is_ours"),
    [
        ("/usr/bin/leaf-audio", True),
        ("leaf-audio.exe", True),
        ("leaf-audio.py", False),
        ("leaf_audio.py", False),
        ("train.py", False),
    ],
)
def test_scripts_of_users_import_everything(program, is_ours, monkeypatch):
    main = types.SimpleNamespace(__spec__=None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [program])
    assert commands.is_running() is is_ours


@pytest.mark.parametrize(
    ("module", "is_ours"),
    [
        ("example.main", True),
        ("leaf_audio.__main__", True),
        ("leaf_audio.app.main", True),
        ("example.my_own", False),
        ("leaf_audio.frontend", False),
    ],
)
def test_modules_of_users_import_everything(module, is_ours, monkeypatch):
    spec = types.SimpleNamespace(name=module)
    main = types.SimpleNamespace(__spec__=spec)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert commands.is_running() is is_ours
