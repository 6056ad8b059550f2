"""Synthetic vowels: a data set that needs no download.

It holds one-second utterances of ten American English vowels by a hundred
synthetic speakers. The mean formants and pitches are those that Peterson and
Barney measured for men, women and children.

A voice is a source and a filter: a train of glottal pulses passes through five
resonators in cascade. The pulses vary in period (jitter) and height (shimmer),
and their pitch glides. Speakers differ in pitch, vocal tract length and voice
quality. Utterances differ in articulation, onset, duration, level, and in the
level and colour of the background noise. No speaker occurs in two splits.
"""

import contextlib
import dataclasses
import io
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from leaf_audio.data.flac import INT16_MAX
from leaf_audio.data.progress import progress

SAMPLE_RATE = 16000
LENGTH = SAMPLE_RATE
VOWELS = ("IY", "IH", "EH", "AE", "AA", "AO", "UH", "UW", "AH", "ER")
UTTERANCES_PER_VOWEL = 3

# Peterson & Barney (1952), Table II. In Hz, in the order of `VOWELS`.
MEANS = {
    "man": {
        "F0": (136, 135, 130, 127, 124, 129, 137, 141, 130, 133),
        "F1": (270, 390, 530, 660, 730, 570, 440, 300, 640, 490),
        "F2": (2290, 1990, 1840, 1720, 1090, 840, 1020, 870, 1190, 1350),
        "F3": (3010, 2550, 2480, 2410, 2440, 2410, 2240, 2240, 2390, 1690),
    },
    "woman": {
        "F0": (235, 232, 223, 210, 212, 216, 232, 231, 221, 218),
        "F1": (310, 430, 610, 860, 850, 590, 470, 370, 760, 500),
        "F2": (2790, 2480, 2330, 2050, 1220, 920, 1160, 950, 1400, 1640),
        "F3": (3310, 3070, 2990, 2850, 2810, 2710, 2680, 2670, 2780, 1960),
    },
    "child": {
        "F0": (272, 269, 260, 251, 256, 263, 276, 274, 261, 261),
        "F1": (370, 530, 690, 1010, 1030, 680, 560, 430, 850, 560),
        "F2": (3200, 2730, 2610, 2320, 1370, 1060, 1410, 1170, 1590, 1820),
        "F3": (3730, 3600, 3570, 3320, 3170, 3180, 3310, 3260, 3360, 2160),
    },
}
# In Hz. The table has no F4 and F5. These are usual values for each vocal tract
# length.
_UPPER_FORMANTS = {
    "man": (3500, 4500),
    "woman": (4100, 5200),
    "child": (4700, 5900),
}
# How many speakers of each group a split has.
_SPEAKERS = {
    "train": {"man": 28, "woman": 28, "child": 14},
    "validation": {"man": 6, "woman": 6, "child": 3},
    "test": {"man": 6, "woman": 6, "child": 3},
}
# Filtering multiplies spectra of this length, which is a circular convolution.
# The response of the resonators has decayed before it wraps around.
N_FFT = 2**14
_BINS = np.exp(-2j * np.pi * np.arange(N_FFT // 2 + 1) / N_FFT)


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A synthetic speaker.

    Attributes:
        name: A unique name.
        group: "man", "woman" or "child".
        pitch: The mean pitch, relative to the mean of the group.
        tract: The formants, relative to the means of the group.
        vowel_shifts: Array of shape (10, 3). The speaker's first three formants
            of each vowel, relative to what `tract` gives.
        pulse_cutoff_hz: The cutoff of the glottal low-pass filter, in Hz. Low
            is a breathy voice, high is a pressed voice.
        breath: The level of the noise in the source, relative to the pulses.
    """

    name: str
    group: str
    pitch: float
    tract: float
    vowel_shifts: np.ndarray
    pulse_cutoff_hz: float
    breath: float


class SyntheticVowels(tfds.core.GeneratorBasedBuilder):
    """Ten vowels in 2100 training, 450 validation and 450 test utterances.

    The features are `audio` (int16, 16000 samples at 16 kHz), `label` (the
    vowel), `speaker` and `group` ("man", "woman" or "child").
    """

    name = "synthetic_vowels"
    VERSION = tfds.core.Version("1.0.1")
    RELEASE_NOTES = {
        "1.0.0": "First release.",
        "1.0.1": "The same samples, stored as bytes.",
    }
    # TFDS uses the path only to find a list of downloads, and there are none.
    # To find the path itself, TFDS 4.9.10 needs a package that it does not
    # install.
    code_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=" ".join(__doc__.split()),
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Audio(
                        shape=(LENGTH,),
                        dtype=np.int16,
                        sample_rate=SAMPLE_RATE,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    "label": tfds.features.ClassLabel(names=VOWELS),
                    "speaker": tfds.features.Text(),
                    "group": tfds.features.ClassLabel(names=list(MEANS)),
                }
            ),
            supervised_keys=("audio", "label"),
            homepage="https://doi.org/10.1121/1.1906875",
            citation=(
                "@article{peterson1952control,\n"
                "  title={Control methods used in a study of the vowels},\n"
                "  author={Peterson, Gordon E and Barney, Harold L},\n"
                "  journal={The Journal of the Acoustical Society of America},"
                "\n  volume={24}, number={2}, pages={175--184}, year={1952}\n}"
            ),
        )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Prepares the set without the messages of TFDS about a download."""
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                super().download_and_prepare(**kwargs)
        finally:
            tfds.enable_progress_bar()

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # There is nothing to download.
        return {split: self._with_progress(split) for split in _SPEAKERS}

    def _with_progress(self, split: str) -> Iterator[tuple[str, dict]]:
        num_speakers = sum(_SPEAKERS[split].values())
        total = num_speakers * len(VOWELS) * UTTERANCES_PER_VOWEL
        utterances = self._generate_examples(split)
        description = f"Making {self.name} {split}"
        with progress(
            utterances, total, description, transient=True
        ) as tracked:
            yield from tracked

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        return examples(split)


def examples(split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a key and the features of each utterance of a split.

    Args:
        split: str. "train", "validation" or "test".
    """
    for speaker in speakers(split):
        for label, vowel in enumerate(VOWELS):
            for i in range(UTTERANCES_PER_VOWEL):
                key = f"{speaker.name}-{vowel}-{i}"
                samples = utter(speaker, label, random_generator(key))
                yield (
                    key,
                    {
                        # TFDS writes bytes several times faster than lists of
                        # numbers, and does not change an object array.
                        "audio": np.array(samples.tobytes(), object),
                        "label": label,
                        "speaker": speaker.name,
                        "group": speaker.group,
                    },
                )


def random_generator(key: str) -> np.random.Generator:
    """Returns a generator of random numbers that depend on the key only."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))


def speakers(split: str) -> Iterator[Speaker]:
    """Yields the speakers of a split.

    Args:
        split: str. "train", "validation" or "test".
    """
    for group, count in _SPEAKERS[split].items():
        for i in range(count):
            name = f"{split}-{group}-{i:02}"
            rng = random_generator(name)
            yield Speaker(
                name=name,
                group=group,
                pitch=np.exp(rng.normal(0, 0.12)),
                tract=np.exp(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
                vowel_shifts=np.exp(rng.normal(0, 0.03, (len(VOWELS), 3))),
                pulse_cutoff_hz=rng.uniform(80, 250),
                breath=10 ** rng.uniform(-2.5, -1),
            )


def utter(speaker: Speaker, label: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesizes one utterance in background noise.

    Args:
        speaker: Speaker.
        label: int. The index of the vowel in `VOWELS`.
        rng: The source of random numbers.

    Returns:
        An int16 array of shape (16000,).
    """
    duration = int(SAMPLE_RATE * rng.uniform(0.25, 0.7))
    onset = int(rng.uniform(0.02, 0.98) * (LENGTH - duration))
    source = glottal_source(speaker, label, duration, rng)
    spectrum = np.fft.rfft(source, N_FFT) * vocal_tract(speaker, label, rng)
    voice = np.fft.irfft(spectrum, N_FFT)[:duration]
    voice *= _envelope(duration, rng)
    voice /= np.sqrt(np.mean(voice**2))

    snr_db = rng.uniform(-3, 30)
    clip = _noise(rng) * 10 ** (-snr_db / 20)
    clip[onset : onset + duration] += voice
    peak_db = rng.uniform(-30, -1)
    clip *= 10 ** (peak_db / 20) / np.abs(clip).max()
    return np.round(clip * INT16_MAX).astype(np.int16)


def glottal_source(
    speaker: Speaker, label: int, duration: int, rng: np.random.Generator
) -> np.ndarray:
    """Synthesizes glottal pulses with breath noise.

    Args:
        speaker: Speaker.
        label: int. The index of the vowel in `VOWELS`.
        duration: int, in samples.
        rng: The source of random numbers.

    Returns:
        A float64 array of shape (duration,).
    """
    mean = MEANS[speaker.group]["F0"][label] * speaker.pitch
    start, end = mean * np.exp(rng.normal(0, 0.08, 2))
    seconds = duration / SAMPLE_RATE
    # More periods than fit into the duration, even at the higher pitch.
    count = int(1.5 * seconds * max(start, end)) + 2
    glide = np.linspace(start, end, count)
    periods = SAMPLE_RATE / glide * (1 + rng.normal(0, 0.01, count))
    instants = np.cumsum(periods)
    instants = instants[instants < duration - 1]
    heights = 1 + rng.normal(0, 0.05, len(instants))
    # A pulse between two samples is divided between them. It thereby keeps its
    # exact instant.
    whole = instants.astype(int)
    part = instants - whole
    source = np.bincount(whole, heights * (1 - part), duration)
    source += np.bincount(whole + 1, heights * part, duration)
    rms = np.sqrt(np.mean(source**2))
    return source + speaker.breath * rms * rng.standard_normal(duration)


def vocal_tract(
    speaker: Speaker, label: int, rng: np.random.Generator
) -> np.ndarray:
    """Computes the frequency response of glottis, vocal tract and lips.

    Args:
        speaker: Speaker.
        label: int. The index of the vowel in `VOWELS`.
        rng: The source of random numbers.

    Returns:
        A complex array of shape (N_FFT // 2 + 1,), from 0 Hz to 8 kHz.
    """
    means = [MEANS[speaker.group][f][label] for f in ("F1", "F2", "F3")]
    lower = speaker.tract * np.array(means) * speaker.vowel_shifts[label]
    lower *= np.exp(rng.normal(0, 0.025, 3))
    upper = speaker.tract * np.array(_UPPER_FORMANTS[speaker.group])
    formants = np.concatenate([lower, upper])
    bandwidths = (50 + 0.04 * formants) * np.exp(rng.normal(0, 0.2, 5))

    # Radiation at the lips acts as a differentiator.
    response = 1 - _BINS
    pole = np.exp(-2 * np.pi * speaker.pulse_cutoff_hz / SAMPLE_RATE)
    response = response * ((1 - pole) / (1 - pole * _BINS)) ** 2
    radii = np.exp(-np.pi * bandwidths / SAMPLE_RATE)
    angles = 2 * np.pi * formants / SAMPLE_RATE
    for radius, angle in zip(radii, angles, strict=True):
        a1, a2 = -2 * radius * np.cos(angle), radius**2
        # The gain at 0 Hz is 1, as in a lossless tube that is open at one end.
        response = response * (1 + a1 + a2)
        response = response / (1 + a1 * _BINS + a2 * _BINS**2)
    return response


def _envelope(duration: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a gain that rises at the beginning and falls at the end."""
    attack, release = (SAMPLE_RATE * rng.uniform(0.01, 0.1, 2)).astype(int)
    envelope = np.ones(duration)
    envelope[:attack] = np.sin(np.linspace(0, np.pi / 2, attack)) ** 2
    envelope[-release:] = np.cos(np.linspace(0, np.pi / 2, release)) ** 2
    return envelope


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Returns noise of power 1, with a colour between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(LENGTH))
    # A clip lasts one second, so that bins are 1 Hz apart.
    frequency = np.maximum(np.arange(len(spectrum)), 50)
    noise = np.fft.irfft(spectrum * frequency ** -rng.uniform(0, 1), LENGTH)
    return noise / np.sqrt(np.mean(noise**2))
