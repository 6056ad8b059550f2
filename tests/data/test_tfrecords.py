"""TFRecord files of other programs, in the layout of audax."""

import io
import json
import zlib

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from audio_files import RATE, audio_of, sine

from leaf_audio import data
from leaf_audio.app import configuration
from leaf_audio.data.tfrecords import tfrecords

pytestmark = pytest.mark.any_backend


def flac(samples, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def example(content, labels, **changes):
    features = {
        "audio": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[content])
        ),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
        "duration": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    } | changes
    features = {k: v for k, v in features.items() if v is not None}
    features = tf.train.Features(feature=features)
    return tf.train.Example(features=features).SerializeToString()


def write(path, records, compression="ZLIB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def tones(count, labels=lambda i: [i % 3]):
    return [example(flac(sine(300 + 50 * i)), labels(i)) for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "records"
    records = tones(8)
    write(root / "train/file_00000-00002_bytes_compressed.tfrec", records[:3])
    write(root / "train/file_00001-00002_bytes_compressed.tfrec", records[3:5])
    write(root / "val/file_00000-00001_bytes_compressed.tfrec", records[5:6])
    write(root / "eval/file_00000-00001_bytes_compressed.tfrec", records[6:])
    return root


def read(folder, **options):
    prepared = str(folder.parent / "prepared")
    return tfrecords(path=str(folder), data_dir=prepared, **options)


def test_records_are_read_in_order(folder):
    found = read(folder)
    assert found.counts == {"train": 5, "validation": 1, "test": 2}
    assert found.label_names == ("0", "1", "2")
    assert found.clips["train"].labels.tolist() == [0, 1, 2, 0, 1]
    for i, audio in enumerate(audio_of(found)):
        np.testing.assert_allclose(audio, sine(300 + 50 * i), atol=2**-15)


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_compression_is_recognised(tmp_path, compression):
    write(tmp_path / "records/train/a", tones(4), compression)
    assert read(tmp_path / "records").counts == {"train": 4}


def test_names_come_from_a_map_or_a_list(folder, tmp_path):
    label_map = tmp_path / "lbl_map.json"
    label_map.write_text(json.dumps({"dog": 1, "cat": 0, "cow": 2, "emu": 3}))
    names = ("cat", "dog", "cow", "emu")
    assert read(folder, label_names=str(label_map)).label_names == names
    assert read(folder, label_names=list(names)).label_names == names


def test_several_labels_of_a_record(tmp_path):
    write(tmp_path / "r/train/a", tones(3, lambda i: list(range(i))))
    found = read(tmp_path / "r", several_labels=True)
    assert found.clips["train"].labels.tolist() == [
        [False, False],
        [True, False],
        [True, True],
    ]


def test_another_rate_is_resampled(tmp_path):
    slow = example(flac(sine(300, rate=8000), 8000), [0])
    write(tmp_path / "r/train/a", [slow, *tones(2)])
    first, *_ = audio_of(read(tmp_path / "r"))
    assert len(first) == len(sine(300))
    assert np.std((first - sine(300))[400:-400]) < 1e-3
    assert read(tmp_path / "r", sample_rate=8000).sample_rate == 8000


def test_audio_that_cannot_be_decoded_is_told_or_skipped(folder):
    bad = example(b"no audio", [1])
    write(folder / "train/file_00002", [*tones(1), bad])
    with pytest.raises(ValueError, match=r"file='train/file_00002 1': "):
        read(folder)
    found = read(folder, on_error="skip")
    assert found.counts["train"] == 6
    assert list(found.skipped) == ["train/file_00002 1"]


def test_changed_files_are_prepared_again(folder):
    first = read(folder)
    assert read(folder).path == first.path
    write(folder / "train/file_00002", tones(1))
    assert read(folder).counts["train"] == 6


BYTES = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"b"]))


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([b"nothing"], {}, "something else as 'train/a 0'"),
        ([example(b"", [0], audio=None)], {}, "'audio', while 'train/a 0' has"),
        ([example(b"", [0], audio=BYTES)], {}, "2 values in 'train/a 0'"),
        (tones(2, lambda i: [0, 1]), {}, "2 labels in 'train/a 0'"),
        (tones(2, lambda i: []), {}, "0 labels in 'train/a 0'"),
        (tones(2, lambda i: [-1]), {}, "-1 in 'train/a 0'"),
        (tones(2, lambda i: [2**40]), {}, "1099511627776 in 'train/a 0'"),
        ([example(b"", [0], label=BYTES)], {}, "a bytes_list in 'train/a 0'"),
        (
            [],
            {},
            "usable records with labels in train. Received: .*'none'|none",
        ),
        ([example(b"x", [0])], {"on_error": "skip"}, "usable records"),
        (tones(3), {"label_names": ["a", "b"]}, "to 1. Received: 2 in"),
        (tones(1), {"label_key": "class"}, "'class', while 'train/a 0' has"),
        (tones(1), {"label_names": ["a", "a"]}, "different names"),
        (tones(1), {"label_names": "missing.json"}, "No such file"),
        (tones(1), {"sample_rate": 1}, "a rate in Hz"),
        (tones(1), {"on_error": "ignore"}, "'raise' or 'skip'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, records, options, message):
    write(tmp_path / "r/train/a", records)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "r", **options)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"something else", b"x" * 2000]
)
def test_a_file_of_something_else_is_named(folder, content):
    path = folder / "train/file_00001-00002_bytes_compressed.tfrec"
    path.write_bytes(content)
    if not content:
        assert read(folder).counts["train"] == 3
        return
    with pytest.raises(ValueError, match=f"file='{path}', which is damaged"):
        read(folder)


