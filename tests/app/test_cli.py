"""The command leaf-audio and its subcommands."""

import sys
import types

import pytest
from tones import python

import leaf_audio
from leaf_audio.app import cli

pytestmark = pytest.mark.any_backend


def test_help_lists_the_commands_without_importing_keras():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['leaf-audio', '--help']\n"
        "from leaf_audio.app import cli\n"
        "cli.run()\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    # As the script leaf-audio does, whose name Python has in sys.argv.
    code = "import sys; sys.argv = ['leaf-audio']\n" + code
    printed = python("-c", code).stdout
    for name in cli.COMMANDS:
        assert f"\n  {name} " in printed


def test_the_package_is_a_command():
    assert python("-m", "leaf_audio", "--help").stdout == cli.usage() + "\n"


def test_the_version_is_printed():
    printed = python("-m", "leaf_audio", "--version").stdout
    assert printed == f"{leaf_audio.__version__}\n"
    assert "leaf-audio --version" in cli.usage()


@pytest.mark.parametrize("name", ["prepare", "predict"])
def test_a_command_explains_itself_without_importing_keras(name):
    code = (
        f"import sys; sys.argv = ['leaf-audio', '{name}', '--help']\n"
        "from leaf_audio.app import cli\n"
        "cli.run()\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    printed = python("-c", code).stdout
    assert "--workdir" in printed and printed[0].isupper()


def test_an_unknown_command_is_named():
    with pytest.raises(SystemExit, match="Received: tran"):
        cli.run(["tran"])


@pytest.mark.parametrize(
    "name, flags", [("train", []), ("eval", ["--mode=eval"]), ("plot", [])]
)
def test_a_command_gets_its_flags(monkeypatch, name, flags):
    seen = []
    module = types.SimpleNamespace(run=lambda: seen.extend(sys.argv))
    monkeypatch.setitem(sys.modules, cli.COMMANDS[name][0], module)
    monkeypatch.setattr(sys, "argv", ["leaf-audio"])
    cli.run([name, "--workdir=runs/one"])
    assert seen == [f"leaf-audio {name}", *flags, "--workdir=runs/one"]


def test_a_config_may_import_modules_of_the_current_folder(tmp_path):
    (tmp_path / "my_own.py").write_text("print('imported')")
    # It takes the place of no module of Python.
    (tmp_path / "wave.py").write_text("raise RuntimeError")
    (tmp_path / "my_own.gin").write_text("import my_own\nimport wave\n")
    code = (
        f"import os; os.chdir({str(tmp_path)!r})\n"
        "import sys; sys.argv = ['leaf-audio']; sys.path.remove('')\n"
        "from leaf_audio.app import cli\n"
        "cli.run(['train', '--gin_config=my_own.gin'])\n"
    )
    done = python("-c", code, check=False)
    assert "imported" in done.stdout
    assert "`workdir` must be given" in done.stderr
