"""A training run, from its settings to its results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from leaf_audio import data
from leaf_audio.common import files
from leaf_audio.data import clip_store
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.training import (
    about,
    batch_statistics,
    building,
    checks,
    contrast,
    fitting,
    multitask,
    optimizers,
    processes,
    schedules,
    strategies,
    tables,
)
from leaf_audio.training.config import TrainingConfig
from leaf_audio.training.observer import Observer
from leaf_audio.training.progress import (
    Progress,
    check_same_run,
    check_unfinished,
    same_run,
)
from leaf_audio.training.scorers import scorer_of
from leaf_audio.training.scoring import (
    Outcome,
    describe_data,
    metrics_of,
    score_splits,
)
from leaf_audio.training.thresholds import best_thresholds, describe_few
from leaf_audio.training.workdir import Workdir


def train(
    config: TrainingConfig,
    *,
    make_model: Callable[..., keras.Model],
    load: Callable[..., data.AudioData],
    prepare: Callable[..., data.Batches],
    sample_rate: float | None = None,
    example_shape: Callable[[], tuple[int, ...] | None] | None = None,
    make_strategy: Callable[[str], strategies.Strategy] = strategies.create,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Trains a classifier, or continues its training.

    Everything is written to `config.workdir`; see `Workdir`. The loss is
    `config.loss`, by default the cross-entropy of the logits, or their binary
    cross-entropy where a clip may have several labels. After each epoch the
    model is evaluated on the validation split, or on the test split if there is
    no other. The model of the best epoch is kept: the one of the highest
    accuracy, or of the highest mean average precision where clips have several
    labels, and among equals of the lowest loss. With `config.keep="last"` it is
    the model of the last epoch. Validation takes each clip once. The metrics in
    the results are computed from chunks if `prepare` has an `evaluation_hop`.

    Where a clip may have several labels, the same split chooses a threshold for
    each of them, by the F1 of the model that is kept, also from chunks.

    Args:
        config: The settings of the run.
        make_model: A function that takes the keyword argument `num_outputs`,
            the number of labels, and returns a Keras model. The model takes
            batches of clips and returns logits, of shape
            `(batch, num_outputs)`. It is called twice: once before the data is
            loaded, to find mistakes early.
        load: `leaf_audio.data.load`, or a function that takes the same
            arguments, for instance a `functools.partial` of it.
        prepare: `leaf_audio.data.prepare`, or a function that takes the same
            arguments.
        sample_rate: float or None. The sample rate that the data will have, in
            Hz, for an early check of the model. Defaults to None, for a check
            after the data is loaded.
        example_shape: A function that returns the shape of a clip, or None,
            for an early check of the model. Defaults to None.
        make_strategy: A function from the name of a strategy to a `Strategy`.
            Defaults to `strategies.create`.
        observer: Follows the run. Defaults to None for a plain `Observer`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: If a setting, the data or the folder cannot be used.
        TrainingStopped: If a loss, a gradient or a weight is not finite.

    Example:

    ```python
    from leaf_audio import data, frontend, models, training

    training.train(
        training.TrainingConfig("runs/vowels", dataset="synthetic_vowels"),
        make_model=lambda num_outputs: models.AudioClassifier(
            num_outputs, frontend=frontend.Leaf(), encoder=models.ConvNet([16])
        ),
        load=data.load,
        prepare=data.prepare,
    )
    ```
    """
    observer = observer or Observer()
    devices = make_strategy(config.strategy)
    if not devices.is_main:
        observer = _SilentObserver(observer)
    if config.teacher is not None:
        config.teacher.check()
    with (
        processes.failing_together(),
        _opened(config, devices) as (folder, progress),
    ):
        _check_same_settings(config, config.as_settings())
        for damage in folder.damages:
            observer.tell(damage)
        check_unfinished(folder, progress, config)
        checks.check_batch_divides(config.batch_size, devices.num_devices)
        building.rehearse(
            config,
            make_model,
            devices,
            sample_rate=sample_rate,
            example_shape=example_shape,
            init_from=_init_from(config, progress),
        )
        observer.model_checked()
        if progress is not None:
            # The data is not known yet, and assumed to be the same.
            known = progress.identity | _identity(config, observer)
            defaults = _defaults(config, observer)
            check_same_run(folder, progress, known, defaults)
            begin, _ = progress.begin_schedule(
                config.num_epochs, config.has_moving_rate
            )
            config.check_room_for_warmup(begin)

        is_pretraining = config.pretraining is not None
        audio_data = load(
            config.dataset,
            data_dir=config.data_dir,
            # What else training needs is labels.
            **({"for_training": False} if is_pretraining else {}),
        )
        multitask.check(config, audio_data.tasks)
        checks.check_evaluation_split(audio_data)
        if is_pretraining:
            checks.check_training_split(audio_data)
            checks.check_batch_of_pairs(audio_data, config.batch_size)
        else:
            checks.check_labels(audio_data)
        more: dict[str, Any] = {"views": 2} if is_pretraining else {}
        if config.teacher is not None:
            more["more_targets"] = config.teacher.targets(audio_data)
        batches = prepare(
            audio_data,
            batch_size=config.batch_size,
            seed=config.seed,
            **more,
        )
        processes.check_equal(
            "the same data in all processes", audio_data.fingerprint
        )
        observer.data_loaded(audio_data, batches, folder.results)
        run = _Run(config, folder, observer, audio_data, batches)
        run.begin_or_continue(progress)
        model = run.fit(make_model, devices)
        results = run.summarize(model)
        files.write_json(folder.results, results)
    return results