def test_a_file_that_is_cut_off_is_named(folder):
    path = folder / "train/file_00001-00002_bytes_compressed.tfrec"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=f"file='{path}', which is damaged"):
        read(folder)


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("kept", [1, 11])
def test_a_file_that_ends_within_the_header_of_a_record_is_named(
    tmp_path, compression, kept
):
    first, second = tones(2)
    path = tmp_path / "r/train/a"
    write(path, [first, second], "")
    # For TensorFlow, the file ends after the first record.
    cut = path.read_bytes()[: 16 + len(first) + kept]
    if compression:
        stream = zlib.compressobj(wbits=31 if compression == "GZIP" else 15)
        cut = stream.compress(cut) + stream.flush(zlib.Z_SYNC_FLUSH)
    path.write_bytes(cut)
    with pytest.raises(ValueError, match=f"file='{path}', which is damaged"):
        read(tmp_path / "r")


def test_what_follows_a_compressed_file_is_told(tmp_path):
    path = tmp_path / "r/train/a"
    write(path, tones(2), "ZLIB")
    whole = path.read_bytes()
    for more, reason in ((whole, "2 records take"), (b"more", "do not end as")):
        path.write_bytes(whole + more)
        with pytest.raises(ValueError, match=reason):
            read(tmp_path / "r")


def test_a_folder_without_training_records_is_named(tmp_path):
    (tmp_path / "r/clips").mkdir(parents=True)
    with pytest.raises(ValueError, match="with the folders clips"):
        read(tmp_path / "r")
    write(tmp_path / "r/test/a", tones(2))
    with pytest.raises(ValueError, match="with the folders clips, test"):
        read(tmp_path / "r")
    assert read(tmp_path / "r", for_training=False).counts == {"test": 2}


def test_it_is_configured_by_gin(folder, fresh_gin):
    from leaf_audio.app import train as gin_training

    configuration.parse(
        [],
        [
            "train.dataset = 'tfrecords'",
            f"tfrecords.path = '{folder}'",
            f"train.data_dir = '{folder.parent / 'prepared'}'",
        ],
    )
    assert gin_training.load_for_training().counts["train"] == 5


def test_load_finds_it_by_name(folder):
    import functools

    reader = functools.partial(tfrecords, path=str(folder))
    prepared = str(folder.parent / "prepared")
    found = data.load(
        "tfrecords", prepared, 8000, readers={"tfrecords": reader}
    )
    assert found.sample_rate == 8000


def test_audio_is_checked_as_files_are(tmp_path):
    whole = io.BytesIO()
    soundfile.write(whole, sine(300), RATE, format="WAV", subtype="PCM_16")
    cut = example(whole.getvalue()[:-2000], [1])
    write(tmp_path / "r/train/a", [*tones(2), cut])
    found = read(tmp_path / "r", on_error="skip")
    assert found.skipped == {
        "train/a 2": "it is cut off: 2000 bytes are missing"
    }


def test_a_higher_rate_is_not_rounded_to_16_bits(tmp_path):
    write(tmp_path / "r/train/a", tones(2))
    levels = audio_of(read(tmp_path / "r", sample_rate=2 * RATE))[0] * 2**15
    assert np.abs(levels - np.round(levels)).max() > 0.4


def test_quiet_audio_of_many_bits_is_kept(tmp_path):
    quiet = 1e-5 * sine(300)
    file = io.BytesIO()
    soundfile.write(file, quiet, RATE, format="WAV", subtype="FLOAT")
    write(tmp_path / "r/train/a", [example(file.getvalue(), [0]), *tones(2)])
    np.testing.assert_allclose(
        audio_of(read(tmp_path / "r"))[0], quiet, atol=1e-11
    )
