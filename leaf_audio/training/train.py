"""Trains an audio classifier, and evaluates the best model of a run."""

import concurrent.futures
import dataclasses
import importlib.metadata
import math
import numbers
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import gin
import keras
import numpy as np
import tensorflow as tf

import leaf_audio
from leaf_audio import data
from leaf_audio.app import configurables as external_configurables  # noqa: F401

# external_configurables registers what the configs name.
from leaf_audio.app import (
    configuration,  # noqa: F401
    report,  # noqa: F401
)
from leaf_audio.callbacks import LogFilters, Replan
from leaf_audio.diagnostics import learned_frontends
from leaf_audio.training import strategies  # noqa: F401
from leaf_audio.training.workdir import Progress, TensorBoardLog, Workdir

__all__ = ["TrainingStopped", "evaluate", "train"]

_SCHEDULES = ("constant", "cosine")
# What may change between a run and its continuation.
_FREE = ("train.workdir", "train.data_dir", "train.num_epochs")


class TrainingStopped(RuntimeError):
    """Training cannot go on in a useful way."""


@gin.configurable(module="train")
def train(
    workdir: str | None = None,
    dataset: str = "speech_commands",
    num_epochs: int = 10,
    steps_per_epoch: int | None = None,
    learning_rate: float = 1e-4,
    batch_size: int = 64,
    seed: int = 0,
    data_dir: str | None = None,
    strategy: str = "default",
    learning_rate_schedule: str = "constant",
    warmup_epochs: float = 0,
    optimizer: Callable | None = None,
    jit_compile: bool | str = "auto",
    dtype_policy: str | None = None,
) -> dict[str, Any]:
    """Trains, or goes on with training, and writes everything to `workdir`.

    The model is gin's AudioClassifier, the data is what `data.load` and
    `data.prepare` make of `dataset`. The loss is the cross-entropy of the
    logits. After each epoch the model is evaluated on the validation split (the
    test split where there is no other), and kept if it is the best so far: by
    accuracy, then by loss.

    Args:
        workdir: where the run is kept. A run that was interrupted goes on after
            its last completed epoch, as if it had not been.
        dataset: see `data.load`.
        num_epochs: may be raised to train on after the end of a run, unless
            the schedule depends on it.
        steps_per_epoch: None for as many as cover the training split once.
        learning_rate: the highest of the schedule.
        batch_size: clips per step, over all devices together.
        seed: of the initial weights, of all that is drawn in training, and of
            the order of the data.
        data_dir: where data is kept and prepared; see `data.load`.
        strategy: see `strategies.create`.
        learning_rate_schedule: "constant", or "cosine" from `learning_rate`
            after the warm-up to 0 at the end.
        warmup_epochs: epochs in which the rate rises linearly from near 0.
        optimizer: called with `learning_rate`; in gin, such as @AdamW without
            parentheses. None is Adam.
        jit_compile: whether to compile with XLA, or "auto"; see
            keras.Model.compile.
        dtype_policy: "mixed_bfloat16" or "mixed_float16" for mixed precision;
            None is Keras' own, float32.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: an argument, a binding, the data or the workdir is not as
            it must be.
        TrainingStopped: a loss is not finite.
    """
    if workdir is None:
        raise ValueError(
            "`workdir` must be given, as --workdir or train.workdir. "
            "Received: workdir=None."
        )
    _check_positive_int("num_epochs", num_epochs)
    _check_positive_int("batch_size", batch_size)
    if steps_per_epoch is not None:
        _check_positive_int("steps_per_epoch", steps_per_epoch)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(
            "`seed` must be an integer from 0 to less than 2**32. "
            f"Received: seed={seed!r}."
        )
    _check_schedule(
        learning_rate_schedule, learning_rate, warmup_epochs, num_epochs
    )
    if jit_compile not in (True, False, "auto"):
        raise ValueError(
            "`jit_compile` must be True, False or 'auto'. "
            f"Received: jit_compile={jit_compile!r}."
        )
    folder = Workdir(workdir)
    with folder.locked():
        progress = folder.read_progress()
        fixed_length = learning_rate_schedule != "constant"
        _check_unfinished(folder, progress, num_epochs, fixed_length)
        devices = strategies.create(strategy)
        if batch_size % devices.num_devices:
            raise ValueError(
                "`batch_size` must be a multiple of the number of devices, "
                f"{devices.num_devices}. Received: batch_size={batch_size}."
            )
        previous_policy = keras.config.dtype_policy()
        policy = dtype_policy or previous_policy
        _rehearse(devices, policy, seed, optimizer, learning_rate, jit_compile)
        configuration.check_all_used(
            later=external_configurables.DATA_CONFIGURABLES
        )
        if progress is not None:
            # As if the data were the same, which is not known yet.
            identity = progress.identity | _identity()
            _check_same_run(folder, progress, identity, fixed_length)

        load = gin.get_configurable("data.load")
        audio_data = load(dataset, data_dir=data_dir)
        _check_evaluation(audio_data)
        _check_labels(audio_data)
        prepare = gin.get_configurable("data.prepare")
        batches = prepare(audio_data, batch_size=batch_size, seed=seed)
        configuration.check_all_used()
        report.print_data(audio_data, folder.results)
        report.print_lengths(audio_data, batches)
        watched = next(iter(batches.evaluation))
        if watched != "validation":
            report.print_lines(
                f"no validation clips: the best epoch will be the best on "
                f"{watched}, whose accuracy will flatter it"
            )
        identity = _identity(audio_data)
        if progress is None:
            progress = Progress(identity)
        else:
            _check_same_run(folder, progress, identity, fixed_length)
            report.print_lines(
                f"going on after epoch {len(progress.history)} of {folder.path}"
            )
        steps = steps_per_epoch or batches.steps_per_epoch
        schedule = _schedule(
            learning_rate_schedule,
            learning_rate,
            warmup_steps=round(warmup_epochs * steps),
            total_steps=num_epochs * steps,
        )
        keras.utils.set_random_seed(seed)
        keras.config.set_dtype_policy(policy)
        try:
            with devices.scope():
                model = _build(
                    len(audio_data.label_names),
                    batches.example_shape,
                    optimizer,
                    schedule,
                    jit_compile,
                )
                _check_sample_rate(model, audio_data.sample_rate)
                if progress.history:
                    folder.restore(model, progress)
                folder.write_text(
                    folder.config, gin.operative_config_str() + "\n"
                )
                _fit(model, folder, progress, batches, steps, num_epochs)
        finally:
            keras.config.set_dtype_policy(previous_policy)
        best = keras.models.load_model(folder.best)
        results = {
            "config": configuration.macros() | configuration.operative(),
            "seed": seed,
            "data": {
                "name": audio_data.name,
                "labels": list(audio_data.label_names),
                "sample_rate": audio_data.sample_rate,
                "counts": dict(audio_data.counts),
                "skipped": dict(audio_data.skipped),
                "fingerprint": audio_data.fingerprint,
            },
            "versions": _versions(),
            "parameters": {
                "total": model.count_params(),
                "trainable": _count(model.trainable_variables),
                "frontend": _count(
                    model.frontend.trainable_variables if model.frontend else []
                ),
            },
            "timings": {
                "seconds": sum(row["seconds"] for row in progress.history),
                "epochs": len(progress.history),
                "steps_per_epoch": steps,
            },
            "best_epoch": progress.best_epoch,
            "metrics": _score_all(best, batches),
        }
        folder.write_json(folder.results, results)
    return results