@contextlib.contextmanager
def _opened(
    config: TrainingConfig, devices: strategies.Strategy
) -> Iterator[tuple[Workdir, Progress | None]]:
    """Opens the folder of the run; in other processes, a copy of it."""
    folder = Workdir(config.workdir)
    with contextlib.ExitStack() as stack:
        if devices.is_main:
            stack.enter_context(folder.locked())
            progress = folder.read_progress()
            processes.wait_for_all()
        else:
            processes.wait_for_all()
            copy = stack.enter_context(processes.copy_of(folder.path))
            folder = Workdir(copy)
            progress = folder.read_progress()
        epochs = len(progress.history) if progress else 0
        processes.check_equal(
            "the same `train.workdir` in all processes, on a file system that "
            "they share",
            f"a run of {epochs} epochs",
        )
        yield folder, progress


def _check_same_settings(
    config: TrainingConfig, settings: Mapping[str, str]
) -> None:
    """Raises a ValueError unless all processes have the same settings."""
    length = {"train.num_epochs": str(config.num_epochs)}
    processes.check_equal_settings(same_run(settings) | length)


def _init_from(config: TrainingConfig, progress: Progress | None) -> Any:
    """Returns whose weights to begin with; None once a state has its own."""
    has_state = progress is not None and progress.history
    return None if has_state else config.init_from


class _SilentObserver(Observer):
    """Knows what another observer knows, and tells nothing."""

    def __init__(self, other: Observer):
        self.settings = other.settings  # type: ignore[method-assign]
        self.defaults = other.defaults  # type: ignore[method-assign]
        self.shared_values = other.shared_values  # type: ignore[method-assign]
        self.config_text = other.config_text  # type: ignore[method-assign]
        self.model_checked = other.model_checked  # type: ignore[method-assign]

    def tell(self, line: str) -> None:
        """Tells nothing."""


