"""Makes audio files, sound and damaged ones, and reads prepared clips."""

import numpy as np
import soundfile

RATE = 16000


def sine(hz, rate=RATE, seconds=0.25, level=0.5):
    return level * np.sin(
        2 * np.pi * hz * np.arange(int(rate * seconds)) / rate
    )


def put(path, samples=None, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = sine(440) if samples is None else samples
    soundfile.write(path, samples, rate, **options)
    return path


def audio_of(audio_data, split="train"):
    return [a for a, _ in audio_data.splits[split].as_numpy_iterator()]


def labels_of(audio_data, split="train"):
    return [
        audio_data.label_names[label]
        for _, label in audio_data.splits[split].as_numpy_iterator()
    ]


def spoil(path, how):
    if how == "no audio":
        path.write_bytes(b"this is no audio at all" * 9)
    elif how == "empty file":
        path.write_bytes(b"")
    elif how == "no samples":
        put(path, np.zeros(0))
    elif how == "not finite":
        samples = sine(300)
        samples[7] = np.nan
        put(path, samples, subtype="FLOAT")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "cut off flac":
        put(path, format="FLAC")
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "absurd rate":
        put(path, rate=3)
    elif how == "too short":
        put(path, np.zeros(1), 96000)


SPOILS = [
    ("no audio", "not recognised|unknown"),
    ("empty file", "the file is empty"),
    ("no samples", "no samples"),
    ("not finite", "not finite"),
    ("cut off", "cut off: 1000 bytes"),
    ("cut off flac", "flac decoder"),
    ("absurd rate", "3 Hz"),
    ("too short", "empty at 16000 Hz"),
]