def evaluate(
    workdir: str,
    dataset: str,
    data_dir: str | None = None,
    batch_size: int = 64,
) -> dict[str, dict[str, float]]:
    """Evaluates the best model of a run on each evaluation split.

    The metrics are returned, and written to `evaluation.json` in `workdir`.

    Args:
        workdir: where the run is kept.
        dataset: see `data.load`; it needs no training split, and not all of
            the labels.
        data_dir: see `data.load`.
        batch_size: clips per step.

    Raises:
        ValueError: there is no model, or it does not fit the data.
    """
    _check_positive_int("batch_size", batch_size)
    folder = Workdir(workdir)
    if not folder.best.exists():
        raise ValueError(
            "`workdir` must hold a run with one completed epoch at least. "
            f"Received: workdir={workdir!r} without {folder.best.name}."
        )
    load = gin.get_configurable("data.load")
    audio_data = load(dataset, data_dir=data_dir, for_training=False)
    _check_evaluation(audio_data)
    model = keras.models.load_model(folder.best)
    num_labels = len(audio_data.label_names)
    trained = folder.read_data().get("labels")
    if trained is not None:
        audio_data = audio_data.relabelled(trained)
    elif model.num_outputs != num_labels:
        raise ValueError(
            f"`dataset` must have the {model.num_outputs} labels that the "
            f"model was trained for. Received: dataset={dataset!r} with "
            f"{num_labels}."
        )
    _check_sample_rate(model, audio_data.sample_rate)
    evaluated = dataclasses.replace(
        audio_data,
        clips={k: v for k, v in audio_data.clips.items() if k != "train"},
    )
    prepare = gin.get_configurable("data.prepare")
    batches = prepare(evaluated, batch_size=batch_size)
    report.print_data(evaluated, folder.evaluation)
    report.print_lengths(evaluated, batches)
    if "train" in audio_data.counts:
        report.print_lines(f"not evaluated: train {audio_data.counts['train']}")
    metrics = _score_all(model, batches)
    folder.write_json(
        folder.evaluation,
        {
            "config": configuration.macros() | configuration.operative(),
            "data": {
                "name": audio_data.name,
                "counts": dict(audio_data.counts),
                "skipped": dict(audio_data.skipped),
                "fingerprint": audio_data.fingerprint,
            },
            "metrics": metrics,
        },
    )
    return metrics


