"""Processes make the batches that threads would make."""

import contextlib
import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from stored import prepare
from tones import (
    ROOT,
    bindings,
    main_flags,
    python,
    run_command,
    write_tones,
)

from leaf_audio import data


def noisy(samples, rng=None):
    if rng is None:
        return samples
    return samples + rng.normal(size=len(samples)).astype(np.float32)


def failing_elsewhere(samples):
    if multiprocessing.parent_process() is None:
        return samples
    raise ValueError("`failing` has failed.")


def start_endless_run(tmp_path, worker_processes):
    """Starts a run, and waits for the end of its first epoch."""
    write_tones(tmp_path / "tones")
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "example.main"),
            *main_flags(
                bindings(
                    tmp_path,
                    f"train.workdir = '{workdir}'",
                    "train.num_epochs = 100000",
                    f"data.prepare.worker_processes = {worker_processes}",
                )
            ),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not (workdir / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.1)
    return process


def test_the_batches_are_the_same(tmp_path):
    audio_data = prepare(tmp_path)

    def first(worker_processes):
        made = data.prepare(
            audio_data,
            [noisy, data.align],
            batch_size=4,
            mixup_alpha=0.5,
            balance=True,
            worker_processes=worker_processes,
        )
        return list(itertools.islice(made.train(3), 7))

    for one, other in zip(first(0), first(2), strict=True):
        for array, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_an_error_in_a_process_is_raised_here(tmp_path):
    audio_data = prepare(tmp_path)
    made = data.prepare(
        audio_data,
        [data.align, failing_elsewhere],
        batch_size=4,
        worker_processes=1,
    )
    with pytest.raises(ValueError, match="`failing` has failed"):
        next(iter(made.train()))


def test_a_program_that_parses_no_flags_may_have_processes(tmp_path):
    """Grain asked for one of its flags, where JAX is installed."""
    program = tmp_path / "own.py"
    program.write_text(
        "import sys\n"
        "from absl import flags\n"
        "from stored import prepare\n"
        "from leaf_audio import data\n"
        "if __name__ == '__main__':\n"
        "    made = data.prepare(\n"
        "        prepare(sys.argv[1]),\n"
        "        [data.align],\n"
        "        batch_size=4,\n"
        "        worker_processes=1,\n"
        "    )\n"
        "    print(len(next(iter(made.train()))[0]), flags.FLAGS.is_parsed())\n"
    )
    folders = f"{ROOT}:{pathlib.Path(__file__).parent}"
    process = python(str(program), str(tmp_path), PYTHONPATH=folders)
    # The flags of others have not been parsed on the way.
    assert process.stdout.split() == ["4", "False"]


def test_processes_know_the_bindings_of_gin(tmp_path):
    write_tones(tmp_path / "tones")
    (tmp_path / "own.py").write_text(
        "import multiprocessing, pathlib\n"
        "import gin\n"
        "@gin.configurable\n"
        "def named(name='nobody'):\n"
        "    return name\n"
        "@gin.configurable\n"
        "def seen(samples, factor=0, other=None, rng=None):\n"
        "    name = f'factor {factor} {named()} {other()}'\n"
        "    if multiprocessing.parent_process() is not None:\n"
        "        pathlib.Path(__file__).with_name(name).touch()\n"
        "    return samples\n"
    )
    config = tmp_path / "own.gin"
    config.write_text(
        "import own\nown.seen.factor = 1\ntwice/own.seen.factor = 2\n"
        "own.named.name = 'me'\nown.seen.other = @you/own.named\n"
        "you/own.named.name = 'you'\n"
    )
    transforms = "[@own.seen, @twice/own.seen, @data.align]"
    process = python(
        *("-m", "example.main", f"--gin_config={config}"),
        *main_flags(
            bindings(
                tmp_path,
                f"train.workdir = '{tmp_path / 'run'}'",
                "train.num_epochs = 1",
                f"data.prepare.transform_fns = {transforms}",
                "data.prepare.worker_processes = 1",
            )
        ),
        PYTHONPATH=f"{tmp_path}:.",
    )
    # Nothing is left that ends with an error.
    assert "Exception" not in process.stderr
    seen = sorted(path.name for path in tmp_path.glob("factor *"))
    assert seen == ["factor 1 me you", "factor 2 me you"]


@pytest.mark.parametrize(
    "lines",
    [
        ("mine = [@data.align]", "data.prepare.transform_fns = %mine"),
        ("mine = @data.align", "data.prepare.transform_fns = [%mine]"),
    ],
)
def test_transforms_of_a_macro_are_refused(tmp_path, lines):
    write_tones(tmp_path / "tones")
    process = run_command(
        "train",
        *main_flags(
            bindings(
                tmp_path,
                f"train.workdir = '{tmp_path / 'run'}'",
                *lines,
                "data.prepare.worker_processes = 1",
            )
        ),
    )
    assert process.returncode == 1
    assert "nor hold a macro, with `worker_processes`" in process.stderr


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_ends_with_a_line_if_a_process_is_killed(tmp_path, count):
    """As the system does with the largest process, for want of memory."""
    process = start_endless_run(tmp_path, count)
    workers = children_of(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Traceback" not in output
    (line,) = (one for one in output.splitlines() if one.startswith("Error"))
    assert "`worker_processes` must live as long as the run" in line
    assert "exit code -9" in line


def children_of(parent):
    """Returns the processes that make batches, the newest last."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads the list of processes of Linux")
    found = []
    for one in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            status = (pathlib.Path("/proc") / str(one) / "stat").read_text()
            command = (pathlib.Path("/proc") / str(one) / "cmdline").read_text()
            # After the name, which may hold spaces, comes the state.
            own_parent = int(status.rpartition(")")[2].split()[1])
            if own_parent == parent and "spawn_main" in command:
                found.append(one)
    return sorted(found)


@pytest.mark.parametrize(
    "number, code, told",
    [
        (signal.SIGINT, 1, "ended by Ctrl-C"),
        # Threads alone are ended by it in `test_within_epoch.py`.
        pytest.param(
            *(signal.SIGTERM, 143, "all is saved"), marks=pytest.mark.slow
        ),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_processes_end_with_an_interrupted_run(tmp_path, number, code, told):
    process = start_endless_run(tmp_path, 1)
    if number == signal.SIGKILL:
        process.kill()
    else:
        # As Ctrl-C in a terminal and a job's end do, to all processes.
        os.killpg(process.pid, number)
    # The output ends when the last process that may write to it has ended.
    output, _ = process.communicate(timeout=100)
    assert process.returncode == code
    assert told in output and "Traceback" not in output
