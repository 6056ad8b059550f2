"""Errors name the scope, the file or the macros that are to be changed."""

import gin
import pytest
from tones import python

# Importing `train` registers everything that a config may name.
from leaf_audio.app import configuration, recorded, train  # noqa: F401
from leaf_audio.training import Workdir

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]


@gin.configurable(module="notebook")
def thing(value=1, inner=None):
    if isinstance(value, int):
        raise ValueError(inner or f"`value` must be a text. Received: {value}.")


@pytest.mark.parametrize(
    "raised, told",
    [
        (None, "`s/t/thing.value` must be a text. Received: 3."),
        (
            "`value` must be set, as by thing.value = 'a', no.thing.x. "
            "Received: value='thing.zip'.",
            "`s/t/thing.value` must be set, as by s/t/thing.value = 'a', "
            "no.thing.x. Received: value='thing.zip'.",
        ),
        ("`thing.value` must be a text.", "`s/t/thing.value` must be a text."),
        (
            "`others` must be a text.",
            "`others` must be a text. (In s/t/thing.)",
        ),
        ("too few.\nMore:", "too few.\nMore: (In s/t/thing.)"),
    ],
)
def test_an_error_in_a_scope_names_the_scope(raised, told):
    configuration.parse(
        [], ["s/t/thing.value = 3", f"s/t/thing.inner = {raised!r}"]
    )
    with gin.config_scope("s"), gin.config_scope("t"):
        with pytest.raises(ValueError) as error:
            thing()
    assert configuration.message(error.value) == told
    with pytest.raises(ValueError) as error:
        thing(3, raised)
    assert configuration.message(error.value) == told.replace("s/t/", "")


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content, told",
    [
        (b"\n# \xe9t\xe9\n", "{} must be text in UTF-8. .*byte 0xe9 in line 2"),
        (
            b"ConvNet:\n    kernel_size = 3\n  strides = 1\n",
            "unindent .* in line 3 of {}\n",
        ),
        (b"ConvNet.filters = [3\n", ", in {}: something is opened and never"),
        (b"ConvNet.filters = '''3\n", ", in {}: something is opened and never"),
    ],
)
@pytest.mark.parametrize("is_included", [False, True])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path, content, told, is_included
):
    wrong = given = write(tmp_path / "wrong.gin", content)
    if is_included:
        given = write(tmp_path / "outer.gin", b"include '%b'\n" % bytes(wrong))
    with pytest.raises(ValueError, match=told.format(wrong)) as error:
        configuration.parse([str(given)], [])
    assert "outer.gin" not in str(error.value)


def test_bindings_that_are_indented_are_shown():
    with pytest.raises(ValueError, match="unindent.* Received: a = 1") as error:
        configuration.parse([], ["ConvNet:\n    kernel_size = 3\n  a = 1\n"])
    assert "tokenize" not in str(error.value)


# Parses a config, and shows what it has bound.
PARSE = """
import sys
from leaf_audio.app import configuration
configuration.parse([sys.argv[1]], [])
print(ascii(configuration.bound()))
"""


def test_a_config_is_read_in_utf_8_whatever_the_system_uses(tmp_path):
    """Also with the byte order mark that Windows writes."""
    inner = "\ufeffa = '\xe9'\r\nb = 2\r\n"
    write(tmp_path / "inner.gin", inner.encode())
    text = f"\ufeffinclude '{tmp_path}/inner.gin'\nb = '\xe8'\n"
    outer = write(tmp_path / "outer.gin", text.encode())
    posix = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = python("-c", PARSE, str(outer), **posix).stdout
    assert told == ascii({"a": repr("\xe9"), "b": repr("\xe8")}) + "\n"


def test_gin_reads_files_as_before_after_a_config_was_parsed(tmp_path):
    before = list(gin.config._FILE_READERS)
    own = write(tmp_path / "own.gin", b"Leaf.n_filters = 3\n")
    configuration.parse([str(own)], [])
    with pytest.raises(ValueError, match="Leaf.*n_filter"):
        configuration.parse([str(own)], ["Leaf.n_filter = 1"])
    assert gin.config._FILE_READERS == before


CYCLES = {
    "a = %a": ["a = %a"],
    "a = [1, {'x': %b}]\nb = %c\nc = %b": ["b = %c", "c = %b"],
    "a = %b\nb = [%c, %d]\nc = 1\nd = %a": ["a = %b", "b = [%c, %d]", "d = %a"],
}


@pytest.mark.parametrize("text", CYCLES)
def test_macros_that_refer_to_themselves_are_named(tmp_path, text):
    with pytest.raises(ValueError) as error:
        configuration.parse([], [*text.splitlines(), "Leaf.n_filters = %a"])
    named = [f"{line} (gin_bindings)" for line in CYCLES[text]]
    assert str(error.value) == (
        f"`%{named[0][0]}` must not refer to itself. Received: "
        f"{', '.join(named)}."
    )
    # As an old run may hold it.
    (tmp_path / "config.gin").write_text(text)
    with pytest.raises(ValueError, match="must not refer to itself"):
        recorded.read(Workdir(tmp_path))


def test_a_macro_may_have_referred_to_itself_and_may_be_used_twice():
    configuration.parse([], ["a = %a", "a = 2", "b = [%a, %a]", "c = [%b, %a]"])
    assert configuration.bound()["c"] == "[[2, 2], 2]"


@pytest.mark.parametrize(
    "line, meant",
    [
        ("Study.seed = [0]", "seeds"),
        ("Mel.n_filters = 3", "MelFilterbanks"),
        ("Leaf.n_filter = 3", "n_filters"),
    ],
)
def test_what_was_probably_meant_is_told(line, meant):
    with pytest.raises(ValueError) as error:
        configuration.parse([], [line])
    assert f"Did you mean {meant}" in configuration.message(error.value)
