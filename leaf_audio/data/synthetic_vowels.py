"""Synthetic vowels: a data set that needs no download.

One-second utterances of ten American English vowels by a hundred made-up
speakers, from the mean formants and pitches that Peterson and Barney measured
on men, women and children. Voice is source and filter: a train of glottal
pulses (jittered, shimmering, gliding in pitch) passes through five resonators
in cascade. Speakers differ in pitch, vocal tract length and voice quality;
utterances in articulation, onset, duration, level, background noise and its
colour. No speaker is in two splits.
"""

import contextlib
import dataclasses
import io
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from leaf_audio.data import clips

SAMPLE_RATE = 16000
LENGTH = SAMPLE_RATE
VOWELS = ("IY", "IH", "EH", "AE", "AA", "AO", "UH", "UW", "AH", "ER")
UTTERANCES_PER_VOWEL = 3

# Peterson & Barney (1952), Table II, in Hz, in the order of VOWELS.
_MEANS = {
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
# F4 and F5 are not in the table; these are usual values for each tract length.
_UPPER_FORMANTS = {
    "man": (3500, 4500),
    "woman": (4100, 5200),
    "child": (4700, 5900),
}
_SPEAKERS = {
    "train": {"man": 28, "woman": 28, "child": 14},
    "validation": {"man": 6, "woman": 6, "child": 3},
    "test": {"man": 6, "woman": 6, "child": 3},
}
# Long enough that the cascade has died down before the circular convolution
# wraps around.
_N_FFT = 2**14
_BINS = np.exp(-2j * np.pi * np.arange(_N_FFT // 2 + 1) / _N_FFT)


@dataclasses.dataclass(frozen=True)
class _Speaker:
    name: str
    group: str
    pitch: float  # relative to the group's mean F0
    tract: float  # relative to the group's mean formants
    vowel_shifts: np.ndarray  # (10, 3), own habits, relative
    pulse_cutoff_hz: float  # of the glottal low-pass: breathy to pressed
    breath: float  # noise in the source, relative to the pulses


class SyntheticVowels(tfds.core.GeneratorBasedBuilder):
    """Ten vowels, 2100 training, 450 validation and 450 test utterances."""

    name = "synthetic_vowels"
    VERSION = tfds.core.Version("1.0.1")
    RELEASE_NOTES = {
        "1.0.0": "First release.",
        "1.0.1": "The same samples, stored as bytes.",
    }
    # Only leads to a list of downloads, of which there are none; finding it
    # takes a package that TFDS 4.9.10 needs but does not install.
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
                    "group": tfds.features.ClassLabel(names=list(_MEANS)),
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
        """Prepares, without TFDS's report on a download."""
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                super().download_and_prepare(**kwargs)
        finally:
            tfds.enable_progress_bar()

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._with_progress(split) for split in _SPEAKERS}

    def _with_progress(self, split: str) -> Iterator[tuple[str, dict]]:
        speakers = sum(_SPEAKERS[split].values())
        total = speakers * len(VOWELS) * UTTERANCES_PER_VOWEL
        examples = self._generate_examples(split)
        description = f"Making {self.name} {split}"
        with clips.progress(examples, total, description, True) as tracked:
            yield from tracked

    def _generate_examples(
        self, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for speaker in _speakers(split):
            for label, vowel in enumerate(VOWELS):
                for i in range(UTTERANCES_PER_VOWEL):
                    key = f"{speaker.name}-{vowel}-{i}"
                    samples = _utter(speaker, label, _generator(key))
                    yield (
                        key,
                        {
                            # TFDS writes arrays as they are, lists of numbers
                            # several times slower than bytes.
                            "audio": np.array(samples.tobytes(), object),
                            "label": label,
                            "speaker": speaker.name,
                            "group": speaker.group,
                        },
                    )


def _generator(key: str) -> np.random.Generator:
    """Random numbers that depend on the key alone, not on any order."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))


def _speakers(split: str) -> Iterator[_Speaker]:
    for group, count in _SPEAKERS[split].items():
        for i in range(count):
            name = f"{split}-{group}-{i:02}"
            rng = _generator(name)
            yield _Speaker(
                name=name,
                group=group,
                pitch=np.exp(rng.normal(0, 0.12)),
                tract=np.exp(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
                vowel_shifts=np.exp(rng.normal(0, 0.03, (len(VOWELS), 3))),
                pulse_cutoff_hz=rng.uniform(80, 250),
                breath=10 ** rng.uniform(-2.5, -1),
            )


def _utter(
    speaker: _Speaker, label: int, rng: np.random.Generator
) -> np.ndarray:
    """One utterance as 16-bit samples."""
    duration = int(SAMPLE_RATE * rng.uniform(0.25, 0.7))
    onset = int(rng.uniform(0.02, 0.98) * (LENGTH - duration))
    source = _source(speaker, label, duration, rng)
    spectrum = np.fft.rfft(source, _N_FFT) * _vocal_tract(speaker, label, rng)
    voice = np.fft.irfft(spectrum, _N_FFT)[:duration]
    voice *= _envelope(duration, rng)
    voice /= np.sqrt(np.mean(voice**2))

    snr_db = rng.uniform(-3, 30)
    clip = _noise(rng) * 10 ** (-snr_db / 20)
    clip[onset : onset + duration] += voice
    peak_db = rng.uniform(-30, -1)
    clip *= 10 ** (peak_db / 20) / np.abs(clip).max()
    return np.round(clip * 32767).astype(np.int16)


def _source(
    speaker: _Speaker, label: int, duration: int, rng: np.random.Generator
) -> np.ndarray:
    """Glottal impulses with breath noise."""
    mean = _MEANS[speaker.group]["F0"][label] * speaker.pitch
    start, end = mean * np.exp(rng.normal(0, 0.08, 2))
    seconds = duration / SAMPLE_RATE
    # More periods than fit at the higher of the two pitches.
    count = int(1.5 * seconds * max(start, end)) + 2
    glide = np.linspace(start, end, count)
    periods = SAMPLE_RATE / glide * (1 + rng.normal(0, 0.01, count))
    instants = np.cumsum(periods)
    instants = instants[instants < duration - 1]
    heights = 1 + rng.normal(0, 0.05, len(instants))
    # Shared between the two nearest samples, a pulse keeps its exact instant.
    whole = instants.astype(int)
    part = instants - whole
    source = np.bincount(whole, heights * (1 - part), duration)
    source += np.bincount(whole + 1, heights * part, duration)
    rms = np.sqrt(np.mean(source**2))
    return source + speaker.breath * rms * rng.standard_normal(duration)


def _vocal_tract(
    speaker: _Speaker, label: int, rng: np.random.Generator
) -> np.ndarray:
    """Frequency response of glottis, tract and lips."""
    means = [_MEANS[speaker.group][f][label] for f in ("F1", "F2", "F3")]
    lower = speaker.tract * np.array(means) * speaker.vowel_shifts[label]
    lower *= np.exp(rng.normal(0, 0.025, 3))
    upper = speaker.tract * np.array(_UPPER_FORMANTS[speaker.group])
    formants = np.concatenate([lower, upper])
    bandwidths = (50 + 0.04 * formants) * np.exp(rng.normal(0, 0.2, 5))

    response = 1 - _BINS  # radiation at the lips differentiates
    pole = np.exp(-2 * np.pi * speaker.pulse_cutoff_hz / SAMPLE_RATE)
    response = response * ((1 - pole) / (1 - pole * _BINS)) ** 2
    radii = np.exp(-np.pi * bandwidths / SAMPLE_RATE)
    angles = 2 * np.pi * formants / SAMPLE_RATE
    for radius, angle in zip(radii, angles, strict=True):
        a1, a2 = -2 * radius * np.cos(angle), radius**2
        # Unit gain at 0 Hz, as in a lossless tube that is open at one end.
        response = response * (1 + a1 + a2)
        response = response / (1 + a1 * _BINS + a2 * _BINS**2)
    return response


def _envelope(duration: int, rng: np.random.Generator) -> np.ndarray:
    attack, release = (SAMPLE_RATE * rng.uniform(0.01, 0.1, 2)).astype(int)
    envelope = np.ones(duration)
    envelope[:attack] = np.sin(np.linspace(0, np.pi / 2, attack)) ** 2
    envelope[-release:] = np.cos(np.linspace(0, np.pi / 2, release)) ** 2
    return envelope


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Unit-power background between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(LENGTH))
    frequency = np.maximum(np.arange(len(spectrum)), 50)  # 1 Hz apart
    noise = np.fft.irfft(spectrum * frequency ** -rng.uniform(0, 1), LENGTH)
    return noise / np.sqrt(np.mean(noise**2))
