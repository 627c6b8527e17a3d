"""Look at the config of an experiment before it runs: its settings, its data, whether they fit together, and the disk.

Every run begins with the same check. Run it in the folder where Snakemake will run; nothing is written.
"""

from pathlib import Path

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.settings.checks import find_paths, load_experiment, parse_yaml
from stages.tools.feasibility import check_run


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa check mine.yaml")
    parser.add_argument("config", type=Path, metavar="YAML", help="config of an experiment")
    parser.add_argument("--data-root", metavar="DIR", help="in place of the config's data_root")
    options = parser.parse_args(argv)
    settings, methods = read_config(options.config)
    if options.data_root:
        settings["data_root"] = options.data_root
    rows = [methods[name] for name in settings["methods"]]
    check_run(settings, rows, len(settings["seeds"]), Path("results") / settings["experiment"])
    print(f"{options.config}: can run: snakemake --cores 4 --configfile {options.config}")


def read_config(path: Path) -> tuple[dict, dict]:
    """The settings of an experiment, defaults filled in, paths from the current folder, and all methods.

    Raises:
        ValueError: the file is missing or no text, or a setting is wrong.
    """
    if not path.is_file():
        raise UserError(f"{path}: is no file; name the config of an experiment")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; name the config of an experiment") from None
    settings, methods = load_experiment([], parse_yaml(text, str(path)), str(path))
    for section, keys in find_paths(settings):
        section[keys[-1]] = str(path.parent / section[keys[-1]])
    return settings, methods


if __name__ == "__main__":
    run_stage(main)