def _check_positive_int(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}."
        )


def _check_unfinished(
    folder: Workdir,
    progress: Progress | None,
    num_epochs: int,
    fixed_length: bool,
) -> None:
    done = len(progress.history) if progress else 0
    if folder.results.exists() and done >= num_epochs:
        advice = (
            "Choose another workdir, also to train for longer, since the "
            "learning rate has followed its schedule to the end"
            if fixed_length
            else "Choose another workdir, raise train.num_epochs to train on"
        )
        raise ValueError(
            "`workdir` must not hold a finished run. Received: "
            f"workdir={str(folder.path)!r}, where {done} epochs are done and "
            f"results are in {folder.results}. {advice}, or evaluate with "
            "--mode=eval."
        )
    if done > num_epochs:
        raise ValueError(
            f"`num_epochs` must be at least the {done} epochs done in workdir "
            f"{str(folder.path)!r}. Received: num_epochs={num_epochs}."
        )


def _check_same_run(
    folder: Workdir,
    progress: Progress,
    identity: dict[str, str],
    fixed_length: bool,
) -> None:
    free = _FREE[:-1] if fixed_length else _FREE
    was, now = (
        {k: v for k, v in one.items() if k not in free}
        for one in (progress.identity, identity)
    )
    differing = configuration.differences(was, now)
    if differing:
        message = (
            "`workdir` must be new or hold a run of the same configuration. "
            f"Received: workdir={str(folder.path)!r}, whose run differs in: "
            f"{'; '.join(differing)}."
        )
        if fixed_length and any("train.num_epochs" in d for d in differing):
            message += " The schedule is made for the length it began with."
        raise ValueError(message)


def _check_evaluation(audio_data: data.AudioData) -> None:
    splits = list(audio_data.clips)
    if splits == ["train"]:
        raise ValueError(
            "`dataset` must have a split 'validation' or 'test'. "
            f"Received: dataset={audio_data.name!r} with {splits}."
        )


def _check_labels(audio_data: data.AudioData) -> None:
    if len(audio_data.label_names) < 2:
        raise ValueError(
            "`dataset` must have at least two labels. Received: dataset="
            f"{audio_data.name!r} with {list(audio_data.label_names)}."
        )


def _check_sample_rate(model: keras.Model, data_rate: int | None) -> None:
    rate = getattr(model.frontend, "sample_rate", None)
    if None not in (rate, data_rate) and rate != data_rate:
        raise ValueError(
            "`sample_rate` of the frontend must be that of the data, "
            f"{data_rate}. Received: sample_rate={rate}."
        )


