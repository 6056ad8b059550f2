"""The page of a run shows what the run has recorded, and needs nothing else."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import gin
import numpy as np
import pytest
import soundfile
from pages import Page, decoded
from tones import LABELS, LEAF, SAMPLE_RATE, bindings, python, write_tones

from leaf_audio import serving
from leaf_audio.app import configuration, plot, report_page, train
from leaf_audio.diagnostics import figures
from leaf_audio.serving.report import examples, make_page
from leaf_audio.training import Workdir

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("fresh_gin")]

EVIL = "<script>alert('ß')</script>&\"$"
CHROMIUM = next(
    filter(
        None,
        map(shutil.which, ("chromium", "chromium-browser", "google-chrome")),
    ),
    None,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_tones(folder / "tones")
    return folder


@pytest.fixture(scope="module")
def run_of_leaf(folder):
    configuration.parse(
        [],
        bindings(
            folder,
            f"train.workdir = '{folder / 'run'}'",
            "train.num_epochs = 2",
            "train.learning_rate = 0.01",
            frontend=LEAF,
        ),
    )
    train.train()
    gin.clear_config()
    return folder / "run"


@pytest.fixture(scope="module")
def page(run_of_leaf):
    file, note = report_page.write(str(run_of_leaf))
    assert file == run_of_leaf / "report.html" and note == ""
    return Page(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run on clips of several labels, in chunks."""
    folder = tmp_path_factory.mktemp("several")
    write_tones(folder / "tones")
    lines = ["file,labels,split"]
    for file in sorted((folder / "tones").rglob("*.wav")):
        split, label, name = file.relative_to(folder / "tones").parts
        more = {"low": ";mid", "mid": ";high", "high": ""}[label]
        lines.append(f"{split}/{label}/{name},{label}{more},{split}")
    (folder / "tones" / "index.csv").write_text("\n".join(lines) + "\n")
    configuration.parse(
        [],
        bindings(
            folder,
            f"train.workdir = '{folder / 'run'}'",
            "train.num_epochs = 1",
            "data.prepare.evaluation_hop = 100",
            "MelFilterbanks.compression_fn = @PCENLayer()",
            "PCENLayer.trainable = True",
        ),
    )
    train.train()
    gin.clear_config()
    return folder / "run"


def test_the_page_needs_nothing_else(page):
    assert page.links
    for link in page.links:
        assert link.startswith(("data:", "#"))
    assert "http://" not in page.source and "https://" not in page.source
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    policy = next(
        attrs["content"]
        for _, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")


def test_a_phone_shows_it_at_its_own_width(page):
    viewport = [a for _, a in page.tags if a.get("name") == "viewport"]
    assert viewport[0]["content"].startswith("width=device-width")


def test_all_pictures_can_be_decoded(page):
    kinds = []
    for source in page.sources("img"):
        kind, content = decoded(source)
        kinds.append(kind)
        if kind == "image/png":
            assert content.startswith(b"\x89PNG")
        else:
            xml.etree.ElementTree.fromstring(content)
    # Responses, two confusion matrices and the examples are of pixels.
    count = len(page.sources("audio"))
    assert kinds.count("image/png") == 3 + count > 3
    assert kinds.count("image/svg+xml") >= 6
    alternatives = [a["alt"] for tag, a in page.tags if tag == "img"]
    assert {
        "loss",
        "accuracy",
        "confusion matrix of test",
        "responses of the filters",
        "centre of each filter",
    } <= set(alternatives)


def test_what_a_person_looks_at_first_comes_first(page):
    headings = re.findall("<h2[^>]*>(.*?)</h2>", page.source)
    assert headings == [
        *("Training", "Labels", "Examples"),
        *("Filters", "Settings", "Environment"),
    ]
    links = re.findall('<a href="#[a-z]+">(.*?)</a>', page.source)
    assert links == headings
    start = page.source.index('alt="confusion matrix of test"')
    assert start < page.source.index("precision")
    assert page.source.index("95 % interval") < page.source.index("<h2")


def test_the_numbers_are_those_of_the_run(page, run_of_leaf):
    results = json.loads((run_of_leaf / "results.json").read_text())
    metrics = results["metrics"]["test"]
    assert f"{metrics['accuracy']:.4f}" in page.cells
    with open(run_of_leaf / "classes_test.csv", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading[-1] == "f1"
    for row in [[*heading[:-1], "F1"], *rows]:
        start = page.cells.index(row[0], page.cells.index("precision") - 2)
        assert page.cells[start : start + len(row)] == row
    assert results["versions"]["keras"] in page.cells
    assert (run_of_leaf / "config.gin").read_text().strip() in page.text
    right = round(metrics["accuracy"] * results["data"]["counts"]["test"])
    assert f"{right} of 9 clips of the split test are right" in page.text


def test_the_examples_are_judged_as_the_classifier_judges(
    folder, run_of_leaf, page
):
    classifier = serving.load(run_of_leaf)
    audio_data = data_of(folder)
    found = examples.choose(classifier, audio_data)
    test = audio_data.clips["test"]
    read = test.reader()
    names = [test.source_of(i) for i in range(len(test))]
    for one in (*found.right, *found.wrong):
        assert (folder / "tones" / one.name).is_file()
        samples, label = read(names.index(one.name))
        # The evaluation takes the centre of a clip that is too long.
        clip = classifier.prepare(samples, SAMPLE_RATE)
        (row,) = classifier.probabilities(clip[None])
        expected = dict(zip(classifier.labels, row, strict=True))
        for share in one.shares:
            assert share.probability == pytest.approx(
                expected[share.label], abs=1e-5
            )
            is_true = share.label == audio_data.label_names[int(label)]
            assert share.is_true == is_true
        likeliest = max(expected, key=expected.get)
        assert [s.label for s in one.shares if s.is_given] == [likeliest]
        assert one.name in page.text
    assert len(page.sources("audio")) == len(found.right) + len(found.wrong)


def test_a_plot_draws_what_the_evaluation_makes_of_a_recording(
    folder, run_of_leaf, tmp_path, monkeypatch
):
    source = next((folder / "tones" / "test").rglob("*.wav"))
    samples, _ = soundfile.read(source, dtype="float32")
    recording = tmp_path / "quiet_and_long.wav"
    long = 0.01 * np.tile(samples, 3)
    soundfile.write(recording, long, SAMPLE_RATE, subtype="FLOAT")
    drawn = []

    def outputs(frontends, waveform, title):
        drawn.append(waveform)
        return matplotlib.figure.Figure()

    monkeypatch.setattr(figures, "outputs", outputs)
    expected = serving.load(run_of_leaf).prepare(long, SAMPLE_RATE)
    none = tmp_path / "none.gin"
    none.write_text("")
    for configs in ([], [str(none)]):
        plot.draw(str(run_of_leaf), str(tmp_path), str(recording), configs)
    assert len(drawn) == 2 and len(expected) < len(long)
    for waveform in drawn:
        np.testing.assert_allclose(waveform, expected, atol=1e-6)


def data_of(folder):
    configuration.parse([], bindings(folder))
    loaded = train.load("audio_folder", data_dir=str(folder / "prepared"))
    gin.clear_config()
    return loaded


def test_the_audio_is_what_the_model_gets(page, folder, run_of_leaf):
    classifier = serving.load(run_of_leaf)
    found = examples.choose(classifier, data_of(folder))
    sources = page.sources("audio")
    for source, one in zip(sources, (*found.wrong, *found.right), strict=True):
        kind, content = decoded(source)
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert (kind, rate) == ("audio/flac", SAMPLE_RATE)
        assert abs(samples).max() == pytest.approx(0.5, abs=1e-3)
        expected = one.clip * (0.5 / abs(one.clip).max())
        np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_filters_are_told_before_and_after(page, run_of_leaf):
    with open(run_of_leaf / "filters.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = json.loads((run_of_leaf / "results.json").read_text())["kept_epoch"]
    heading = page.cells.index("centre, before (Hz)")
    for number in range(4):
        then, now = (
            next(
                float(row["centre_hz"])
                for row in rows
                if row["epoch"] == epoch and row["filter"] == str(number)
            )
            for epoch in ("0", str(kept))
        )
        # A row has the filter, and two cells for each of its columns.
        width = 1 + 2 * (len(rows[0]) - len(("epoch", "filter")))
        start = heading - 1 + width * (1 + number)
        assert page.cells[start] == str(number)
        assert page.cells[start + 1 : start + 3] == [
            f"{then:.4g}",
            f"{now:.4g}",
        ]


def test_names_are_shown_and_not_run(run_of_leaf, tmp_path):
    workdir = tmp_path / "<b>run"
    shutil.copytree(run_of_leaf, workdir)
    for name in ("classes_test.csv", "confusion_test.csv"):
        with open(workdir / name, newline="") as file:
            cells = [
                [EVIL if cell == "low" else cell for cell in row]
                for row in csv.reader(file)
            ]
        with open(workdir / name, "w", newline="") as file:
            csv.writer(file).writerows(cells)
    (workdir / "config.gin").write_text(EVIL)
    shares = (examples.Share(EVIL, 0.75, True, False),)
    clip = np.zeros(500, "float32")
    one = examples.Example(f"{EVIL} of test", clip, shares)
    some = examples.Examples("test", (), (one,), 0, 1, 1, remark=EVIL)
    text = make_page(Workdir(workdir), serving.load(workdir), some)
    made = Page(text)
    assert not {"script", "b"} & {tag for tag, _ in made.tags}
    # In both tables, in the settings, the remark, the name and the shares.
    assert made.text.count(EVIL) >= 5
    assert EVIL in made.cells and "<b>run" in made.text


def test_a_name_that_is_not_utf8_is_escaped(run_of_leaf):
    shares = (examples.Share("a\udcff", 0.75, True, True),)
    one = examples.Example("clip 0", np.ones(500, "float32"), shares)
    some = examples.Examples("test", (one,), (), 1, 1, 1)
    folder = Workdir(run_of_leaf)
    text = make_page(folder, serving.load(run_of_leaf), some)
    assert r"a\udcff" in Page(text.encode().decode()).cells


def test_without_the_data_the_rest_is_made(folder, run_of_leaf, tmp_path):
    moved = tmp_path / "elsewhere"
    (folder / "tones").rename(moved)
    try:
        output = tmp_path / "page.html"
        _, note = report_page.write(str(run_of_leaf), str(output))
        made = Page(output.read_text("utf-8"))
        assert "data of the run cannot be used" in note
        assert note in made.text and str(folder / "tones") in note
        assert not made.sources("audio")
        assert len(made.sources("img")) >= 9
        where = [f"audio_folder.path = '{moved}'"]
        _, note = report_page.write(
            str(run_of_leaf), str(output), bindings=where
        )
        assert note == ""
        assert Page(output.read_text("utf-8")).sources("audio")
        wrong = [f"audio_folder.path = '{tmp_path / 'none'}'"]
        with pytest.raises(ValueError, match="none"):
            report_page.write(str(run_of_leaf), str(output), bindings=wrong)
    finally:
        moved.rename(folder / "tones")


def test_files_that_were_left_out_are_named(run_of_leaf, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_of_leaf, run)
    results = json.loads((run / "results.json").read_text("utf-8"))
    results["data"] |= {
        "skipped": {"train/<b>.wav": "it is cut off"},
        "warnings": ["1 clip is silent"],
    }
    (run / "results.json").write_text(json.dumps(results), "utf-8")
    file, _ = report_page.write(str(run))
    text = Page(file.read_text("utf-8")).text
    assert "Left out: train/<b>.wav: it is cut off" in text
    assert "The data set warns: 1 clip is silent" in text


def test_data_that_has_changed_is_remarked(folder, run_of_leaf, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder / "tones", other)
    next((other / "test").rglob("*.wav")).unlink()
    output = tmp_path / "page.html"
    report_page.write(
        str(run_of_leaf),
        str(output),
        bindings=[f"audio_folder.path = '{other}'"],
    )
    made = Page(output.read_text("utf-8"))
    assert "not the ones that the run was evaluated on" in made.text


@pytest.mark.parametrize(
    "binding", ["Leaf.n_filters = 3", "align.seq_len = 500"]
)
def test_a_binding_without_effect_is_refused(run_of_leaf, tmp_path, binding):
    output = tmp_path / "page.html"
    with pytest.raises(ValueError, match="`gin_bindings` must be of the data"):
        report_page.write(str(run_of_leaf), str(output), bindings=[binding])
    assert not output.exists()


def test_a_run_without_labels_has_curves_and_no_examples(folder, tmp_path):
    more = ("train.num_epochs = 1", "train.pretraining = @SimCLR")
    workdir = tmp_path / "run"
    configuration.parse(
        [], bindings(folder, f"train.workdir = '{workdir}'", *more)
    )
    train.train()
    gin.clear_config()
    file, note = report_page.write(str(workdir))
    made = Page(file.read_text("utf-8"))
    assert "has learned without labels" in note
    assert "The model has learned without labels" in made.text
    assert "Data: tones, no labels, at" in made.text
    assert not made.sources("audio")
    assert "accuracy of guessing" in made.cells
    # What suits labels alone is not there, also not as an empty section.
    for word in ("#labels", "#examples", "confusion", "right or wrong"):
        assert word not in file.read_text("utf-8")
    alternatives = [a["alt"] for tag, a in made.tags if tag == "img"]
    assert {"loss", "accuracy"} <= set(alternatives)


def test_several_labels_have_thresholds_and_no_matrix(several):
    file, note = report_page.write(str(several))
    made = Page(file.read_text("utf-8"))
    results = json.loads((several / "results.json").read_text())
    assert note == ""
    assert "so there is no confusion matrix" in made.text
    assert "average precision" in made.cells and "threshold" in made.cells
    for one in results["thresholds"].values():
        assert f"{one:.3f}" in made.cells
    found = re.search(r"(\d) of 9 clips of the split test are right", made.text)
    audio = made.sources("audio")
    right, wrong = int(found[1]), 9 - int(found[1])
    assert len(audio) == min(right, 4) + min(wrong, 4)
    # Mel filters are fixed. Their responses are drawn, and no paths.
    alternatives = [a["alt"] for tag, a in made.tags if tag == "img"]
    assert "responses of the filters" in alternatives
    assert "centre of each filter" not in alternatives
    assert "are fixed. Its PCEN is learned" in made.text
    assert {"centre (Hz)", "alpha, before"} <= set(made.cells)
    # Chunks are as long as the clips of the model.
    _, content = decoded(audio[0])
    assert len(soundfile.read(io.BytesIO(content))[0]) == 500


def test_the_folder_of_the_page_must_exist(run_of_leaf, tmp_path):
    folder = tmp_path / "no"
    message = f"a folder that exists.*Make the folder {folder} first"
    with pytest.raises(ValueError, match=message):
        report_page.write(str(run_of_leaf), str(folder / "page.html"))
    assert not folder.exists()


@pytest.mark.parametrize("name", ["page.txt", "folder.html", "mine.html"])
def test_no_other_file_is_replaced(run_of_leaf, tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "mine.html").write_text("mine")
    output = str(tmp_path / name)
    with pytest.raises(ValueError, match=f"`output` must be .*{name}"):
        report_page.write(str(run_of_leaf), output)
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert not (tmp_path / "page.txt").exists()


def test_an_unfinished_run_is_named(run_of_leaf, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(run_of_leaf, workdir)
    (workdir / "results.json").unlink()
    with pytest.raises(ValueError, match="must hold a finished run"):
        report_page.write(str(workdir))


def test_without_jinja_the_extra_is_named(run_of_leaf, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    output = tmp_path / "page.html"
    with pytest.raises(ImportError, match=r"\.\[plot\]"):
        report_page.write(str(run_of_leaf), str(output))
    assert not output.exists()


@pytest.mark.slow
def test_the_command_tells_where_the_page_is(run_of_leaf, tmp_path):
    output = tmp_path / "page.html"
    flags = (f"--workdir={run_of_leaf}", f"--output={output}")
    done = python("-m", "example.report", *flags)
    assert done.stdout == f"{output}\n"
    assert "<h1>Run run</h1>" in output.read_text("utf-8")
    done = python("-m", "example.report", "--workdir=no_such", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch("Error: `workdir` .*no_such.*\n", done.stderr)


def in_chromium(file, tmp_path):
    """Opens a page; returns its DOM, and the lines of the console."""
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"),
        *("--dump-dom", file.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    return done.stdout, [one for one in lines if ":CONSOLE:" in one]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="optional: needs Chromium")
def test_a_browser_has_no_complaints_and_a_phone_need_not_scroll(
    page, tmp_path
):
    file = tmp_path / "page.html"
    file.write_text(page.source, "utf-8")
    dom, complaints = in_chromium(file, tmp_path)
    assert '<h2 id="environment">' in dom and not complaints
    # A page in a frame as wide as a phone, with a script that measures it.
    without_policy = re.sub("<meta http-equiv[^>]*>", "", page.source)
    frame = html.escape(without_policy)
    measuring = tmp_path / "measuring.html"
    measuring.write_text(
        f'<iframe id="phone" width="390" height="800" srcdoc="{frame}">'
        "</iframe><script>onload = () => {\n"
        "  const root = phone.contentDocument.documentElement;\n"
        "  const images = [...phone.contentDocument.images];\n"
        "  document.title = root.scrollWidth + ' ' + root.clientWidth + ' ' +\n"
        "    images.filter(one => one.naturalWidth == 0).length;\n"
        "  console.error('measured');\n"
        "}</script>",
        "utf-8",
    )
    dom, complaints = in_chromium(measuring, tmp_path)
    # What is told on the console is noticed here.
    assert len(complaints) == 1 and "measured" in complaints[0]
    width, available, num_broken = map(
        int, re.search("<title>(.*?)</title>", dom)[1].split()
    )
    assert available <= 390 and width <= available
    assert num_broken == 0
    assert set(LABELS) <= set(page.cells)
