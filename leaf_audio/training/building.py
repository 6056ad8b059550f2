"""Making the model that is trained, ready for its first step."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from leaf_audio.common.tracing import in_own_thread
from leaf_audio.data.clips import Task
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.models.student import Student
from leaf_audio.training import (
    checks,
    contrast,
    distillation,
    initial,
    losses,
    multitask,
    optimizers,
    replicas,
)
from leaf_audio.training.config import TrainingConfig
from leaf_audio.training.strategies import Strategy

MakeModel = Callable[..., keras.Model]


@contextlib.contextmanager
def seeded(seed: int, policy: Any) -> Iterator[None]:
    """Sets the random seed, and for the time of a `with` block the dtypes.

    Args:
        seed: The seed of Python, NumPy and the backend.
        policy: A dtype policy of Keras, or its name.
    """
    previous = keras.config.dtype_policy()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def build(
    config: TrainingConfig,
    make_model: MakeModel,
    num_outputs: int,
    example_shape: tuple[int, ...],
    learning_rate: Any,
    has_shares: bool = False,
    is_multilabel: bool = False,
    taught: int = 0,
    init_from: Any = None,
    tasks: Sequence[Task] = (),
) -> keras.Model:
    """Makes a compiled model with all of its variables.

    Args:
        config: The settings of training.
        make_model: Called with the keyword argument `num_outputs`.
        num_outputs: The number of labels.
        example_shape: The shape of one clip, or of one view of it, without the
            batch.
        learning_rate: A number or a schedule.
        has_shares: Whether targets are shares of all labels, instead of a label
            for each clip. Defaults to False.
        is_multilabel: Whether a clip may have several labels. Targets are then
            shares. Defaults to False.
        taught: How many targets follow those of the labels: what
            `config.teacher` says. Defaults to 0.
        init_from: The run or file whose weights the model begins with. Defaults
            to None, for random weights.
        tasks: The tasks of the data. Defaults to none, for one data set.

    Returns:
        The model, its optimizer and its metrics built.

    Raises:
        ValueError: If the loss does not fit the targets, a part cannot have the
            learning rate that is asked for, or `init_from` does not fit.
    """
    has_shares = has_shares or is_multilabel or taught > 0
    model = _compiled(
        config,
        make_model,
        num_outputs,
        learning_rate,
        has_shares=has_shares,
        is_multilabel=is_multilabel,
        taught=taught,
        tasks=tasks,
    )
    # Symbolically: JAX would compile each operation of a call by itself.
    inputs = keras.KerasTensor(_input_shape(config, example_shape))
    model.build(inputs.shape)
    outputs = keras.tree.map_structure(
        lambda spec: keras.ops.zeros(spec.shape, spec.dtype),
        model.compute_output_spec(inputs),
    )
    if init_from is not None:
        initial.take_from(init_from, model)
    _check_frontend_rate(config, model)
    _freeze(config, model)
    optimizers.spare_from_decay(
        model.optimizer,
        model,
        spares_encoder=config.encoder_learning_rate_factor != 1,
    )
    model.optimizer.build(model.trainable_variables)
    targets = (
        keras.ops.zeros((outputs.shape[0], num_outputs + taught))
        if has_shares
        else keras.ops.zeros(outputs.shape[:1], "int32")
    )
    losses.check_fits(model.loss, targets, outputs)
    # TensorFlow would trace a first step that makes variables a second time.
    for metric in model.metrics:
        if not getattr(metric, "built", True):
            metric.build(targets, outputs)
    return model


def rehearse(
    config: TrainingConfig,
    make_model: MakeModel,
    devices: Strategy,
    sample_rate: float | None = None,
    example_shape: Callable[[], tuple[int, ...] | None] | None = None,
    init_from: Any = None,
) -> None:
    """Builds a model once and discards it, to find mistakes early.

    Fetching and preparing data may take hours. A mistake in the settings of
    the model should be found before.

    Args:
        config: The settings of training.
        make_model: Called with the keyword argument `num_outputs`.
        devices: The devices to build the model on.
        sample_rate: The sample rate that the data will have, in Hz. None if it
            is unknown.
        example_shape: Returns the shape that a clip will have, or None if it
            is unknown. It is called once the devices are in use.
        init_from: As in `build`.

    Raises:
        ValueError: If the model cannot be built, its frontend is for another
            sample rate, or it cannot have the weights of `init_from`.
    """
    policy = config.dtype_policy or keras.config.dtype_policy()

    def build_once() -> None:
        with seeded(config.seed, policy), devices.scope():
            # The number of labels is not known yet; two stand in for them.
            model = _compiled(config, make_model, 2, config.learning_rate)
            checks.check_sample_rate(model, sample_rate)
            # It is called so that its settings count as used. That it fails is
            # no mistake yet: it may be for the labels of the data alone.
            with contextlib.suppress(ValueError):
                labels = keras.ops.zeros(1, "int32")
                losses.check_fits(model.loss, labels, keras.ops.zeros((1, 2)))
            shape = example_shape() if example_shape else None
            if shape is not None:
                model.build(_input_shape(config, shape))
                if init_from is not None:
                    initial.take_from(init_from, model)
                _check_frontend_rate(config, model)

    # So that the frontend of the real model is called "leaf", not "leaf_1".
    in_own_thread(build_once)


def _input_shape(
    config: TrainingConfig, example_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Returns the shape of the smallest batch."""
    if config.pretraining is None:
        return (1, *example_shape)
    return (2, 2, *example_shape)


