"""Write the tables of sources and keys in docs/configuration.md, or print a JSON schema for editors."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.data.sources.registry import list_readers
from stages.settings.checks import EXPERIMENT, METHODS
from stages.settings.datasets import Task
from stages.settings.experiment import Experiment
from stages.settings.methods import Method
from stages.settings.section import Section

PAGE = Path(__file__).parents[2] / "docs/configuration.md"
MARKS = "<!-- {0}: written by python -m stages.settings.document -->\n", "<!-- end of the {0} -->\n"


class Row(NamedTuple):
    """What a table says of a key."""

    key: str
    default: str
    allowed: str
    meaning: str


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.settings.document", description=__doc__)
    parser.add_argument("--schema", choices=("experiment", "methods"), help="print that one, and write nothing")
    options = parser.parse_args(argv)
    if options.schema:
        kind = {"experiment": EXPERIMENT, "methods": METHODS}[options.schema]
        print(json.dumps(kind.json_schema(), indent=2, ensure_ascii=False))
    else:
        PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def fill_page(text: str) -> str:
    """The page with its tables as the models want them."""
    for name, content in {"sources": render_sources(), "keys": render_tables()}.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def render_sources() -> str:
    """A table of the sources: what they read, and who publishes it."""
    rows = []
    for name, reader in list_readers().items():
        publisher = f"{reader.publisher.dataset}: {reader.publisher.page}" if reader.publisher else "—"
        rows.append((name, " ".join(reader.settings.__doc__.split()), publisher))
    return _render_table(("source", "what it reads", "publisher"), rows)


def render_tables() -> str:
    """A table of the top level, of the datasets, of every section, and of a method."""
    sections = find_sections(Experiment)
    top = [row for row in list_rows(Experiment) if row.key.split(".")[0] not in sections]
    return "\n".join(
        [
            _render("Top level", Experiment.__doc__, Row._fields, top),
            _render(
                "`datasets`",
                "By name; a dataset has the keys of its source.",
                (*Row._fields, "sources"),
                [(*row, names) for row, names in list_dataset_rows().items()],
            ),
            *(_render(f"`{key}`", model.__doc__, Row._fields, list_rows(model)) for key, model in sections.items()),
            _render("A task", "An entry of `tasks`.", Row._fields, list_rows(Task)),
            _render("A method", "A row of workflow/methods.yaml.", Row._fields, list_rows(Method)),
        ]
    )


def find_sections(model: type[Section]) -> dict[str, type[Section]]:
    """The sections right below one, by key."""
    kinds = {key: field.annotation for key, field in model.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def list_rows(model: type[Section]) -> list[Row]:
    """The keys of a section and of the sections below it."""
    schema = model.model_json_schema()
    return list(_walk(schema, schema.get("$defs", {})))


def list_dataset_rows() -> dict[Row, str]:
    """The keys of datasets, each once, with the sources that have it, in words."""
    rows: dict[Row, list[str]] = {}
    for reader in list_readers().values():
        found = {row.key: row for row in list_rows(reader.settings)}
        source = found["source"].allowed
        found["source"] = found["source"]._replace(allowed="a source")
        for row in found.values():
            rows.setdefault(row, []).append(source)
    everywhere = rows[found["source"]]
    keys = list(dict.fromkeys(row.key for row in rows))
    # What is below a key right behind it, whoever has it.
    order = sorted(rows, key=lambda row: (keys.index(row.key.split(".")[0]), keys.index(row.key)))
    return {row: _list_sources(rows[row], everywhere) for row in order}


def _list_sources(names: Sequence[str], everywhere: Sequence[str]) -> str:
    missing = [name for name in everywhere if name not in names]
    if len(missing) > 1:
        return ", ".join(names)
    return f"all but {missing[0]}" if missing else "all"


def _walk(schema: Mapping[str, Any], definitions: Mapping[str, Any], above: str = "") -> Iterator[Row]:
    for key, one in schema["properties"].items():
        default = "required" if key in schema.get("required", ()) else "—"
        if "default" in one:
            default = _quote(one["default"])
        below = [definitions[choice["$ref"].rsplit("/", 1)[1]] for choice in _list_choices(one) if "$ref" in choice]
        # Of a key that is described by its section's docstring, the schema does not repeat it.
        meaning = one["description"] if "description" in one else below[0]["description"]
        yield Row(f"{above}{key}", default, _describe_values(one), meaning)
        for section in below:
            yield from _walk(section, definitions, f"{above}{key}.")


def _list_choices(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _describe_values(schema: Mapping[str, Any]) -> str:
    choices = _list_choices(schema)
    if choices != [schema]:
        return " or ".join(dict.fromkeys(map(_describe_values, choices)))
    if "const" in schema or "enum" in schema:
        return ", ".join(map(_quote, schema.get("enum") or [schema["const"]]))
    if "patternProperties" in schema:
        (values,) = schema["patternProperties"].values()
        return f"{_describe_values(values)} by name"
    match schema.get("type"):
        case "integer" | "number" as name:
            words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
            return " ".join([name, *(f"{word} {schema[bound]}" for bound, word in words.items() if bound in schema)])
        case "boolean":
            return "`true`, `false`"
        case "null":
            return "`null`"
        case "string":
            return f"`{schema['pattern'].strip('^$')}`" if "pattern" in schema else "text"
        case "array":
            least, most = schema.get("minItems", 0), schema.get("maxItems")
            many = f" of {least}{'' if least == most else ' or more'}" if least else ""
            return f"list{many}: {_describe_values(schema['items'])}"
        case _:
            return "section"


def _quote(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _render(title: str, about: str, head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    return f"### {title}\n\n{about}\n\n{_render_table(head, rows)}"


def _render_table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    # By hand, because tabulate pads, and one long description would make every line as long.
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join([f"`{key}`", *others]) for key, *others in rows]
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    main()
