"""index.csv: columns, segments, folds."""

import numpy as np
import pytest
import soundfile
from audio_files import RATE, audio_of, labels_of, put

from leaf_audio.data import DataWarning, entries, index_csv, recordings

pytestmark = pytest.mark.any_backend

COLUMNS = "file,label,split"


def write(root, header, *lines):
    root.mkdir(exist_ok=True)
    (root / "index.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


@pytest.mark.parametrize(
    "header, unknown, meant",
    [
        ("file,label,Split", "Split", "'split'"),
        ("file,label,splits", "splits", "'split'"),
        ("file,label,subset", "subset", "'split'"),
        ("file,label,split,onset,offset", "onset", "'start'"),
        ("file,label,split,start,offset", "offset", "'end'"),
        ("file,label,split,offset,duration", "offset", "'start' or 'end'"),
        ("file,label,split,Begin Time (s),End Time (s)", "Begin Time", "start"),
        ("file,label,start_s,end_s", "start_s", "'start'"),
        ("file,label,start_sample,end_sample", "start_sample", "'start', in"),
        ("file,label,start,end_sample", "end_sample", "'end', in seconds"),
        ("file,label,Start (ms),End (ms)", "Start (ms)", "'start', in seconds"),
        ("file,label,onset_ms,offset_ms", "onset_ms", "'start', in seconds"),
        ("file,label,tmin,tmax", "tmin", "'start', in seconds"),
        ("file,label,from,to", "from", "'start', in seconds"),
        ("file,label,t0,t1", "t0", "'start', in seconds"),
        ("file,label,split,begin_s,duration", "begin_s", "'start', in seconds"),
        ("filename,label", "filename", "'file'"),
        ("path,label", "path", "'file'"),
        ("file,class", "class", "'label'"),
        ("file,Label", "Label", "'label'"),
        ("file,lable", "lable", "'label'"),
        ("file,label,folds", "folds", "'fold'"),
        ("file,label,speaker_id", "speaker_id", "'speaker'"),
    ],
)
def test_an_unknown_column_is_named_with_the_nearest(
    tmp_path, header, unknown, meant
):
    write(tmp_path, header)
    with pytest.raises(ValueError, match="Did you mean") as error:
        index_csv.read_index(tmp_path)
    message = str(error.value)
    assert f"unknown '{unknown}" in message
    assert meant in message
    assert ", ".join(index_csv.COLUMNS) in message


@pytest.mark.parametrize(
    "header, unused",
    [
        (COLUMNS, []),
        ("file,label,split,speaker", []),
        ("file,label,split,duration_s", ["duration_s"]),
        ("file,label,split,duration", ["duration"]),
        ("file,label,start,end,duration,tmin", ["duration", "tmin"]),
        # What is left without a unit is no name of a column.
        ("file,label,split,ms,frames,s", ["ms", "frames", "s"]),
        ("file,label,split,age,comment,", ["age", "comment", ""]),
        # Nothing is missed for which these could stand.
        ("file,label,split,target,category", ["target", "category"]),
        ("file,label,split,speaker_id,cv", ["speaker_id", "cv"]),
        ("file,label,start,end,offset", ["offset"]),
    ],
)
def test_other_columns_are_told(tmp_path, header, unused):
    write(tmp_path, header)
    assert index_csv.read_index(tmp_path).unused_columns == unused


def test_unused_columns_and_unlisted_files_are_warned_of(folder, read_folder):
    lines = [
        f"{file.relative_to(folder)},{file.parent.name},train,7"
        for file in sorted(folder.rglob("*.wav"))
    ]
    write(folder, f"{COLUMNS},age", *lines[:-4])
    with pytest.warns(DataWarning) as caught:
        result = read_folder(folder)
    assert [str(one.message) for one in caught] == list(result.warnings)
    columns, files = result.warnings
    assert "not used: 'age'" in columns and "start, end" in columns
    assert "4 files ('validation/no/0.wav'" not in files
    assert "4 files ('train/yes/1.wav', 'train/yes/2.wav'" in files
    assert "'validation/no/0.wav' and 1 more)" in files


def test_a_speaker_in_several_splits_is_warned_of(folder, read_folder):
    lines = [
        f"{file.relative_to(folder)},{file.parent.name},{split},bob"
        for split in ("train", "validation", "test")
        for file in sorted((folder / split).rglob("*.wav"))
    ]
    write(folder, "file,label,split,speaker", *lines)
    with pytest.warns(DataWarning, match="several splits: 'bob'"):
        read_folder(folder)


@pytest.mark.parametrize(
    "header, line, message",
    [
        ("file;label;split", "", "comma-separated.*file;label;split"),
        ("file,label,label", "", r"each column once.*\['label'\]"),
        ("file,label,start", "", "both columns, start and end"),
        ("file,label,end", "", "both columns, start and end"),
        ("file,label,start,duration", "", "both.*`end` is `start` and the dur"),
        ("file,label,start,Duration (s)", "", "`end` is `start` and the dur"),
        ("file,label,end,notes", "", "both columns.*leave its place empty"),
        (COLUMNS, "x.wav, ,train", "`file` and `label` must be.*label=' '"),
        (COLUMNS, "x.wav,a,train,b", r"line 2 of .*\['b'\] after the last"),
        ("file,label,fold", "x.wav,a,", "`fold` must be given in line 2"),
        ("file,label,start,end", "x.wav,a,1:30,2:00", "start='1:30'"),
        ("file,label,start,end", 'x.wav,a,"1,5",2', "start='1,5'"),
        ("file,label,start,end", "x.wav,a,-1,2", "start='-1'"),
        ("file,label,start,end", "x.wav,a,0,inf", "end='inf'"),
        ("file,label,start,end", "x.wav,a,nan,2", "start='nan'"),
        ("file,label,start,end", "x.wav,a,2,1", "after `start`.*line 2.*x.wav"),
        ("file,label,start,end", "x.wav,a,,0", "after `start`.*end=0"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, header, line, message):
    write(tmp_path, header, line)
    with pytest.raises(ValueError, match=message):
        index_csv.read_index(tmp_path)


def test_white_space_around_a_value_makes_no_label_of_its_own(tmp_path):
    write(
        tmp_path,
        "file,label,split,fold,speaker",
        "1.wav,a dog,train,1,bob",
        "2.wav, a dog ,train , 1, bob",
        "3.wav,a dog\t,\u00a0train,1\t,\u00a0bob ",
    )
    entries = index_csv.read_index(tmp_path).entries
    found = {(e.labels, e.split, e.fold, e.speaker) for e in entries}
    assert found == {(("a dog",), "train", None, "bob")}
    write(tmp_path, "file,label,fold", "1.wav,a,1", "2.wav,a, 1 ")
    assert {e.fold for e in index_csv.read_index(tmp_path).entries} == {"1"}


def test_a_segment_may_not_be_listed_twice(tmp_path):
    write(tmp_path, "file,label,start,end", "x.wav,a,1,2", "./x.wav,b,1.0,2.00")
    with pytest.raises(ValueError, match="twice.*line 3.*start=1.0, end=2.0"):
        index_csv.read_index(tmp_path)


@pytest.fixture
def long_files(tmp_path):
    """Files of two seconds in several formats, and their samples."""
    root = tmp_path / "long"
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    for name in ("x.wav", "x.flac", "x.ogg", "x.mp3"):
        put(root / name, noise)
    return root


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3"])
def test_segments_are_cut_where_the_index_says(long_files, read_folder, name):
    for path in long_files.iterdir():
        if path.name != name:
            path.unlink()
    write(
        long_files,
        "file,label,start,end,split",
        f"{name},b,1.25,1.5,train",
        f"{name},a,0.5,1.0,train",
        f"{name},b,,0.25,train",
        f"{name},a,1.5,,train",
        # Beyond the end by less than times are rounded.
        f"{name},a,1.75,2.004,train",
        f"{name},a,,,test",
        f"{name},b,0.5,1.5,test",
    )
    with pytest.warns(DataWarning, match="train has 2 clips of test"):
        result = read_folder(long_files)
    assert labels_of(result) == ["b", "a", "b", "a", "a"]
    whole, _ = soundfile.read(long_files / name, dtype="float32")
    expected = [(0, 0.25), (0.5, 1), (1.25, 1.5), (1.5, 2), (1.75, 2)]
    for audio, (start, end) in zip(audio_of(result), expected, strict=True):
        part = whole[int(start * RATE) : int(end * RATE)]
        # Files of lossy formats are stored with 16 bits.
        np.testing.assert_allclose(audio, part, atol=2**-16)
    assert [len(a) for a in audio_of(result, "test")] == [2 * RATE, RATE]


def test_a_segment_is_decoded_without_the_rest_of_its_file(
    long_files, read_folder, decoded_counts
):
    write(
        long_files,
        "file,label,start,end,split",
        "x.wav,a,1.5,1.75,train",
        "x.wav,b,1.25,1.5,train",
        "x.flac,b,1.0,1.25,test",
        "x.flac,a,1.5,1.75,test",
    )
    for name in ("x.ogg", "x.mp3"):
        (long_files / name).unlink()
    read_folder(long_files)
    assert sum(decoded_counts) == RATE


@pytest.mark.parametrize(
    "segment, reason",
    [
        ("1.5,2.5", "the segment ends at 2.5 s, but .* only 2 s"),
        ("3,4", "the segment starts at 3 s, but .* only 2 s"),
        ("2,", "no samples"),
        ("1.00001,1.00002", "no samples"),
    ],
)
def test_a_segment_outside_its_file_is_named(
    long_files, read_folder, segment, reason
):
    for name in ("x.flac", "x.ogg", "x.mp3"):
        (long_files / name).unlink()
    write(
        long_files,
        "file,label,start,end,split",
        "x.wav,a,0,1,train",
        "x.wav,b,0,2,train",
        f"x.wav,b,{segment},train",
    )
    start = float(segment.split(",")[0])
    with pytest.raises(ValueError, match=f"file='x.wav, {start:g} s.*{reason}"):
        read_folder(long_files)
    result = read_folder(long_files, on_error="skip")
    assert result.counts == {"train": 2}
    ((name, told),) = result.skipped.items()
    assert name.startswith("x.wav, ") and told


def test_a_changed_segment_is_prepared_again(long_files, read_folder):
    header = "file,label,start,end,split"
    lines = [f"x.{kind},a,0,1,train" for kind in ("wav", "flac", "ogg")]
    write(long_files, header, *lines, "x.mp3,b,0,1,train")
    first = read_folder(long_files)
    write(long_files, header, *lines, "x.mp3,b,0,1.5,train")
    second = read_folder(long_files)
    assert first.fingerprint != second.fingerprint
    assert {len(audio) for audio in audio_of(second)} == {RATE, 3 * RATE // 2}


def test_a_column_of_folds_is_chosen_by_settings(folder, read_folder):
    files = sorted(folder.rglob("*.wav"))
    lines = [
        f"{file.relative_to(folder)},{file.parent.name},{i % 3 + 1}"
        for i, file in enumerate(files)
    ]
    write(folder, "file,label,fold", *lines)
    with pytest.raises(ValueError, match=r"test_folds = \['3'\]"):
        read_folder(folder)
    result = read_folder(folder, validation_folds=[2], test_folds=["3"])
    assert result.counts == {"train": 4, "validation": 4, "test": 4}
    # The column `split` decides where there are both.
    lines = [
        line + f",{('train', 'test')[i % 2]}" for i, line in enumerate(lines)
    ]
    write(folder, "file,label,fold,split", *lines)
    assert read_folder(folder).counts == {"train": 6, "test": 6}


def test_a_segment_is_the_same_whether_its_start_is_empty_or_0(tmp_path):
    put(tmp_path / "a.wav")
    write(tmp_path, "file,label,start,end", "a.wav,x,,2", "a.wav,y,0,2")
    with pytest.raises(ValueError, match="must not be listed twice"):
        index_csv.read_index(tmp_path)


@pytest.mark.parametrize("other", ["{}/a.wav", "../clips/a.wav", "x/../a.wav"])
def test_a_file_is_the_same_by_whatever_name(tmp_path, other):
    root = tmp_path / "clips"
    put(root / "a.wav")
    name = other.format(root)
    write(root, "file,label,split", "a.wav,b,train", f"{name},b,test")
    with pytest.raises(ValueError, match="must not be listed twice.*'a.wav'"):
        index_csv.read_index(root)


def test_files_elsewhere_can_be_listed_once(tmp_path):
    root = tmp_path / "clips"
    put(root / "a.wav")
    put(tmp_path / "other/b.wav")
    write(
        root,
        "file,label,split",
        "a.wav,x,train",
        "../other/b.wav,y,train",
        f"{tmp_path}/other/../other/b.wav,y,test",
    )
    with pytest.raises(ValueError, match="must not be listed twice"):
        index_csv.read_index(root)


def test_an_index_without_a_line_is_told(tmp_path):
    (tmp_path / "index.csv").write_text("file,label\n")
    with pytest.raises(ValueError, match="a line for each recording"):
        recordings.list_recordings(tmp_path)


def test_a_null_byte_in_a_name_is_told(tmp_path):
    put(tmp_path / "a.wav")
    write(tmp_path, "file,label,split", "a.wav,b,train", "b\0.wav,c,train")
    with pytest.raises(ValueError, match="without a null byte in line 3"):
        index_csv.read_index(tmp_path)


def test_an_empty_place_may_be_any_nan(tmp_path):
    put(tmp_path / "x.wav")
    put(tmp_path / "y.wav")
    rows = [
        {"file": f"{name}.wav", "label": name, "speaker": np.float32("nan")}
        for name in "xy"
    ]
    table = index_csv.index_of_rows(rows, tmp_path)
    assert [entry.speaker for entry in table.entries] == [None, None]


def test_seconds_with_an_underscore_are_no_number(tmp_path):
    put(tmp_path / "x.wav")
    write(tmp_path, "file,label,start,end", "x.wav,a,1_0,")
    with pytest.raises(ValueError, match="`start` must be .* start='1_0'"):
        index_csv.read_index(tmp_path)


def test_segments_that_are_close_have_names_of_their_own():
    names = {
        entries.Recording(
            "a.wav", ("x",), "train", None, start, start + 0.1
        ).name
        for start in (10000.12, 10000.14)
    }
    assert "a.wav, 10000.12 s to 10000.22 s" in names and len(names) == 2
