"""The command that trains and compares several configurations."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from absl import flags

from leaf_audio.app import trained_flags
from leaf_audio.app.startup import importing_libraries, run_main
from leaf_audio.common.listing import listed

if TYPE_CHECKING:
    from leaf_audio.training.study import Study

# How many columns of the table are printed. They fit into 80 characters.
_COLUMNS = 4


def run() -> None:
    """Runs the command, with the flags of the command line."""
    _define_flags()
    run_main(main)


def main(argv: list[str]) -> None:
    """Does all runs of a study, then prints and writes its table.

    Args:
        argv: The command line without its flags: the name of the program.
    """
    given = flags.FLAGS
    own: list[str] = []
    others: list[str] = []
    for binding in given.gin_bindings:
        is_own = binding.strip().startswith("Study.")
        (own if is_own else others).append(binding)
    if given.workdir is not None:
        own.append(f"Study.workdir = {given.workdir!r}")
    trained_flags.check_configs(given.gin_config, given.gin_bindings)
    more = [] if given.data_dir is None else [f"--data_dir={given.data_dir}"]
    with importing_libraries():
        from leaf_audio.app import configuration
        from leaf_audio.training import study, study_results

    try:
        made = read(given.gin_config, own)
        settings = check_settings(made, others)
        study.run_all(made, others, settings, *more)
        rows = study_results.collect(made)
        study_results.write(made, rows)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"Error: {configuration.message(error)}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on.")
    print_table(study_results.headings(rows), map(study_results.cells, rows))
    print(f"results, with more columns: {made.folder / 'results.md'}")
    others = study_results.other_runs(made)
    if others:
        print(
            f"not in the table: finished runs of other seeds or variants in "
            f"{made.folder}, {listed(others, 3)}"
        )


def read(configs: Sequence[str], bindings: Sequence[str]) -> "Study":
    """Makes the study that configs and bindings describe.

    Args:
        configs: Gin configs. Later ones override earlier ones.
        bindings: Lines in gin's syntax. They override the configs.

    Returns:
        The study.

    Raises:
        ValueError: If a line is not valid gin, or binds anything but
            parameters of `Study`.
    """
    import gin

    # Importing `train` registers everything that a config may name.
    from leaf_audio.app import configuration, train  # noqa: F401

    with configuration.restored():
        configuration.parse(configs, bindings)
        others = [
            key
            for key in configuration.bound()
            if "." in key and not key.startswith("Study.")
        ]
        if others:
            raise ValueError(
                "A study's config must bind Study alone; configs of "
                "example.main belong into Study.configs or Study.variants. "
                f"Received: {', '.join(others)}."
            )
        study = gin.get_configurable("Study")()
        configuration.check_all_used()
        return study


def check_settings(
    study: "Study", bindings: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Looks for mistakes in the configs of all runs, before the first run.

    No model is built. That would occupy the accelerator, which the runs need.

    Args:
        study: The study.
        bindings: Further bindings for all runs.

    Returns:
        What configs and bindings set for each variant: text by name.

    Raises:
        ValueError: If a line of a variant is not valid gin, or binds a
            parameter of `Study`.
    """
    from leaf_audio.app import configuration, train  # noqa: F401

    settings = {}
    for name in study.variants:
        try:
            with configuration.restored():
                configuration.parse(*study.settings(name, bindings))
                settings[name] = bound = configuration.bound()
            own = [key for key in bound if key.startswith("Study.")]
            if own:
                raise ValueError(
                    "A run must bind nothing of `Study`. "
                    f"Received: {', '.join(own)}."
                )
        except ValueError as error:
            raise ValueError(f"In the variant {name!r}: {error}") from error
    return settings


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints the first four columns of a table.

    Args:
        headings: Those of all columns.
        rows: The cells of each row.
    """
    import rich.box
    import rich.console
    import rich.table
    import rich.text

    # Little space between the columns.
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for heading in headings[:_COLUMNS]:
        widest = max(map(len, heading.split()))
        table.add_column(heading, min_width=widest, overflow="fold")
    for row in rows:
        # Not as markup, which rich would see in brackets.
        table.add_row(*map(rich.text.Text, row[:_COLUMNS]))
    rich.console.Console().print(table)


def _define_flags() -> None:
    flags.DEFINE_multi_string(
        "gin_config",
        [],
        "A gin config of a study; may be repeated. A config is code: its "
        "import lines run. Give only configs that you trust.",
    )
    flags.DEFINE_multi_string(
        "gin_bindings",
        [],
        "A binding, such as 'Study.seeds = [0]', or one for all runs; may be "
        "repeated.",
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the study. Overrides Study.workdir.",
    )
    flags.DEFINE_string(
        "data_dir", None, "The folder for prepared data of all runs."
    )


if __name__ == "__main__":
    run()
