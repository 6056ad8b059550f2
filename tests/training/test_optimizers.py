"""What a recipe asks of an optimizer: decay, and the rate of the frontend."""

import functools
import re

import keras
import numpy as np
import pytest

from leaf_audio import convolution, frontend, models
from leaf_audio.frontend.layer_calls import find_layers
from leaf_audio.training import TrainingConfig, building, optimizers

pytestmark = pytest.mark.any_backend

RATE = 0.01


def build(
    optimizer=keras.optimizers.SGD,
    policy="float32",
    cls=frontend.TimeDomainFilterbanks,
    **settings,
):
    """Builds a small classifier, ready for its first step."""

    def make_model(num_outputs):
        return models.AudioClassifier(
            num_outputs,
            frontend=cls(n_filters=4, sample_rate=4000),
            encoder=models.ConvNet([4], block=models.ConvBlock),
        )

    config = TrainingConfig("runs/x", optimizer=optimizer, **settings)
    with building.seeded(0, policy):
        return building.build(
            config,
            make_model,
            num_outputs=3,
            example_shape=(800,),
            learning_rate=RATE,
        )


def values(model):
    """Returns the trainable weights: those of the frontend, and the others."""
    own = {id(one) for one in model.frontend.trainable_variables}
    named = [
        (
            id(one) in own,
            # Keras numbers the layers of a second model.
            re.sub(r"_\d+(?=/)", "", one.path),
            keras.ops.convert_to_numpy(one.value),
        )
        for one in model.trainable_variables
    ]
    return tuple(
        {path: value for is_own, path, value in named if is_own is which}
        for which in (True, False)
    )


def train(model, steps, factor=1.0, frozen_steps=0, encoder_factor=1.0):
    """Trains for some steps; returns the weights after each."""
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((4, 800)).astype("float32")
    labels = np.array([0, 1, 2, 0], "int32")
    after = []
    with optimizers.frontend_rate(model, factor, frozen_steps, encoder_factor):
        for _ in range(steps):
            model.fit(audio, labels, batch_size=4, verbose=0)
            after.append(values(model))
    return after


def moves(before, after):
    return {path: after[path] - before[path] for path in before}


def largest(moved):
    return max(np.abs(one).max() for one in moved.values())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_decay_spares_biases_normalizations_and_the_frontend(policy):
    if policy == "mixed_float16" and keras.backend.backend() == "torch":
        pytest.skip("float16 on a CPU is TensorFlow's and JAX's")

    def adamw(learning_rate):
        return keras.optimizers.AdamW(learning_rate, weight_decay=0.5)

    model = build(adamw, policy)
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    own, others = values(model)
    # The decay alone, without a gradient.
    optimizer._apply_weight_decay(model.trainable_variables)
    own_after, others_after = values(model)
    assert largest(moves(own, own_after)) == 0
    decayed = {
        path
        for path in others
        if not np.array_equal(others[path], others_after[path])
    }
    kernels = {path for path, one in others.items() if one.ndim > 1}
    assert kernels and decayed == kernels
    for path in kernels:
        np.testing.assert_allclose(
            others_after[path], others[path] * (1 - RATE * 0.5), rtol=1e-5
        )


def test_both_decays_of_muon_spare_them():
    def muon(learning_rate):
        return keras.optimizers.Muon(
            learning_rate, weight_decay=0.0, adam_weight_decay=0.5
        )

    model = build(muon)
    own, others = values(model)
    model.optimizer._apply_weight_decay(model.trainable_variables)
    own_after, others_after = values(model)
    assert largest(moves(own, own_after)) == 0
    spared = [path for path, one in others.items() if one.ndim == 1]
    assert spared
    for path in spared:
        np.testing.assert_array_equal(others_after[path], others[path])


@pytest.mark.parametrize("factor", [0.0, 0.1, 3.0])
def test_the_encoder_moves_by_its_share_of_the_rate(factor):
    model = build()
    own, others = values(model)
    weights = [w.copy() for w in model.get_weights()]
    ((own_plain, others_plain),) = train(model, 1)
    again = build()
    again.set_weights(weights)
    ((own_after, others_after),) = train(again, 1, encoder_factor=factor)
    plain, moved = moves(others, others_plain), moves(others, others_after)
    assert {path for path in plain if "head" in path} < set(plain)
    for path in plain:
        share = 1 if "head" in path else factor
        np.testing.assert_allclose(
            moved[path], plain[path] * share, rtol=1e-3, atol=1e-7
        )
    for path in own:
        np.testing.assert_allclose(own_after[path], own_plain[path], atol=1e-7)