def _check_frontend_rate(config: TrainingConfig, model: keras.Model) -> None:
    optimizers.check_frontend_rate(
        model,
        config.frontend_learning_rate_factor,
        config.frozen_frontend_epochs,
        config.encoder_learning_rate_factor,
    )


def _freeze(config: TrainingConfig, model: keras.Model) -> None:
    """Freezes what has a learning rate of 0."""
    frontend = config.frontend_learning_rate_factor == 0
    encoder = config.encoder_learning_rate_factor == 0
    optimizers.freeze(model, frontend, encoder)
    if config.init_from is not None:
        # What was trained computes as it was trained to. The statistics of a
        # new frontend, though, have seen no data yet.
        initial.hold(model, frontend, encoder)


def _compiled(
    config: TrainingConfig,
    make_model: MakeModel,
    num_outputs: int,
    learning_rate: Any,
    has_shares: bool = False,
    is_multilabel: bool = False,
    taught: int = 0,
    tasks: Sequence[Task] = (),
) -> keras.Model:
    if config.pretraining is not None:
        # The dense layer of this classifier is not used.
        model = config.pretraining(make_model(num_outputs=1))
        return _compiled_for_pairs(config, model, learning_rate)
    if tasks:
        return _compiled_for_tasks(config, make_model, learning_rate, tasks)
    model = make_model(num_outputs=num_outputs)
    accuracy: Any = "accuracy"
    if is_multilabel:
        accuracy = keras.metrics.MeanMetricWrapper(
            losses.label_accuracy, name="label_accuracy"
        )
    loss = losses.choose(
        config.loss,
        label_smoothing=config.label_smoothing,
        has_shares=has_shares,
        is_multilabel=is_multilabel,
    )
    teacher = config.teacher
    if teacher is not None and taught:
        says_embeddings = teacher.outputs == "embeddings"
        model = Student(model, units=taught if says_embeddings else None)
        loss = distillation.Distillation(
            loss, teacher, num_outputs, is_multilabel
        )
        accuracy = distillation.accuracy(num_outputs, is_multilabel)
    model.compile(
        _make_optimizer(config, learning_rate),
        loss,
        metrics=[accuracy],
        jit_compile=config.jit_compile,
    )
    return model


def _compiled_for_pairs(
    config: TrainingConfig, model: Any, learning_rate: Any
) -> keras.Model:
    """Compiles the model of `config.pretraining`, which uses no labels."""
    if not isinstance(model, Contrastive):
        raise ValueError(
            "`pretraining` must return a model of pairs, such as models.COLA. "
            f"Received: pretraining={config.pretraining!r}, which returned a "
            f"{type(model).__name__}."
        )
    model.whole_batch = replicas.whole_batch
    accuracy = keras.metrics.MeanMetricWrapper(
        contrast.partner_accuracy, name="accuracy"
    )
    model.compile(
        _make_optimizer(config, learning_rate),
        contrast.PartnerCrossentropy(),
        metrics=[accuracy],
        jit_compile=config.jit_compile,
    )
    return model


def _compiled_for_tasks(
    config: TrainingConfig,
    make_model: MakeModel,
    learning_rate: Any,
    tasks: Sequence[Task],
) -> keras.Model:
    """Compiles a model of several tasks."""
    sizes = multitask.sizes_of(tasks)
    model = multitask.make_model(make_model, sizes, config.separate_encoders)
    accuracy = keras.metrics.MeanMetricWrapper(
        multitask.task_accuracy, name="accuracy", sizes=sizes
    )
    model.compile(
        _make_optimizer(config, learning_rate),
        multitask.TaskCrossentropy(sizes, config.label_smoothing),
        metrics=[accuracy],
        jit_compile=config.jit_compile,
    )
    return model


def _make_optimizer(
    config: TrainingConfig, learning_rate: Any
) -> keras.optimizers.Optimizer:
    factory = config.optimizer or keras.optimizers.Adam
    problem = "which made no Keras optimizer"
    try:
        made = factory(learning_rate=learning_rate)
    except (TypeError, ValueError) as error:
        made, problem = None, f"which failed: {error}"
    if not isinstance(made, keras.optimizers.Optimizer):
        raise ValueError(
            "`optimizer` must make a Keras optimizer from the argument "
            f"`learning_rate`. Received: optimizer={factory!r}, {problem}."
        )
    return made