class _Run:
    """A run whose data is ready.

    Args:
        config: The settings of the run.
        folder: The folder of the run.
        observer: Follows the run.
        audio_data: The data set.
        batches: The batches that were made of it.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Workdir,
        observer: Observer,
        audio_data: data.AudioData,
        batches: data.Batches,
    ):
        self._config = config
        self._folder = folder
        self._observer = observer
        self._data = audio_data
        self._batches = batches
        self._steps = config.steps_per_epoch or max(
            batches.steps_per_epoch, config.min_steps_per_epoch
        )

    def begin_or_continue(self, progress: Progress | None) -> None:
        """Settles which epochs are done."""
        watched = next(iter(self._batches.evaluation))
        chosen = self._chosen_by_validation()
        if watched != "validation":
            # Whatever is chosen, the metrics of an epoch are those of the test.
            what = f"{watched} takes the place of validation after each epoch"
            if chosen:
                what = (
                    f"{', '.join(chosen)} will be chosen by {watched}, whose "
                    "metrics will be too good"
                )
            self._observer.tell(f"no validation clips: {what}")
        identity = _identity(self._config, self._observer)
        identity[f"data set {self._data.name}"] = self._data.fingerprint
        if self._config.teacher is not None:
            identity["teacher"] = self._config.teacher.fingerprint()
        _check_same_settings(self._config, identity)
        if progress is None:
            progress = Progress(identity, keep=self._config.keep)
        else:
            self._accept_old_fingerprint(progress, identity)
            defaults = _defaults(self._config, self._observer)
            check_same_run(self._folder, progress, identity, defaults)
        progress.data = {
            "labels": list(self._data.label_names),
            "is_multilabel": self._batches.is_multilabel,
        }
        self._progress = progress

    def _accept_old_fingerprint(
        self, progress: Progress, identity: dict[str, str]
    ) -> None:
        """Lets a run that an earlier version began go on.

        It has recorded a hash of something else, which cannot be compared.
        """
        key = f"data set {self._data.name}"
        recorded = progress.identity.get(key)
        if recorded and not recorded.startswith(clip_store.FINGERPRINT_PREFIX):
            self._observer.tell(
                "an earlier version began this run: whether its recordings "
                "were the same cannot be told"
            )
            identity[key] = recorded

    def _chosen_by_validation(self) -> list[str]:
        config = self._config
        chosen = []
        if config.keep == "best":
            chosen.append("the best epoch")
        if isinstance(config.learning_rate_schedule, schedules.ReduceOnPlateau):
            chosen.append("the learning rate")
        if self._batches.is_multilabel:
            chosen.append("the thresholds")
        return chosen

    def fit(
        self,
        make_model: Callable[..., keras.Model],
        devices: strategies.Strategy,
    ) -> keras.Model:
        """Trains the epochs that are left, and returns the model."""
        config = self._config
        policy = config.dtype_policy or keras.config.dtype_policy()
        begin, end = self._progress.begin_schedule(
            config.num_epochs, config.has_moving_rate
        )
        rate = schedules.create(
            config.learning_rate_schedule,
            config.learning_rate,
            warmup_steps=round(config.warmup_epochs * self._steps),
            total_steps=(end - begin) * self._steps,
            first_step=begin * self._steps,
        )
        with building.seeded(config.seed, policy), devices.scope():
            model = building.build(
                config,
                make_model,
                num_outputs=len(self._data.label_names),
                example_shape=self._batches.example_shape,
                learning_rate=rate,
                has_shares=self._batches.mixup_alpha > 0,
                is_multilabel=self._batches.is_multilabel,
                taught=self._batches.num_more_targets,
                tasks=self._batches.tasks,
                init_from=_init_from(config, self._progress),
            )
            checks.check_sample_rate(model, self._data.sample_rate)
            if isinstance(model, Contrastive):
                self._tell_chance(model.queries)
            if devices.copies_model:
                batch_statistics.synchronize(model)
            if self._progress.history:
                self._folder.restore(model, self._progress)
            self._folder.claim()
            text = self._observer.config_text()
            if text is not None:
                files.write_text(self._folder.config, text)
                files.write_json(self._folder.settings, self._recorded())
            with optimizers.frontend_rate(
                model,
                config.frontend_learning_rate_factor,
                frozen_steps=round(config.frozen_frontend_epochs * self._steps),
                encoder_factor=config.encoder_learning_rate_factor,
            ):
                fitting.fit(
                    model,
                    self._folder,
                    self._progress,
                    self._batches,
                    steps=self._steps,
                    num_epochs=config.num_epochs,
                    lower=self._lower_rate(rate),
                    tell=self._observer.tell,
                    share=(devices.process, devices.num_processes),
                    checkpoint_minutes=config.checkpoint_minutes,
                    defaults=_defaults(config, self._observer),
                )
            self._folder.end(model, self._progress)
        return model

    def _tell_chance(self, queries: int) -> None:
        """Says what the accuracies of a run without labels begin with."""
        size = self._config.batch_size
        found = {"training": contrast.chance(queries, size, size)}
        for split, labels in self._batches.labels.items():
            found[split] = contrast.chance(queries, len(labels), size)
        listed = [f"{split} {value:.4f}" for split, value in found.items()]
        self._observer.tell(f"accuracy of guessing: {', '.join(listed)}")

    def _lower_rate(self, rate: Any) -> fitting.LowerRate | None:
        plateau = self._config.learning_rate_schedule
        if not isinstance(plateau, schedules.ReduceOnPlateau):
            return None
        return fitting.LowerRate(
            plateau,
            rate,
            highest=self._config.learning_rate,
            progress=self._progress,
            tell=self._observer.tell,
        )

    def _recorded(self) -> dict[str, str]:
        """Returns all settings as text, by name."""
        return {
            **self._observer.shared_values(),
            **_settings(self._config, self._observer),
        }

    def summarize(self, model: keras.Model) -> dict[str, Any]:
        """Evaluates the kept model, and returns all that is to be recorded.

        The tables by label are written here, before `results.json`, which marks
        a run as finished.
        """
        outcomes = score_splits(
            self._folder.load_best(), self._batches, scorer_of(self._batches)
        )
        if self._batches.views > 1:
            # There are no labels to make tables of.
            return self._summary(model, outcomes, labels=[])
        if self._batches.tasks:
            return self._summarize_tasks(model, outcomes)
        thresholds: dict[str, float] | None = None
        if self._batches.is_multilabel:
            thresholds = self._thresholds(outcomes)
        tables.write(
            self._folder.path,
            self._data.label_names,
            outcomes,
            self._observer.tell,
            list(thresholds.values()) if thresholds else None,
        )
        summary = self._summary(model, outcomes, self._data.label_names)
        return summary | ({"thresholds": thresholds} if thresholds else {})

    def _summarize_tasks(
        self, model: keras.Model, outcomes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Does so for several tasks, each of which gets a folder of its own."""
        summary = self._summary(model, outcomes, self._data.label_names)
        multitask.write_runs(
            self._folder,
            summary,
            self._batches,
            outcomes,
            self._observer,
        )
        return summary | {"tasks": multitask.describe(self._batches.tasks)}

    def _summary(
        self,
        model: keras.Model,
        outcomes: Mapping[str, Any],
        labels: Sequence[str],
    ) -> dict[str, Any]:
        history = self._progress.history
        return {
            "config": self._recorded(),
            "seed": self._config.seed,
            "data": {
                **describe_data(self._data, outcomes),
                "labels": list(labels),
                "is_multilabel": self._batches.is_multilabel,
                "sample_rate": self._data.sample_rate,
            },
            "versions": about.versions(),
            "parameters": about.parameters(model),
            "timings": {
                "seconds": sum(row["seconds"] for row in history),
                "epochs": len(history),
                "steps_per_epoch": self._steps,
            },
            "best_epoch": self._progress.best_epoch,
            "kept_epoch": self._progress.kept_epoch,
            "metrics": metrics_of(outcomes),
        }

    def _thresholds(self, outcomes: Mapping[str, Outcome]) -> dict[str, float]:
        """Chooses a threshold for each label, by the split that is watched."""
        watched = outcomes[next(iter(self._batches.evaluation))]
        names = self._data.label_names
        for line in describe_few(watched.labels, names):
            self._observer.tell(line)
        found = best_thresholds(watched.labels, watched.logits)
        return dict(zip(names, found, strict=True))


def _settings(config: TrainingConfig, observer: Observer) -> dict[str, str]:
    return config.as_settings() | observer.settings()


def _defaults(config: TrainingConfig, observer: Observer) -> dict[str, str]:
    """Returns the defaults of the settings that have one, by name."""
    return config.default_settings() | observer.defaults()


def _identity(config: TrainingConfig, observer: Observer) -> dict[str, str]:
    """Returns what two runs must agree on, but for the data, to be one."""
    backend = {"KERAS_BACKEND": keras.backend.backend()}
    return _settings(config, observer) | backend