@pytest.mark.parametrize("factor", [0.0, 0.1, 3.0])
def test_the_frontend_moves_by_its_share_of_the_rate(factor):
    model = build()
    own, others = values(model)
    weights = [w.copy() for w in model.get_weights()]
    ((own_plain, others_plain),) = train(model, 1)
    again = build()
    again.set_weights(weights)
    ((own_scaled, others_scaled),) = train(again, 1, factor=factor)
    plain, scaled = moves(own, own_plain), moves(own, own_scaled)
    assert largest(plain) > 1e-6
    for path, moved in plain.items():
        np.testing.assert_allclose(
            scaled[path], factor * moved, rtol=1e-2, atol=2e-7
        )
    for path, value in others_plain.items():
        np.testing.assert_allclose(
            others_scaled[path], value, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize(
    "optimizer", ["Adam", "AdamW", "Lion", "RMSprop", "SGD"]
)
def test_a_factor_of_0_leaves_the_frontend_as_it_is(optimizer):
    model = build(getattr(keras.optimizers, optimizer))
    own, others = values(model)
    own_after, others_after = train(model, 2, factor=0)[-1]
    assert largest(moves(own, own_after)) == 0
    assert largest(moves(others, others_after)) > 0


def test_a_frontend_is_frozen_in_the_first_steps_only():
    model = build()
    start, _ = values(model)
    one, two, three = (own for own, _ in train(model, 3, frozen_steps=2))
    assert largest(moves(start, one)) == largest(moves(start, two)) == 0
    assert largest(moves(two, three)) > 0
    # The steps of a run that goes on have been counted.
    ((four, _),) = train(model, 1, frozen_steps=2)
    assert largest(moves(three, four)) > 0


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_cutoff_frequencies_in_hz_move_as_fast_as_those_in_radians(factor):
    model = build(keras.optimizers.Adam, cls=frontend.SincNet)
    before, _ = values(model)
    ((after, _),) = train(model, 1, factor=factor)
    for path, moved in moves(before, after).items():
        # The first step of Adam moves each weight by the learning rate.
        in_hz = 4000 / (2 * np.pi) if "complex_conv" in path else 1
        np.testing.assert_allclose(
            np.median(np.abs(moved)), RATE * factor * in_hz, rtol=0.1
        )


def test_the_optimizer_is_left_as_it_was():
    model = build()
    train(model, 1, factor=0)
    start, _ = values(model)
    ((after, _),) = train(model, 1)
    assert largest(moves(start, after)) > 0


def test_with_accumulated_gradients_it_is_frozen_for_as_many_batches():
    model = build(
        functools.partial(keras.optimizers.SGD, gradient_accumulation_steps=2)
    )
    start, _ = values(model)
    after = [own for own, _ in train(model, 4, frozen_steps=2)]
    assert largest(moves(start, after[2])) == 0
    assert largest(moves(start, after[3])) > 0


def test_cutoff_frequencies_are_found_in_any_model():
    model = keras.Sequential(
        [
            keras.Input((800,)),
            frontend.SincNet(n_filters=2, sample_rate=4000),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    (layer,) = find_layers(model, convolution.SincConv1D)
    before = keras.ops.convert_to_numpy(layer.kernel)
    audio = np.random.default_rng(0).standard_normal((4, 800)).astype("float32")
    with optimizers.frontend_rate(model, 1.0, 0):
        model.fit(audio, np.array([0, 1, 2, 0]), batch_size=4, verbose=0)
    moved = np.abs(keras.ops.convert_to_numpy(layer.kernel) - before)
    np.testing.assert_allclose(
        np.median(moved), RATE * 4000 / (2 * np.pi), rtol=0.1
    )


@pytest.mark.parametrize("name", ["Nadam", "Ftrl"])
def test_some_optimizers_cannot_give_the_frontend_a_rate_of_its_own(name):
    cls = getattr(keras.optimizers, name)
    leaf = build(cls)
    message = f"must not be {name}.*Received: frontend_learning_rate_factor=0.5"
    with pytest.raises(ValueError, match=message):
        optimizers.check_frontend_rate(leaf, 0.5, 0)
    optimizers.check_frontend_rate(leaf, 1, 0)
    with pytest.raises(ValueError, match=f"{name}.*a model with SincConv1D"):
        build(cls, cls=frontend.SincNet)


def test_a_rate_of_a_frontend_that_learns_nothing_is_refused():
    model = build(keras.optimizers.Adam, cls=frontend.MelFilterbanks)
    optimizers.check_frontend_rate(model, 1, 0)
    for settings, named in (
        ((1, 2), "frozen_frontend_epochs=2"),
        ((0.1, 0), "0.1"),
    ):
        with pytest.raises(ValueError, match=f"learns nothing.*{named}"):
            optimizers.check_frontend_rate(model, *settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"frontend_learning_rate_factor": -1},
        {"frontend_learning_rate_factor": None},
        {"frozen_frontend_epochs": -0.5},
        {"frozen_frontend_epochs": "two"},
        {"label_smoothing": 1},
        {"min_steps_per_epoch": 0},
    ],
)
def test_a_wrong_setting_is_named(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"`{name}` must.*{name}={value!r}"):
        TrainingConfig("runs/x", **settings)
