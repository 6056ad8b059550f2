"""Makes audio files, sound and damaged ones, and reads prepared clips."""

import os
import socket
import zlib

import numpy as np
import soundfile

RATE = 16000


def sine(hz, rate=RATE, seconds=0.25, level=0.5):
    return level * np.sin(
        2 * np.pi * hz * np.arange(int(rate * seconds)) / rate
    )


def put(path, samples=None, rate=RATE, **options):
    """Writes a file. By default, each has a tone of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples is None:
        place = "/".join(path.parts[-3:]).encode("utf-8", "surrogateescape")
        samples = sine(440 + zlib.crc32(place) / 2**32)
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
    elif how in ("far too loud", "far too loud, another rate"):
        rate = RATE if how == "far too loud" else 44100
        put(path, sine(300, rate, level=3e38), rate, subtype="FLOAT")
    elif how == "infinite as float32":
        put(path, sine(300, level=1e300), subtype="DOUBLE")
    elif how == "cut off aiff":
        put(path, format="AIFF")
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "cut off telephone wav":
        put(path, rate=8000, subtype="GSM610")
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.unlink()
        make_special(path, how)


def make_special(path, how):
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "socket":
        # A socket's path is limited to about 100 characters.
        here = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "broken link":
        path.symlink_to("nowhere.wav")
    elif how == "link to itself":
        path.symlink_to(path)


SPOILS = [
    ("no audio", "not recognised|unknown"),
    ("empty file", "the file is empty"),
    ("no samples", "no samples"),
    ("not finite", "not finite"),
    ("cut off", "cut off: 1000 bytes"),
    ("cut off flac", "flac decoder"),
    ("absurd rate", "3 Hz"),
    ("too short", "empty at 16000 Hz"),
    ("far too loud", "samples of 3.0e.38"),
    ("far too loud, another rate", "samples of 3.0e.38"),
    ("infinite as float32", "not finite"),
    ("cut off aiff", "cut off: 1000 bytes"),
    ("cut off telephone wav", "cut off: 199 bytes"),
    ("folder", "a folder"),
    ("pipe", "a pipe or a device"),
    ("socket", "a pipe or a device"),
    ("device", "a pipe or a device"),
    ("broken link", "no such file"),
    ("link to itself", "too many levels"),
]
