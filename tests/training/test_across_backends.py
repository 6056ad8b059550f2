"""A run of each backend is read on every other one.

The night's tests on PyTorch find all three backends installed.
"""

import importlib.util
import json

import numpy as np
import pytest
from tones import bindings, main_flags, python, write_tones

BACKENDS = [
    name
    for name in ("tensorflow", "jax", "torch")
    if importlib.util.find_spec(name) is not None
]

# Evaluates each run, and predicts with it.
READ = """
import glob, json, sys

from leaf_audio.app import predict, run

recording, out, *workdirs = sys.argv[1:]
found = {}
for workdir in workdirs:
    run.evaluate([], [f"train.workdir = {workdir!r}"])
    (path,) = glob.glob(f"{workdir}/evaluations/*/evaluation.json")
    with open(path) as file:
        metrics = json.load(file)["metrics"]["test"]
    shares = predict.predict(workdir, [recording])[recording]
    found[workdir] = [*metrics.values(), *shares.values()]
with open(out, "w") as file:
    json.dump(found, file)
"""


@pytest.mark.skipif(len(BACKENDS) < 2, reason="needs JAX or PyTorch")
@pytest.mark.slow
def test_what_one_backend_has_trained_the_others_read(tmp_path):
    write_tones(tmp_path / "tones")
    recording = str(next((tmp_path / "tones" / "test" / "low").iterdir()))
    settings = bindings(
        tmp_path,
        "train.num_epochs = 1",
        "train.steps_per_epoch = 2",
        # PyTorch has an Adam of its own in Keras, which others cannot import.
        "train.optimizer = @Adam",
        # It learns, and JAX compiles it quickly.
        "MelFilterbanks.compression_fn = 'pcen'",
    )
    runs = {name: str(tmp_path / name) for name in BACKENDS}
    for name, workdir in runs.items():
        flags = [*main_flags(settings), f"--workdir={workdir}"]
        python("-m", "example.main", *flags, KERAS_BACKEND=name)
    read = {}
    for name in BACKENDS:
        out = tmp_path / f"{name}.json"
        arguments = [recording, str(out), *runs.values()]
        python("-c", READ, *arguments, KERAS_BACKEND=name)
        read[name] = json.loads(out.read_text())
    for trained, workdir in runs.items():
        results = json.loads((tmp_path / trained / "results.json").read_text())
        expected = read[trained][workdir]
        assert results["metrics"]["test"]["accuracy"] == expected[0]
        for name in BACKENDS:
            np.testing.assert_allclose(
                read[name][workdir], expected, rtol=2e-3, atol=1e-4
            )
