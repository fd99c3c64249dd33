"""Read experiment files: TOML to the dataclasses of `kerasemo.config.schema`.

An error lists all mistakes of a file.
"""

import contextlib
import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic
from pydantic import TypeAdapter

from kerasemo.config.schema import (
    AugmentConfig,
    Experiment,
    NetworkConfig,
    StageConfig,
    chain_problems,
)
from pipelines.core.errors import InputError
from pipelines.core.text import number_problems

TABLES = ("network", "stages")
"""The tables of an experiment file."""


def shipped_experiments() -> list[str]:
    """Return the names of the experiments that come with the package."""
    files = resources.files("kerasemo.config") / "experiments"
    return sorted(
        file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml")
    )


def load_experiment(name: str, settings: Sequence[str] = ()) -> Experiment:
    """Load a shipped experiment by its name, or any experiment by its file.

    Args:
        name: One of `shipped_experiments()`, or the path of a TOML file.
        settings: Changes, such as `joint.margin=0.8` or `network.dropout=0.1`.

    Raises:
        InputError: The experiment does not exist, or a key, a value or the chain is invalid. One
            message lists all problems.

    >>> load_experiment("sample", ["joint.margin=0.8"]).stage("joint").margin
    0.8
    """
    path, text = _read(name)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error}); correct the file") from error
    problems: list[str] = []
    experiment = _parse_experiment(path.stem, document, settings, problems)
    if experiment is None:
        is_option = len(problems) == 1 and problems[0].startswith("--set ")
        raise InputError(problems[0] if is_option else f"{path}: {number_problems(problems)}")
    return experiment


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema of an experiment file, for editors and documentation.

    >>> sorted(experiment_schema()["properties"])
    ['network', 'stages']
    """
    schema = TypeAdapter(StageConfig).json_schema()
    definitions = schema.pop("$defs", {})
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "An earlier stage whose settings this stage takes over, all but the name.",
    }
    augment = schema["properties"]["augment"]
    schema["properties"]["augment"] = {
        "anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/AugmentConfig"}],
        "description": augment.get("description", ""),
    }
    schema["required"] = ["name"]  # a stage that extends another inherits the rest
    definitions |= {
        "AugmentConfig": TypeAdapter(AugmentConfig).json_schema(),
        "NetworkConfig": TypeAdapter(NetworkConfig).json_schema(),
        "StageConfig": schema,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kerasemo experiment",
        "type": "object",
        "additionalProperties": False,
        "required": ["stages"],
        "properties": {
            "network": {"$ref": "#/$defs/NetworkConfig"},
            "stages": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/StageConfig"}},
        },
        "$defs": definitions,
    }


def _read(name: str) -> tuple[Path, str]:
    """Return the path to name in messages, and the text of an experiment file."""
    if name.endswith(".toml"):
        path = Path(name)
        try:
            return path, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as an experiment file ({error})") from error
    if name in shipped_experiments():
        file = f"{name}.toml"
        folder = resources.files("kerasemo.config") / "experiments"
        return Path(file), (folder / file).read_text(encoding="utf-8")
    expected = ", ".join(shipped_experiments())
    raise InputError(f"no experiment {name!r}; expected {expected} or the path of a .toml file")


def _parse_experiment(
    name: str, document: Mapping[str, Any], settings: Sequence[str], problems: list[str]
) -> Experiment | None:
    """Return the experiment in a document; add what is wrong to `problems` and return None then."""
    for key in sorted(set(document) - set(TABLES)):
        problems.append(
            f"unknown key {key!r}; expected [network] and [[stages]]{_did_you_mean(key, TABLES)}"
        )
    network_table, tables = document.get("network", {}), document.get("stages", [])
    if not isinstance(network_table, dict):
        problems.append(f"expected network to be a table, [network]; received {network_table!r}")
        network_table = {}
    if not (
        isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)
    ):
        if "stages" in document or not problems:
            problems.append("expected at least one [[stages]] table")
        return None
    network_table, tables = dict(network_table), extend_stages(tables, problems)
    targets = {table["name"]: table for table in tables if isinstance(table.get("name"), str)}
    targets["network"] = network_table
    for setting in settings:
        try:
            target, key, value = _parse_setting(setting, targets)
        except InputError as error:
            problems.append(str(error))
        else:
            targets[target][key] = value
    network = _parse_table(NetworkConfig, network_table, "[network]", problems)
    stages = [
        _parse_table(StageConfig, table, f"stage {table.get('name')!r}", problems)
        for table in tables
    ]
    known = [stage for stage in stages if stage is not None]
    problems += [f"stage {stage!r}: {problem}" for stage, problem in chain_problems(known)]
    return None if problems else Experiment(name, network, tuple(known))


def extend_stages(tables: Sequence[Mapping[str, Any]], problems: list[str]) -> list[dict[str, Any]]:
    """Return the tables of stages, each with the settings of the stage that it extends.

    A stage that `extends` an earlier stage takes over every setting but the name. Its own settings
    replace them. The keys of two tables, such as `augment`, are merged.

    Args:
        tables: The tables of the file.
        problems: Where a line is added for each `extends` that names no earlier stage.

    >>> usual = {"name": "usual", "epochs": 3, "augment": {"flip": 0.5, "shift": 0.1}}
    >>> no_flip = {"name": "no-flip", "extends": "usual", "augment": {"flip": 0.0}}
    >>> extend_stages([usual, no_flip], [])[1]
    {'name': 'no-flip', 'epochs': 3, 'augment': {'flip': 0.0, 'shift': 0.1}}
    """
    by_name: dict[Any, dict[str, Any]] = {}
    extended = []
    for table in tables:
        values = {key: value for key, value in table.items() if key != "extends"}
        base = table.get("extends", "")
        if not isinstance(base, str) or (base and base not in by_name):
            problems.append(
                f"stage {table.get('name')!r}: extends must name an earlier stage; received "
                f"{base!r}"
            )
        elif base:
            inherited = by_name[base]
            for key, value in values.items():
                if isinstance(value, dict) and isinstance(inherited.get(key), dict):
                    values[key] = inherited[key] | value
            values = inherited | values
        extended.append(values)
        if isinstance(values.get("name"), str):
            by_name[values["name"]] = values
    return extended


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _parse_setting(setting: str, targets: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Return the target, the key and the value of `STAGE.KEY=VALUE`.

    The value is TOML; a word that is not TOML is taken as text.
    """
    target, dot, rest = setting.partition(".")
    key, equals, text = rest.partition("=")
    if not (target and dot and key and equals):
        raise InputError(f"--set {setting}: expected STAGE.KEY=VALUE, for example joint.margin=0.8")
    if target not in targets:
        expected = ", ".join(targets)
        raise InputError(
            f"--set {setting}: no stage {target!r}; "
            f"expected one of {expected}{_did_you_mean(target, targets)}"
        )
    if key in ("name", "kind", "start_from", "extends"):
        raise InputError(
            f"--set {setting}: {key} would change the chain; write an experiment file instead"
        )
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
        return target, key, tomllib.loads(f"value = {text}")["value"]
    return target, key, text[:60]