def _identity(audio_data: data.AudioData | None = None) -> dict[str, str]:
    identity = {
        **configuration.operative(),
        "KERAS_BACKEND": keras.backend.backend(),
    }
    if audio_data is not None:
        identity[f"data set {audio_data.name}"] = audio_data.fingerprint
    return identity


def _check_schedule(
    name: str, learning_rate: float, warmup_epochs: float, num_epochs: int
) -> None:
    if name not in _SCHEDULES:
        raise ValueError(
            f"`learning_rate_schedule` must be one of {list(_SCHEDULES)}. "
            f"Received: learning_rate_schedule={name!r}."
        )
    if (
        not isinstance(learning_rate, numbers.Real)
        or not 0 < learning_rate < math.inf
    ):
        raise ValueError(
            "`learning_rate` must be a positive number. "
            f"Received: learning_rate={learning_rate!r}."
        )
    if (
        not isinstance(warmup_epochs, numbers.Real)
        or not 0 <= warmup_epochs < num_epochs
    ):
        raise ValueError(
            "`warmup_epochs` must be a number from 0 to less than "
            f"`num_epochs`. Received: warmup_epochs={warmup_epochs!r}, "
            f"num_epochs={num_epochs}. train.warmup_epochs = 0 does without."
        )


def _schedule(
    name: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> Any:
    # A fraction of an epoch may be rounded up to all steps there are.
    warmup_steps = min(warmup_steps, total_steps - 1)
    schedules = keras.optimizers.schedules
    first = learning_rate / (warmup_steps + 1)
    if name == "cosine":
        return schedules.CosineDecay(
            first if warmup_steps else learning_rate,
            decay_steps=total_steps - warmup_steps,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if warmup_steps:
        return schedules.PolynomialDecay(first, warmup_steps, learning_rate)
    return learning_rate


def _rehearse(
    devices: strategies.Strategy,
    policy: Any,
    seed: int,
    optimizer: Callable | None,
    learning_rate: float,
    jit_compile: bool | str,
) -> None:
    """Builds the model once, to see mistakes before the data is fetched."""

    def rehearse() -> None:
        keras.utils.set_random_seed(seed)
        keras.config.set_dtype_policy(policy)
        with devices.scope():
            # How many labels there are is not known yet.
            model = _create(2, optimizer, learning_rate, jit_compile)
            data_rate = gin.get_bindings("data.load").get("sample_rate")
            _check_sample_rate(model, data_rate)
            shape = data.example_shape(external_configurables.transform_fns())
            if shape is not None:
                model.build((1, *shape))

    # Keras keeps its names and its policy for each thread, so this leaves no
    # trace: the model that is trained is called "leaf", not "leaf_1".
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(rehearse).result()


def _create(
    num_outputs: int,
    optimizer: Callable | None,
    learning_rate: Any,
    jit_compile: bool | str,
) -> keras.Model:
    if optimizer is None:
        optimizer = gin.get_configurable("keras.optimizers.Adam")
    if not callable(optimizer):
        raise ValueError(
            "`optimizer` must be a factory, in gin a reference without "
            f"parentheses such as @AdamW. Received: optimizer={optimizer!r}."
        )
    model = gin.get_configurable("AudioClassifier")(num_outputs=num_outputs)
    model.compile(
        optimizer(learning_rate=learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    return model


def _build(
    num_outputs: int,
    example_shape: tuple[int, ...],
    optimizer: Callable | None,
    learning_rate: Any,
    jit_compile: bool | str,
) -> keras.Model:
    model = _create(num_outputs, optimizer, learning_rate, jit_compile)
    outputs = model(keras.ops.zeros((1, *example_shape)))
    model.optimizer.build(model.trainable_variables)
    # TensorFlow would trace a first step that makes variables a second time.
    for metric in model.metrics:
        if not getattr(metric, "built", True):
            metric.build(keras.ops.zeros(1, "int32"), outputs)
    return model


def _fit(
    model: keras.Model,
    folder: Workdir,
    progress: Progress,
    batches: data.Batches,
    steps: int,
    num_epochs: int,
) -> None:
    done = len(progress.history)
    if done == num_epochs:
        return
    # The recorder saves the plan for the epoch to come, and logs the drift.
    callbacks = [Replan()]
    if len(learned_frontends(model)) == 1:
        callbacks.append(LogFilters(folder.filters))
    callbacks.append(_Recorder(folder, progress, batches))
    model.fit(
        batches.train(first_step=done * steps),
        initial_epoch=done,
        epochs=num_epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        shuffle=False,
        # A bar is for a person; a file gets a line an epoch.
        verbose=1 if sys.stdout.isatty() else 2,
    )


class _Recorder(keras.callbacks.Callback):
    """Evaluates and saves after each epoch, and watches over the loss."""

    def __init__(
        self, folder: Workdir, progress: Progress, batches: data.Batches
    ):
        super().__init__()
        self._folder = folder
        self._progress = progress
        split = next(iter(batches.evaluation))
        self._score = Scorer(batches.evaluation[split], batches.batch_size)
        self._log = TensorBoardLog(folder.tensorboard, progress.history)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check_finite("loss", logs["loss"], f"step {batch + 1} of ")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        metrics = self._score(self.model)
        self._check_finite("validation loss", metrics["loss"], "the end of ")
        logs.update({f"val_{name}": value for name, value in metrics.items()})
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "val_loss": metrics["loss"],
            "val_accuracy": metrics["accuracy"],
            "seconds": round(time.monotonic() - self._start, 3),
            **{
                name: value
                for name, value in logs.items()
                if name.startswith("drift_")
            },
        }
        self._progress.history.append(row)
        self._folder.save(self.model, self._progress)
        self._log.add(row)

    def _check_finite(self, name: str, value: Any, when: str) -> None:
        if not math.isfinite(value):
            epoch = len(self._progress.history) + 1
            raise TrainingStopped(
                f"The {name} is {float(value)} at {when}epoch {epoch}: "
                "training was stopped. A lower train.learning_rate may help; "
                f"workdir {str(self._folder.path)!r} holds the "
                f"{epoch - 1} epochs before."
            )


class Scorer:
    """Computes a classifier's cross-entropy and accuracy on a split.

    Done here and not by Keras because batches must divide among devices and
    have one shape for a compiler, whereas each clip must count once.

    Args:
        batches: of audio and integer label, the last of which may be smaller.
        batch_size: clips in a batch that is full.
    """

    def __init__(self, batches: tf.data.Dataset, batch_size: int):
        labels = [label for _, label in batches.as_numpy_iterator()]
        self._labels = np.concatenate(labels)

        def fill_up(audio, label):
            missing = batch_size - tf.shape(audio)[0]
            rest = tf.zeros([missing, *audio.shape[1:]], audio.dtype)
            audio = tf.concat([audio, rest], axis=0)
            return tf.ensure_shape(audio, [batch_size, *audio.shape[1:]])

        self._audio = batches.map(fill_up)

    def __call__(
        self, model: keras.Model, verbose: int = 0
    ) -> dict[str, float]:
        logits = model.predict(self._audio, verbose=verbose)
        logits = logits[: len(self._labels)].astype("float64")
        right = logits.argmax(axis=-1) == self._labels
        highest = logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
        own = np.take_along_axis(logits, self._labels[:, None], axis=-1)[:, 0]
        return {
            "accuracy": float(right.mean()),
            "loss": float((log_sum - own).mean()),
        }


def _score_all(
    model: keras.Model, batches: data.Batches
) -> dict[str, dict[str, float]]:
    return {
        split: Scorer(some, batches.batch_size)(model)
        for split, some in batches.evaluation.items()
    }


def _count(variables: list[keras.Variable]) -> int:
    return sum(math.prod(v.shape) for v in variables)


def _versions() -> dict[str, str]:
    packages = ("keras", "tensorflow", "numpy", "gin-config")
    backend = keras.backend.backend()
    if backend not in packages:
        packages += (backend,)
    return {
        "python": platform.python_version(),
        "backend": backend,
        "platform": platform.platform(),
        "leaf_audio": leaf_audio.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }
