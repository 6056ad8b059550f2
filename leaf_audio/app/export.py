"""The command that writes a trained classifier for other runtimes."""

import sys

from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import run_main
from leaf_audio.common.export_formats import (
    QUANTIZATIONS,
    SUFFIXES,
    check_request,
)


def run() -> None:
    """Runs the command, with the flags of the command line."""
    trained_flags.define_flags()
    _define_flags()
    run_main(main)


def main(argv: list[str]) -> None:
    """Writes a trained classifier for another runtime, and prints the files.

    Args:
        argv: The command line without its flags: the name of the program.
    """
    given = flags.FLAGS
    if given.output is None or given.format is None:
        sys.exit(
            "Error: `output` and `format` must be given, such as "
            "--workdir=runs/leaf --format=litert --output=leaf.tflite. "
            f"Received: output={given.output}, format={given.format}."
        )
    try:
        check_request(
            path=given.output,
            format=given.format,
            quantize=given.quantize,
            window=given.window,
            keep_plan=given.keep_plan,
            name="output",
        )
    except ValueError as error:
        sys.exit(f"Error: {error}")
    if given.format == "onnx":
        trained_flags.check_installed("tf2onnx", extra="onnx")
    trained_flags.check_flags(needs_labels=given.format != "keras")
    trained_flags.check_folder_of(given.output)
    with trained_flags.classifier_of_flags() as classifier:
        from leaf_audio.serving.export import export

        written = export(
            classifier=classifier,
            path=given.output,
            format=given.format,
            quantize=given.quantize,
            window=given.window,
            keep_plan=given.keep_plan,
        )
    for path in written:
        print(path)


def _define_flags() -> None:
    flags.DEFINE_enum(
        "format",
        None,
        list(SUFFIXES),
        "A .tflite file for LiteRT, an .onnx file, a folder for TensorFlow, or "
        "one .keras file.",
    )
    flags.DEFINE_string("output", None, "The file or folder to write.")
    flags.DEFINE_enum(
        "quantize",
        None,
        list(QUANTIZATIONS),
        "Stores the weights with fewer bits; only for litert.",
    )
    flags.DEFINE_bool(
        "keep_plan",
        False,
        "Computes LEAF by its plan: in about a tenth of the time, in a file up "
        "to twice as large, or with int8 weights three times.",
    )
    flags.DEFINE_integer(
        "window",
        None,
        "The length of the input in samples, for litert, if any can be taken.",
        lower_bound=1,
    )


if __name__ == "__main__":
    run()
