"""The tables of data sets as their owners publish them, in tiny folders."""

import numpy as np
import pytest
from audio_files import labels_of, put, sine

from leaf_audio import data
from leaf_audio.data import DataWarning
from leaf_audio.data.recordings import list_recordings

pytestmark = pytest.mark.any_backend

CLASS_LABELS = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/m/0bt9lr,"Dog"
"""
SEGMENTS = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(read_folder, root, index, **options):
    return read_folder(root, index=index, **options)


@pytest.fixture
def audioset(tmp_path):
    root = tmp_path / "audioset"
    write(root / "class_labels_indices.csv", CLASS_LABELS)
    train = (
        '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/m/05zppz"\n'
        '-0RWZT-miFs, 420.000, 430.000, "/m/0bt9lr"\n'
        '_a-b_c, 30.000, 40.000, "/m/0bt9lr,/m/09x0r"\n'
        '1234567890a, 1.500, 11.500, "/m/09x0r"\n'
    )
    write(root / "balanced_train_segments.csv", SEGMENTS + train)
    test = 'zzzzzzzzzzz, 5.000, 15.000, "/m/05zppz,/m/09x0r,/m/0bt9lr"\n'
    write(root / "eval_segments.csv", SEGMENTS + test)
    put(root / "audio" / "balanced_train" / "--4gqARaEJE.wav", sine(200))
    put(root / "audio" / "balanced_train" / "Y-0RWZT-miFs.flac", sine(300))
    put(root / "audio" / "balanced_train" / "_a-b_c_30000_40000.wav", sine(350))
    put(root / "audio" / "balanced_train" / "1234567890a_1.5.wav", sine(400))
    put(root / "audio" / "eval" / "zzzzzzzzzzz.wav", sine(500))
    return root


def test_audioset_has_several_labels_by_name(read_folder, audioset):
    rows = {row["file"]: row for row in data.audioset_index(audioset)}
    assert rows["audio/balanced_train/--4gqARaEJE.wav"]["labels"] == [
        "Speech",
        "Male speech, man speaking",
    ]
    assert len(rows) == 5
    found = read(read_folder, audioset, data.audioset_index)
    labels = ("Dog", "Male speech, man speaking", "Speech")
    assert found.label_names == labels
    assert len(found.clips["train"]) == 4
    targets = [t for _, t in found.splits["train"].as_numpy_iterator()]
    # In the order of the files.
    expected = [[0, 1, 1], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
    np.testing.assert_array_equal(targets, expected)


def test_clips_without_a_file_are_counted(read_folder, audioset):
    (audioset / "audio" / "balanced_train" / "1234567890a_1.5.wav").unlink()
    message = "1 of the 4 recordings in balanced_train_segments.csv"
    with pytest.warns(DataWarning, match=message):
        found = read(read_folder, audioset, data.audioset_index)
    assert len(found.clips["train"]) == 3
    assert any(message in sentence for sentence in found.warnings)


@pytest.mark.parametrize(
    "name",
    [
        *("Y{}", "{}_420", "{}_420.0", "{}_420.000", "{}_420000"),
        *("{}_420_430", "{}_420.000_430.000", "Y{}_420000_430000"),
    ],
)
def test_audioset_finds_the_names_of_downloaders(audioset, name):
    folder = audioset / "audio" / "balanced_train"
    new = folder / f"{name.format('-0RWZT-miFs')}.flac"
    (folder / "Y-0RWZT-miFs.flac").rename(new)
    files = [row["file"] for row in data.audioset_index(audioset)]
    assert new.relative_to(audioset).as_posix() in files


def test_audio_is_taken_before_a_video_of_its_name(audioset):
    folder = audioset / "audio" / "balanced_train"
    for video in ("Y-0RWZT-miFs.mp4", "Y-0RWZT-miFs.webm"):
        (folder / video).write_bytes(b"video")
    files = [row["file"] for row in data.audioset_index(audioset)]
    assert "audio/balanced_train/Y-0RWZT-miFs.flac" in files
    put(audioset / "again" / "Y-0RWZT-miFs.wav")
    with pytest.raises(ValueError, match="one file.*again/Y-0.*balanced_train"):
        data.audioset_index(audioset)


def test_a_clip_in_two_lists_of_audioset_is_told(audioset):
    line = '-0RWZT-miFs, 420.000, 430.000, "/m/0bt9lr"\n'
    write(audioset / "eval_segments.csv", SEGMENTS + line)
    with pytest.raises(ValueError, match="balanced_train.*and eval_segments"):
        data.audioset_index(audioset)


def test_tables_may_have_a_byte_order_mark_and_any_line_ends(audioset):
    expected = data.audioset_index(audioset)
    for name in ("class_labels_indices.csv", "balanced_train_segments.csv"):
        text = (audioset / name).read_text()
        with open(audioset / name, "w", encoding="utf-8-sig", newline="") as f:
            f.write(text.replace("\n", "\r\n"))
    assert data.audioset_index(audioset) == expected


@pytest.mark.parametrize(
    "line, named",
    [
        ('abc, 0.000, 10.000, "/m/unknown"', "/m/unknown"),
        ('abc, 0.000, "/m/09x0r"', "identifier of a video"),
        ('abc, zero, 10.000, "/m/09x0r"', "zero"),
    ],
)
def test_a_line_of_audioset_that_is_wrong_is_shown(audioset, line, named):
    write(audioset / "eval_segments.csv", SEGMENTS + line + "\n")
    with pytest.raises(ValueError, match=named) as error:
        data.audioset_index(audioset)
    assert "eval_segments.csv" in str(error.value)


@pytest.fixture
def birdclef(tmp_path):
    root = tmp_path / "birdclef"
    header = "primary_label,secondary_labels,author,filename,rating"
    lines = [
        "acafly,\"['amegfi', 'x']\",Ann,XC1.ogg,2.5",
        'acafly,[],"Bo ""B"" Cod\nof a place",XC2.ogg,3',
        "amegfi,[],Ann,XC3.ogg,3",
    ]
    write(root / "train_metadata.csv", "\n".join([header, *lines]) + "\n")
    for label, name in (("acafly", 1), ("acafly", 2), ("amegfi", 3)):
        folder = root / "train_short_audio" / label
        put(folder / f"XC{name}.ogg", sine(300 + name), format="OGG")
    return root


def test_birdclef_has_the_primary_labels_and_the_authors(birdclef):
    rows = data.birdclef2021_index(birdclef)
    assert [row["label"] for row in rows] == ["acafly", "acafly", "amegfi"]
    assert rows[0]["file"] == "train_short_audio/acafly/XC1.ogg"
    assert rows[0]["speaker"] == rows[2]["speaker"] == "Ann"
    assert rows[1]["speaker"].startswith('Bo "B" Cod')


def test_splits_of_birdclef_share_no_author(birdclef):
    table = "primary_label,secondary_labels,author,filename,rating\n"
    for i in range(60):
        label = ("acafly", "amegfi")[i % 2]
        table += f"{label},[],author {i % 20},new{i}.wav,3\n"
        put(birdclef / "train_short_audio" / label / f"new{i}.wav")
    write(birdclef / "train_metadata.csv", table)
    found = list_recordings(
        birdclef, index=data.birdclef2021_index, test_fraction=0.2
    )
    authors = {split: set() for split in ("train", "validation", "test")}
    for recording in found.recordings:
        authors[recording.split].add(recording.group)
    assert all(authors.values())
    assert sum(map(len, authors.values())) == len(
        set().union(*authors.values())
    )


@pytest.mark.parametrize(
    "line, named",
    [
        ('acafly,"[],Ann,XC9.ogg,3', "comma-separated text.* at line"),
        ("acafly,[],Ann", "a value for each of its 5 columns.*acafly"),
        ("acafly,[],Ann,XC9.ogg,3,4", "a value for each of its 5 columns"),
        (f"acafly,{'x' * 200000},Ann,XC9.ogg,3", "field limit"),
    ],
)
def test_a_damaged_table_is_told(birdclef, line, named):
    path = birdclef / "train_metadata.csv"
    write(path, path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=named) as error:
        data.birdclef2021_index(birdclef)
    assert "train_metadata.csv" in str(error.value)


def test_bird_detection_reads_all_tables(tmp_path, read_folder):
    root = tmp_path / "birds"
    write(
        root / "ff1010bird_metadata_2018.csv",
        "itemid,datasetid,hasbird\n64486,ff1010bird,0\n2525,ff1010bird,1\n",
    )
    write(
        root / "warblrb10k_public_metadata_2018.csv",
        "itemid,datasetid,hasbird\n759808e5-f824-401e,warblrb10k,1\n",
    )
    write(root / "notes.csv", "something,else\n1,2\n")
    put(root / "ff1010bird" / "wav" / "64486.wav", sine(300))
    put(root / "ff1010bird" / "wav" / "2525.wav", sine(310))
    put(root / "warblr" / "759808e5-f824-401e.wav", sine(320))
    rows = data.bird_detection_index(root)
    assert {row["file"]: row["label"] for row in rows} == {
        "ff1010bird/wav/64486.wav": "no bird",
        "ff1010bird/wav/2525.wav": "bird",
        "warblr/759808e5-f824-401e.wav": "bird",
    }
    (root / "folder.csv").mkdir()
    (root / "latin.csv").write_bytes(b"itemid,hasbird\n\xe9,1\n")
    assert data.bird_detection_index(root) == rows
    write(root / "wrong.csv", "itemid,hasbird\n64486,maybe\n")
    with pytest.raises(ValueError, match="wrong.csv must hold 0 or 1.*maybe"):
        data.bird_detection_index(root)


def test_speech_commands_has_the_published_splits(tmp_path, read_folder):
    root = tmp_path / "words"
    for word, speaker, take in (
        ("yes", "0a", 0),
        ("yes", "0b", 1),
        ("no", "0a", 0),
        ("no", "0c", 0),
        ("no", "0d", 0),
    ):
        put(root / word / f"{speaker}_nohash_{take}.wav")
    put(root / "_background_noise_" / "pink_noise.wav", sine(50))
    write(root / "validation_list.txt", "yes/0b_nohash_1.wav\n")
    write(root / "testing_list.txt", "no/0c_nohash_0.wav\n")
    with pytest.warns(DataWarning) as caught:
        found = read(read_folder, root, data.speech_commands_index)
    left_out, lost = sorted(str(one.message) for one in caught)
    assert "validation lacks 'no'; test lacks 'yes'" in left_out
    assert "Left out: 1 file ('_background_noise_/pink_noise.wav')" in lost
    assert labels_of(found, "validation") == ["yes"]
    assert labels_of(found, "test") == ["no"]
    assert sorted(labels_of(found, "train")) == ["no", "no", "yes"]
    speakers = {row["speaker"] for row in data.speech_commands_index(root)}
    assert speakers == {"0a", "0b", "0c", "0d"}
    with open(root / "testing_list.txt", "a") as file:
        file.write("no/gone_nohash_0.wav\n")
    with pytest.warns(DataWarning, match="1 of the 3 recordings in the lists"):
        data.speech_commands_index(root)
    write(root / "testing_list.txt", "yes/0b_nohash_1.wav\n")
    with pytest.raises(ValueError, match="share no recording.*yes/0b"):
        data.speech_commands_index(root)
    write(root / "validation_list.txt", "yes\\0b_nohash_1.wav\n")
    write(root / "testing_list.txt", "")
    with pytest.raises(ValueError, match="no recording that they name"):
        data.speech_commands_index(root)


def test_tut_has_the_splits_of_fold_1(tmp_path):
    root = tmp_path / "tut"
    lists = root / "evaluation_setup"
    write(
        lists / "fold1_train.txt",
        "audio/airport-barcelona-0-0-a.wav\tairport\n"
        "audio/tram-paris-11-2-a.wav\ttram\n",
    )
    # Some versions have a header.
    write(
        lists / "fold1_evaluate.txt",
        "filename\tscene_label\naudio/tram-vienna-1-2-a.wav\ttram\n",
    )
    for name in ("airport-barcelona-0-0", "tram-paris-11-2", "tram-vienna-1-2"):
        put(root / "audio" / f"{name}-a.wav")
    assert data.tut2018_index(root) == [
        {
            "file": "audio/airport-barcelona-0-0-a.wav",
            "label": "airport",
            "speaker": "barcelona-0",
            "split": "train",
        },
        {
            "file": "audio/tram-paris-11-2-a.wav",
            "label": "tram",
            "speaker": "paris-11",
            "split": "train",
        },
        {
            "file": "audio/tram-vienna-1-2-a.wav",
            "label": "tram",
            "speaker": "vienna-1",
            "split": "test",
        },
    ]
    write(lists / "fold1_train.txt", "audio/airport-barcelona-0-0-a.wav\n")
    with pytest.raises(ValueError, match="separated by a tab"):
        data.tut2018_index(root)
    write(lists / "fold1_train.txt", "audio/a-b-0-0-a.wav\tairport\tmore\n")
    with pytest.raises(ValueError, match="separated by a tab.*more"):
        data.tut2018_index(root)


@pytest.mark.parametrize(
    "index, table",
    [
        (data.audioset_index, "class_labels_indices.csv"),
        (data.birdclef2021_index, "train_metadata.csv"),
        (data.bird_detection_index, "columns itemid and hasbird"),
        (data.speech_commands_index, "validation_list.txt"),
        (data.tut2018_index, "fold1_train.txt"),
    ],
)
def test_a_table_that_is_missing_is_named(tmp_path, read_folder, index, table):
    put(tmp_path / "clips" / "a.wav")
    with pytest.raises(ValueError, match=table) as error:
        read(read_folder, tmp_path / "clips", index)
    assert "unless it is bound to None" in str(error.value)


def test_audio_that_is_missing_altogether_is_told(audioset):
    for file in audioset.rglob("*.wav"):
        file.unlink()
    for file in audioset.rglob("*.flac"):
        file.unlink()
    with pytest.raises(
        ValueError, match="without any of these 4, such as '--4"
    ):
        data.audioset_index(audioset)


def test_a_function_of_ones_own_makes_the_index(tmp_path, read_folder):
    root = tmp_path / "clips"
    for i in range(4):
        put(root / f"{i}.wav", sine(300 + i))

    def index(folder):
        for file in sorted(folder.glob("*.wav")):
            number = int(file.stem)
            label = "odd" if number % 2 else "even"
            yield {"file": file.name, "label": label, "split": "train"}

    found = read_folder(root, index=index)
    assert labels_of(found) == ["even", "odd", "even", "odd"]


@pytest.mark.parametrize(
    "rows, named",
    [
        ([], "a row for each recording"),
        (["a.wav"], "must return rows.*'a.wav' as row 1"),
        ([{"file": "a.wav", "label": "x"}, "b.wav"], "'b.wav' as row 2"),
        ([{None: ["x"], "file": "a.wav"}], "must return rows"),
        (None, "returns rows.*TypeError"),
        ("a.wav,x", "must return rows.*'a' as row 1"),
        ([{"file": "a.wav", "label": ["x"]}], "`label` must be a text or"),
        ([{"file": "a.wav", "label": b"x"}], "`label` must be a text or"),
        ([{"file": "a.wav", "label": float("nan")}], "must be given in row 1"),
        ([{"file": "a.wav", "labels": ["x", None]}], "`labels` must be a text"),
        ([{"file": "a.wav", "labels": 3}], "`labels` must be a text"),
        ([{"file": "a.wav", "labels": {"x", 3}}], "`labels` must be a text"),
        ([{"file": "/elsewhere/a.wav", "label": "x"}], "`file` must be below"),
        ([{"file": "a.wav"}], "the columns file and label"),
        ([{"file": "a.wav", "klass": "x"}], "columns file and label"),
        ([{"filename": "a.wav", "label": "x"}], "Did you mean 'file'"),
        (
            [{"file": "a.wav", "label": "x"}, {"file": "b.wav"}],
            r"\['file'\] in row 2",
        ),
        ([{"file": "a.wav", "label": None}], "in row 1 of `audio_folder.index"),
        ([{"file": "a.wav", "labels": ["x", ""]}], "an empty name"),
        ([{"file": "a.wav", "labels": []}], "allow_unlabelled = True"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, read_folder, rows, named):
    put(tmp_path / "clips" / "a.wav")
    with pytest.raises(ValueError, match=named):
        read_folder(tmp_path / "clips", index=lambda folder: rows)


def test_values_of_rows_may_be_those_of_pandas_and_pathlib(tmp_path):
    for i in range(3):
        put(tmp_path / f"{i}.wav")

    def index(folder):
        labels = [{"b", "a"}, np.array(["c"]), "a;c"]
        speakers = ["x", float("nan"), None]
        for i, (some, who) in enumerate(zip(labels, speakers, strict=True)):
            file = folder.resolve() / f"{i}.wav"
            yield {
                "file": file,
                "labels": some,
                "speaker": who,
                "start": 0.0,
                "end": 0.1,
                "split": "train",
            }

    found = list_recordings(tmp_path, index=index)
    assert [one.file for one in found.recordings] == ["0.wav", "1.wav", "2.wav"]
    assert [one.labels for one in found.recordings] == [
        *(("a", "b"), ("c",), ("a", "c"))
    ]
    assert found.warnings == []


@pytest.mark.parametrize("kind", [KeyError, ValueError, RuntimeError])
def test_an_index_that_fails_is_named(tmp_path, kind):
    put(tmp_path / "a.wav")

    def my_index(folder):
        raise kind("the reason")
        yield {}

    with pytest.raises(ValueError, match="my_index, which .*the reason") as e:
        list_recordings(tmp_path, index=my_index)
    assert "unless it is bound to None" in str(e.value)


def test_an_index_must_be_a_function(tmp_path, read_folder):
    with pytest.raises(ValueError, match="must be a function of the folder"):
        read_folder(tmp_path, index="index.csv")
