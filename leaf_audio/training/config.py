"""The settings of a training run."""

import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import keras

from leaf_audio.common.checks import (
    check_bool,
    check_not_negative,
    check_path,
    check_positive,
    check_positive_int,
    check_rate,
    check_seed,
    check_text,
    check_unless_none,
)
from leaf_audio.common.keras_checks import check_dtype, check_maker
from leaf_audio.common.plain import plain
from leaf_audio.training import losses
from leaf_audio.training.schedules import ReduceOnPlateau, Schedule
from leaf_audio.training.teachers import Teacher

_SCHEDULES = ("constant", "cosine")
_KEPT = ("best", "last")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training run, checked when the object is made.

    In a gin config these are the parameters of `train`, for instance
    `train.num_epochs = 20`.

    Args:
        workdir: str or path. The local folder of the run, which holds its
            model, its state and its logs. It is created if it does not exist.
            An interrupted run that is started again goes on where it was last
            saved, after an epoch or within one, and ends with the same result
            as an uninterrupted one. Must be given.
        dataset: str. The name of the data set; see `leaf_audio.data.load`.
            Defaults to "speech_commands".
        num_epochs: int, at least 1. The number of epochs. It may be raised to
            train a finished run for longer. A constant learning rate then goes
            on. A schedule that changes it, with its warm-up, starts again for
            the epochs that are added. Defaults to 10.
        steps_per_epoch: int, at least 1, or None. The number of batches in an
            epoch. None takes as many as cover the training split once, but
            not fewer than `min_steps_per_epoch`. Defaults to None.
        min_steps_per_epoch: int, at least 1. The least number of batches in an
            epoch. With few clips, an epoch then covers the training split
            several times, and training is long enough. Defaults to 1.
        learning_rate: float, above 0, or a schedule of Keras, in gin
            `@CosineDecay()`. The highest learning rate of
            `learning_rate_schedule`, or a schedule that counts the steps of the
            whole run by itself. Defaults to 1e-4.
        batch_size: int, at least 1. The number of clips in a batch. Several
            devices share a batch, so it must be a multiple of the number of
            devices. Defaults to 64.
        seed: int, from 0 to less than 2**32. The seed for the initial weights,
            for all random operations in training, and for the order of the
            clips. Defaults to 0.
        data_dir: str or None. The folder for data sets and prepared clips; see
            `leaf_audio.data.load`. Defaults to None.
        strategy: str. The devices to train on: "default", "mirrored",
            "multi_worker_mirrored", "tpu" or "data_parallel"; see
            `leaf_audio.training.strategies.create`. Defaults to "default".
        learning_rate_schedule: str or `schedules.ReduceOnPlateau`. After the
            warm-up, "constant" keeps `learning_rate`; "cosine" lowers it to 0
            at the end of training, along half a cosine; in gin
            `@ReduceOnPlateau()` lowers it when the validation loss stops
            falling. Must be "constant", without a warm-up, if `learning_rate`
            is a schedule. Defaults to "constant".
        warmup_epochs: float, from 0 to less than `num_epochs`. The number of
            epochs in which the learning rate rises linearly from near 0 to
            `learning_rate`. Defaults to 0.
        frontend_learning_rate_factor: float, at least 0. The learning rate of
            the frontend's weights is `learning_rate` times this. 0 freezes
            them: they have no gradients. With 0 and `init_from`, the frontend
            also computes as in evaluation: its normalizations use, and keep,
            the statistics that they have. SpecAugment stays on. Defaults to 1.
        frozen_frontend_epochs: float, at least 0. The number of first epochs
            in which the weights of the frontend stay as they are. Its
            normalizations follow the data from the first step on. Defaults to
            0.
        encoder_learning_rate_factor: float, at least 0. The same for the
            weights of the encoder, its normalization and its pooling, with
            `init_from`. Other values than 1 also spare them from weight decay.
            With 0, they are frozen and compute as in evaluation, without
            dropout. Defaults to 1.
        init_from: str, path or None. The folder of a run, a `.keras` file, or
            the name of a model that comes with the package. A new run begins
            with the weights of its frontend and encoder, which must be of the
            same kind, size and sample rate. The file is read until the first
            epoch is complete. None begins with random weights. Defaults to
            None.
        separate_encoders: bool. With a data set of several tasks, whether each
            has an encoder of its own, and they share the frontend only. Each
            encoder makes a step longer. Must be False with other data sets,
            with `init_from` and with `pretraining`. Defaults to False.
        loss: str, loss, class, function or None. None is cross-entropy, or
            binary cross-entropy where the data has several labels for each
            clip. Others are the name of a loss of Keras, such as
            "binary_focal_crossentropy", a `keras.losses.Loss` or its class, in
            gin `@BinaryFocalCrossentropy()`, or a function of targets and
            logits. The loss gets float targets of shape `(batch, labels)` and
            logits of the same shape. A loss of Keras must have
            `from_logits=True`, which a name and gin take care of. Defaults to
            None.
        pretraining: callable or None. A function or class that takes an
            `AudioClassifier` and returns a model of
            `leaf_audio.models.contrastive`, in gin `@COLA` or `@SimCLR`,
            without parentheses. The classifier's frontend and encoder then
            learn without labels, from two views of each clip. `loss` must be
            None and `label_smoothing` 0. None trains the classifier. Defaults
            to None.
        teacher: training.NpzTeacher, serving.RunTeacher or None. What the model
            learns from besides the labels: the outputs of another model for
            each training recording, computed before training. In gin
            `@NpzTeacher()` or `@RunTeacher()`. Must be None with
            `pretraining`. Defaults to None.
        label_smoothing: float, from 0 to below 1. The share of each target that
            is spread evenly over all labels. Where a clip may have several
            labels, each target moves towards one half by this share. Must be 0
            if `loss` is an object or a function. Defaults to 0.
        keep: str. The epoch whose model is kept, evaluated and used. "best" is
            the best one in validation. "last" suits a schedule that ends at a
            rate of 0: the last model is then as good, and it is not chosen by
            the chance of few validation clips. Defaults to "best".
        optimizer: callable or None. A function or class that takes the keyword
            argument `learning_rate` and returns a Keras optimizer, such as
            `keras.optimizers.AdamW`; in gin `@AdamW`, without parentheses.
            None uses Adam. Its weight decay, if any, spares biases,
            normalizations and the frontend. If it is made with `use_ema=True`,
            validation and the model that is kept have the averaged weights.
            Defaults to None.
        checkpoint_minutes: float, above 0. Within an epoch, the state of the
            run is saved after this time. Each epoch is saved at its end.
            Defaults to 10.
        jit_compile: True, False or "auto". Whether to compile the training
            step with XLA; see `keras.Model.compile`. Defaults to "auto".
        dtype_policy: str or None. "mixed_bfloat16" or "mixed_float16" for
            mixed precision. None keeps the current policy of Keras, which is
            "float32" unless it was changed. Defaults to None.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    ```python
    config = TrainingConfig("runs/leaf", num_epochs=20, learning_rate=1e-3)
    ```
    """

    workdir: str | os.PathLike | None = None
    dataset: str = "speech_commands"
    num_epochs: int = 10
    steps_per_epoch: int | None = None
    min_steps_per_epoch: int = 1
    learning_rate: Any = 1e-4
    batch_size: int = 64
    seed: int = 0
    data_dir: str | None = None
    strategy: str = "default"
    learning_rate_schedule: Any = "constant"
    warmup_epochs: float = 0
    frontend_learning_rate_factor: float = 1.0
    frozen_frontend_epochs: float = 0
    encoder_learning_rate_factor: float = 1.0
    init_from: str | os.PathLike | None = None
    separate_encoders: bool = False
    loss: Any = None
    pretraining: Callable[..., Any] | None = None
    teacher: Teacher | None = None
    label_smoothing: float = 0.0
    keep: str = "best"
    optimizer: Callable[..., Any] | None = None
    checkpoint_minutes: float = 10.0
    jit_compile: bool | str = "auto"
    dtype_policy: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.workdir is None:
            raise ValueError(
                "`workdir` must be given, as --workdir or train.workdir. "
                "Received: workdir=None."
            )
        check_path("workdir", self.workdir)
        check_text("dataset", self.dataset)
        check_text("strategy", self.strategy)
        check_positive_int("num_epochs", self.num_epochs)
        check_positive_int("batch_size", self.batch_size)
        check_positive_int("min_steps_per_epoch", self.min_steps_per_epoch)
        check_seed("seed", self.seed)
        check_positive("checkpoint_minutes", self.checkpoint_minutes)
        check_rate("label_smoothing", self.label_smoothing)
        if self.keep not in _KEPT:
            raise ValueError(
                f"`keep` must be one of {list(_KEPT)}. "
                f"Received: keep={self.keep!r}."
            )
        if self.loss is not None:
            losses.make(self.loss, self.label_smoothing)
        if self.teacher is not None and not isinstance(self.teacher, Teacher):
            raise ValueError(
                "`teacher` must be a training.NpzTeacher or a "
                "serving.RunTeacher, in gin @NpzTeacher() or @RunTeacher(), or "
                f"None. Received: teacher={self.teacher!r}."
            )
        self._check_pretraining()
        for name in (
            *("frontend_learning_rate_factor", "frozen_frontend_epochs"),
            "encoder_learning_rate_factor",
        ):
            check_not_negative(name, getattr(self, name))
        check_unless_none(check_path, init_from=self.init_from)
        check_bool("separate_encoders", self.separate_encoders)
        for name in ("init_from", "pretraining"):
            value = getattr(self, name)
            if self.separate_encoders and value is not None:
                raise ValueError(
                    f"`{name}` must be None with separate_encoders=True, since "
                    f"it is for one encoder. Received: {name}={value!r}."
                )
        if self.init_from is None and self.encoder_learning_rate_factor != 1:
            raise ValueError(
                "`encoder_learning_rate_factor` must be 1 without `init_from`. "
                "Received: encoder_learning_rate_factor="
                f"{self.encoder_learning_rate_factor!r}."
            )
        check_unless_none(
            check_positive_int, steps_per_epoch=self.steps_per_epoch
        )
        check_unless_none(check_path, data_dir=self.data_dir)
        check_dtype("dtype_policy", self.dtype_policy)
        self._check_schedule()
        check_maker(
            name="optimizer",
            value=self.optimizer,
            base=keras.optimizers.Optimizer,
            allowed="a factory of a Keras optimizer, in gin a reference "
            "without parentheses such as @AdamW",
        )
        if self.jit_compile != "auto" and not isinstance(
            self.jit_compile, bool
        ):
            raise ValueError(
                "`jit_compile` must be True, False or 'auto'. "
                f"Received: jit_compile={self.jit_compile!r}."
            )

    def _check_pretraining(self) -> None:
        if self.pretraining is None:
            return
        if not callable(self.pretraining):
            raise ValueError(
                "`pretraining` must be a function of a classifier that returns "
                "a model of pairs, in gin a reference without parentheses such "
                "as @COLA, or None. "
                f"Received: pretraining={self.pretraining!r}."
            )
        for name, needed in (
            *(("loss", None), ("label_smoothing", 0), ("teacher", None)),
        ):
            if getattr(self, name) != needed:
                raise ValueError(
                    f"`{name}` must be {needed} with `pretraining`, which has "
                    "a loss of its own. Received: "
                    f"{name}={getattr(self, name)!r}."
                )
        if self.batch_size < 2:
            raise ValueError(
                "`batch_size` must be at least 2 with `pretraining`, which "
                "compares the clips of a batch. "
                f"Received: batch_size={self.batch_size}."
            )

    def _check_schedule(self) -> None:
        name, rate = self.learning_rate_schedule, self.learning_rate
        if not isinstance(name, ReduceOnPlateau) and name not in _SCHEDULES:
            raise ValueError(
                f"`learning_rate_schedule` must be one of {list(_SCHEDULES)} "
                "or a ReduceOnPlateau, in gin @ReduceOnPlateau(). A schedule "
                "of Keras is a value of `learning_rate`. "
                f"Received: learning_rate_schedule={name!r}."
            )
        check_not_negative("warmup_epochs", self.warmup_epochs)
        if not isinstance(rate, Schedule):
            rate = float(check_positive("learning_rate", rate))
            # Keras takes no integer.
            object.__setattr__(self, "learning_rate", rate)
        elif name != "constant" or self.warmup_epochs:
            raise ValueError(
                "`learning_rate` must be a number, unless "
                "learning_rate_schedule='constant' and warmup_epochs=0. "
                f"Received: learning_rate={_as_text(rate)}, "
                f"learning_rate_schedule={_as_text(name)}, "
                f"warmup_epochs={self.warmup_epochs!r}."
            )
        if self.warmup_epochs >= self.num_epochs:
            raise ValueError(
                "`warmup_epochs` must be a number from 0 to less than "
                f"`num_epochs`. Received: warmup_epochs={self.warmup_epochs!r},"
                f" num_epochs={self.num_epochs}. For no warm-up, bind "
                "train.warmup_epochs = 0."
            )

    def check_room_for_warmup(self, begin: int) -> None:
        """Checks the length of a schedule of a run that is trained further.

        Args:
            begin: The number of epochs before the schedule.

        Raises:
            ValueError: If the schedule would end with its warm-up.
        """
        if begin and self.warmup_epochs >= self.num_epochs - begin:
            raise ValueError(
                f"`num_epochs` must be at least "
                f"{math.floor(begin + self.warmup_epochs) + 1} to train a run "
                f"of {begin} epochs further, since a new schedule begins with "
                f"{self.warmup_epochs} epochs of warm-up. "
                f"Received: num_epochs={self.num_epochs}."
            )

    @property
    def has_moving_rate(self) -> bool:
        """Whether the learning rate depends on the number of epochs."""
        return self.learning_rate_schedule == "cosine"

    def as_settings(self) -> dict[str, str]:
        """Returns the settings as text, by names such as `train.seed`.

        Where the teacher lies is a setting of its own, `train.teacher.path`.
        """
        settings = {
            f"train.{field.name}": _as_text(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }
        if self.teacher is not None:
            settings["train.teacher.path"] = repr(str(self.teacher.path))
        return settings

    @classmethod
    def default_settings(cls) -> dict[str, str]:
        """Returns the defaults as text, by names such as `train.seed`."""
        return {
            f"train.{field.name}": _as_text(field.default)
            for field in dataclasses.fields(cls)
        }


def _as_text(value: Any) -> str:
    # The default text of a function or an object holds its address in memory,
    # by which no two processes would agree on the settings.
    if isinstance(value, functools.partial):
        arguments = [_as_text(one) for one in value.args]
        arguments += [f"{k}={_as_text(v)}" for k, v in value.keywords.items()]
        return f"{_as_text(value.func)}({', '.join(arguments)})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_text, value))}]"
    if isinstance(value, dict):
        items = [f"{_as_text(k)}: {_as_text(v)}" for k, v in value.items()]
        return f"{{{', '.join(items)}}}"
    if hasattr(value, "get_config") and not inspect.isclass(value):
        return f"{type(value).__qualname__}({_as_text(value.get_config())})"
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if type(value).__repr__ is object.__repr__:
        plain = (bool, int, float, str, type(None))
        own = [
            f"{name}={one!r}"
            for name, one in getattr(value, "__dict__", {}).items()
            if isinstance(one, plain)
        ]
        return f"{type(value).__qualname__}({', '.join(own)})"
    return repr(value)
