"""The page, config.yaml with its comments, and the JSON schemas say what the models say."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from stages.settings.checks import EXPERIMENT
from stages.settings.document import PAGE, fill_page, find_sections, list_dataset_rows, list_rows, main
from stages.settings.experiment import Experiment

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "config.yaml").read_text(encoding="utf-8")
ROWS = {row.key: row for row in list_rows(Experiment)}
ONLY_IN_PLACE_OF_A_WORD = ["storage.keep_networks.every"]


def list_keys(settings, above=""):
    """Dotted keys, but nothing of the datasets."""
    for key, value in settings.items():
        yield f"{above}{key}"
        if isinstance(value, dict) and key != "datasets":
            yield from list_keys(value, f"{above}{key}.")


def read_comments():
    """The comment behind every key of config.yaml that has one, by dotted key."""
    comments, parents = {}, []
    for line in TEXT.splitlines():
        if match := re.fullmatch(r"( *)(\w+):[^#]*(?:# (.*))?", line):
            indent, key, comment = match.groups()
            parents = [*parents[: len(indent) // 2], key]
            if comment:
                comments[".".join(parents)] = comment
    return comments


def test_the_page_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert fill_page(text) == text, "run python -m stages.settings.document"


def test_config_has_every_key_of_the_models_in_their_order_and_no_other():
    settings = yaml.safe_load(TEXT)
    assert list(list_keys(settings)) == [key for key in ROWS if key not in ONLY_IN_PLACE_OF_A_WORD]
    assert list(settings)[-len(find_sections(Experiment)) :] == list(find_sections(Experiment))


def test_dataset_keys_of_config_are_documented_for_their_source():
    documented = {(row.key, sources) for row, sources in list_dataset_rows().items()}
    for dataset in yaml.safe_load(TEXT)["datasets"].values():
        for key in list_keys(dataset):
            assert {(key, "all"), (key, f"`{dataset['source']}`")} & documented


def test_comments_name_the_values_that_are_allowed():
    words = {key: [one.split()[0].strip(":") for one in text.split(" | ")] for key, text in read_comments().items()}
    chosen = {key: row for key, row in ROWS.items() if re.fullmatch(r"`\w+`(, `\w+`)+", row.allowed)}
    chosen = {key: row for key, row in chosen.items() if "true" not in row.allowed and key != "images.channels"}
    assert len(chosen) >= 9
    for key, row in chosen.items():
        assert words[key] == re.findall(r"\w+", row.allowed), key


def test_comments_state_the_defaults_that_hold():
    assert "the paper's 0.0001 is for pretrained" in read_comments()["training.learning_rate"]
    assert ROWS["training.learning_rate"].default == "`0.0001`"
    assert "null compares all" in read_comments()["comparison.methods"]
    assert ROWS["comparison.methods"].default == "`null`"
    assert "sqeuclidean (the paper's formula)" in read_comments()["transport.ground_distance"]
    assert ROWS["transport.ground_distance"].default == "`sqeuclidean`"


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *(ROOT / "experiments").glob("*.yaml")], ids=lambda p: p.name)
def test_the_schema_for_editors_accepts_every_experiment(path):
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), EXPERIMENT.json_schema())


def test_the_schemas_for_editors_are_printed(capsys):
    main(["--schema", "methods"])
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    methods = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(methods, schema)
    for wrong in ({"distanc": "emd"}, {"distance": "emdd"}, {"quantile": 2}, {"selection": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"mtl_sa": methods["mtl_sa"] | wrong}, schema)
    main(["--schema", "experiment"])
    page = json.loads(capsys.readouterr().out)
    assert page["properties"]["data_root"]["default"] == "."
    assert "default" not in page["$defs"]["Table"]["properties"]["seed"]
