"""What is wrong on a command line is told before TensorFlow is imported."""

import json
import os
import re

import pytest
from tones import python

pytestmark = pytest.mark.any_backend

BOX = "--model=speech_commands"
# For each command a wrong use, and what is told of it. "RUN" stands for the
# folder of a run, "CUT" for that of a run that has not ended, "STUDY" for that
# of a study, and "DATA" for one of labelled recordings.
WRONG = {
    "predict": [
        ([BOX, "nothere.wav"], "left out: nothere.wav: No such file"),
        ([BOX, "--window=0", "DATA"], "`window` must be a positive number"),
        ([BOX, "--hop=inf", "DATA"], "`hop` must be a positive number"),
        (["--workdir=DATA", "DATA"], "a finished run.*without results.json"),
        (["--workdir=CUT", "DATA"], "since the run has not ended. It goes on"),
        (["--workdir=STUDY", "DATA"], "other runs, such as .*/STUDY/mel/0"),
        (["--model=nothere.keras", "DATA"], "`model` must be a .keras file"),
        ([BOX, "--gin_config=no.gin", "DATA"], "`gin_config` must name a file"),
        ([BOX, "--output=no/x.csv", "DATA"], "Make the folder no first"),
        ([BOX, "--output=/proc/x.csv", "DATA"], "can be written to.*/proc/x"),
        (["--workdir=RUN", "DATA"], "`workdir` must have labels"),
    ],
    "embed": [
        ([BOX, "--output=x.npz", "no.wav"], "left out: no.wav: No such file"),
        ([BOX, "--output=x.txt", "DATA"], "`output` must be .*ends in .npz"),
        (["--output=x.npz", "DATA"], "one of `workdir` and `model`"),
    ],
    "stream": [
        ([BOX, "nothere.wav"], "`recording` must be an audio file"),
        (["--workdir=nothere", "DATA/a/0.wav"], "nothere, no folder"),
    ],
    "export": [
        (
            [BOX, "--format=litert", "--output=x.onnx"],
            "`output` must end in .tflite",
        ),
        (
            [BOX, "--format=onnx", "--output=no/x.onnx"],
            "`output` must be a file in a folder that exists.*Make the folder",
        ),
        (
            [BOX, "--format=onnx", "--output=x.onnx", "--quantize=int8"],
            "`format` must be litert with `quantize`",
        ),
        (
            [BOX, "--format=savedmodel", "--output=DATA"],
            "`output` must be new, or what an export has written",
        ),
        (
            ["--workdir=nothere", "--format=keras", "--output=x.keras"],
            "`workdir` must hold a finished run",
        ),
    ],
    "report_page": [
        (["--workdir=DATA"], "`workdir` must hold a finished run"),
        (["--workdir=RUN", "--output=x.txt"], "`output` must be .*.html file"),
        (["--workdir=RUN", "--output=no/x.html"], "Make the folder no first"),
        (
            ["--workdir=RUN", "--gin_bindings=audio_folder.path = 'nothere'"],
            "`audio_folder.path` must be a folder",
        ),
    ],
    "plot": [
        (["--workdir=DATA"], "one completed epoch at least.*best.keras"),
        (["--workdir=RUN", "--recording=no.wav"], "`recording` must be an aud"),
        (["--workdir=RUN", "--output=DATA/a/0.wav"], "`output` must be a fol"),
    ],
    "classify_embeddings": [
        ([BOX, "--recordings=nothere"], "`recordings` must be a folder"),
        ([BOX, "--recordings=DATA/a"], "`recordings` must hold audio files in"),
        ([BOX, "--recordings=DATA", "--fraction=2"], "`fraction` must be"),
        ([BOX, "--recordings=DATA", "no.wav"], "left out: no.wav: No such"),
    ],
    "main": [
        (["--gin_config=nothere.gin"], "`gin_config` must name a file"),
        (["--gin_bindings=a.b = c"], "Received: a.b = c"),
        (
            ["--gin_bindings=audio_folder.path = 'nothere'"],
            "`audio_folder.path` must be a folder",
        ),
        (["--mode=eval", "--workdir=nothere"], "one completed epoch at least"),
        (
            ["--gin_config=quickstart.gin", "--workdir=DATA/a/0.wav"],
            "`workdir` must be a folder",
        ),
        (
            ["--gin_config=quickstart.gin", "--workdir=DATA/a/0.wav/run"],
            "a/0.wav is a file",
        ),
    ],
    "study": [(["--gin_config=nothere.gin"], "`gin_config` must name a file")],
}


# Runs a command with each of several lists of arguments, in processes of their
# own. Prints how each ended, what it told, and which backends it has imported.
CODE = """
import importlib, json, os, sys, tempfile

wrong = json.loads(sys.argv[2])
name = sys.argv[1]
# By this name, the package does not import the backend at once.
sys.argv = ["leaf-audio"]
command = importlib.import_module(f"leaf_audio.app.{name}")
found = []
for arguments in wrong:
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if not child:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
            sys.argv = [f"leaf-audio {name}", *arguments]
            try:
                command.run()
            finally:
                heavy = {"keras", "tensorflow"}.intersection(sys.modules)
                print("imported:", *heavy)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told.seek(0)
        found.append([code, told.read()])
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_before_the_backend_is_imported(tmp_path, name):
    for file in (
        *("DATA/a/0.wav", "DATA/b/0.wav", "RUN/best.keras"),
        *("CUT/best.keras", "CUT/state.npz", "STUDY/mel/0/best.keras"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    results = {"data": {"name": "audio_folder", "labels": []}}
    (tmp_path / "RUN" / "results.json").write_text(json.dumps(results))
    before = sorted(tmp_path.rglob("*"))
    arguments = [
        [
            re.sub("DATA|RUN|CUT|STUDY", rf"{tmp_path}/\g<0>", one)
            for one in some
        ]
        for some, _ in WRONG[name]
    ]
    done = python("-c", CODE, name, json.dumps(arguments))
    found = json.loads(done.stdout)
    for (code, told), (some, message) in zip(found, WRONG[name], strict=True):
        assert code == 1, (some, told)
        assert re.search(message, told), (some, told)
        assert "imported:\n" in told, (some, told)
        assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before