def _parse_table(kind: type, table: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    """Return the settings of a table; add what is wrong to `problems`.

    Invalid keys get their defaults, so that the rules between stages can still be checked. None is
    returned if a key without a default is missing or invalid.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    lines: list[str] = []
    values = dict(table)
    try:
        settings = adapter.validate_python(values)
    except pydantic.ValidationError as error:
        lines += [_describe(kind, details) for details in error.errors()]
        for details in error.errors():
            values.pop(str(details["loc"][0]), None)
        try:
            settings = adapter.validate_python(values)
        except pydantic.ValidationError:
            settings = None
    if settings is not None and not lines:  # else a default could be blamed
        lines += settings.problems()
    problems += [f"{where}: {line}" for line in lines]
    return settings


def _describe(kind: type, details: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors in words: the key, what was expected, what was received."""
    place = [part for part in details["loc"] if isinstance(part, str)]
    if place[:1] == ["augment"] and len(place) > 1:
        return f"augment: {_describe(AugmentConfig, {**details, 'loc': details['loc'][1:]})}"
    key, received = details["loc"][0], details["input"]
    fields = [field.name for field in dataclasses.fields(kind)]
    if details["type"] == "unexpected_keyword_argument":
        expected = ", ".join(fields)
        return f"unknown key {key!r}; expected {expected}{_did_you_mean(key, fields)}"
    if details["type"] == "missing":
        return f"missing key {key!r}"
    if key == "augment":
        return (
            f"augment must be true, false or a table of strengths; received {_shortened(received)}"
        )
    expected = _expected(TypeAdapter(kind).json_schema()["properties"][key])
    return f"{key} must be {expected}; received {_shortened(received)}"


def _shortened(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _expected(schema: Mapping[str, Any]) -> str:
    """Return what the JSON schema of a value allows, in words.

    >>> _expected({"type": "integer", "minimum": 2, "multipleOf": 2})
    'a whole number of at least 2, a multiple of 2'
    >>> _expected({"type": "number", "minimum": 0, "maximum": 0.9})
    'a number from 0 to 0.9'
    """
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if schema["type"] == "array":
        items = schema["items"]
        noun_plural = {"string": "words", "integer": "whole numbers"}[items["type"]]
        most = f"at most {schema['maxItems']} " if "maxItems" in schema else ""
        maybe_empty = "" if schema.get("minItems") else ", possibly empty"
        return f"a list of {most}{noun_plural}{_range(items)}{maybe_empty}"
    noun = {"integer": "a whole number", "number": "a number", "string": "a word"}
    multiple = f", a multiple of {schema['multipleOf']}" if "multipleOf" in schema else ""
    return f"{noun.get(schema['type'], 'true or false')}{_range(schema)}{multiple}"


def _range(schema: Mapping[str, Any]) -> str:
    """Return the range of a number in words, with a space before; empty if there is none."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "of at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "of at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return f" {' and '.join(limits)}" if limits else ""
