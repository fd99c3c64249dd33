"""Experiments as data: TOML files -> the dataclasses of `kerasemo.settings`, every key checked, all mistakes told at once."""

import ast
import contextlib
import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from kerasemo import allowed
from kerasemo.settings import USUAL_CHANGES, Augment, Experiment, Network, Stage, numbered
from pipelines.spec import InputError


def shipped_experiments() -> list[str]:
    """Return the names of the experiments that come with the package."""
    files = resources.files("kerasemo") / "experiments"
    return sorted(
        file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml")
    )


def read_experiment(name: str, settings: Sequence[str] = ()) -> Experiment:
    """Read a shipped experiment by name, or any by its file.

    Args:
        name: One of `shipped_experiments()`, or the path of a TOML file.
        settings: Changes such as `joint.margin=0.8` (a stage's key) or `network.dropout=0.1`.

    Raises:
        InputError: Unknown experiment, key, stage or kind, values of another type or out of range, or a chain that does not hold;
            one message tells all that is wrong.

    >>> read_experiment("sample", ["joint.margin=0.8"]).stage("joint").margin
    0.8
    """
    if name.endswith(".toml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as an experiment file ({error})") from error
    elif name in shipped_experiments():
        path = Path(f"{name}.toml")
        text = (resources.files("kerasemo") / "experiments" / path.name).read_text(encoding="utf-8")
    else:
        raise InputError(
            f"no experiment {name!r}; expected {', '.join(shipped_experiments())} or the path of a .toml file"
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    problems: list[str] = []
    experiment = _experiment(path.stem, document, settings, problems)
    if problems:
        of_words = len(problems) == 1 and problems[0].startswith("--set ")
        raise InputError(problems[0] if of_words else f"{path}: {numbered(problems)}")
    return experiment


def _experiment(
    name: str, document: Mapping[str, Any], settings: Sequence[str], problems: list[str]
) -> Experiment | None:
    """Return the experiment of a document, None where too much of it is amiss; what is wrong is added to `problems`."""
    for key in sorted(set(document) - {"network", "stages"}):
        problems.append(
            f"unknown key {key!r}; expected [network] and [[stages]]{_nearest(key, ('network', 'stages'))}"
        )
    network, tables = document.get("network", {}), document.get("stages", [])
    if not isinstance(network, dict):
        problems.append(f"expected network to be a table, [network]; received {network!r}")
        network = {}
    if (
        not isinstance(tables, list)
        or not tables
        or not all(isinstance(table, dict) for table in tables)
    ):
        if "stages" in document or not problems:
            problems.append("expected at least one [[stages]] table")
        return None
    network, tables = dict(network), extended(tables, problems)
    named = {table["name"]: table for table in tables if isinstance(table.get("name"), str)} | {
        "network": network
    }
    for setting in settings:
        try:
            target, key, value = _parse_setting(setting, named)
        except InputError as error:
            problems.append(str(error))
        else:
            named[target][key] = value
    shape = _record(Network, network, "[network]", problems)
    counts, stages = [len(problems)], []
    for table in tables:
        stages.append(_record(Stage, table, f"stage {table.get('name')!r}", problems))
        counts.append(len(problems))
    allowed.check_network(shape, problems)
    for index, stage in enumerate(stages):
        if stage is not None:
            allowed.check_stage(stage, [table.get("name") for table in tables], index, problems)
            allowed.check_ranges(stage, problems)
            allowed.check_chain(stage, stages[:index], problems)
            if (
                counts[index] == counts[index + 1]
            ):  # else a default that stands for a wrong value could be blamed
                allowed.check_batch(stage, problems)
    allowed.check_draws(stages, problems)
    return Experiment(name, shape, tuple(stages)) if not problems else None


def extended(tables: Sequence[Mapping[str, Any]], problems: list[str]) -> list[dict[str, Any]]:
    """Return the tables of stages, each with the settings of the stage that it names in `extends`, which stands before it.

    A stage has every setting of that stage but its name; its own settings replace them. Of two tables, such as `augment`, the keys are
    merged.

    >>> usual = {"name": "usual", "epochs": 3, "augment": {"flip": 0.5, "shift": 0.1}}
    >>> extended([usual, {"name": "no-flip", "extends": "usual", "augment": {"flip": 0.0}}], [])[1]
    {'name': 'no-flip', 'epochs': 3, 'augment': {'flip': 0.0, 'shift': 0.1}}
    """
    by_name: dict[Any, dict[str, Any]] = {}
    resolved = []
    for table in tables:
        own = {key: value for key, value in table.items() if key != "extends"}
        base = table.get("extends", "")
        if not isinstance(base, str) or (base and base not in by_name):
            problems.append(
                f"stage {table.get('name')!r}: extends must name a stage that stands before it; received {base!r}"
            )
        else:
            inherited = by_name.get(base, {})
            both = {
                key
                for key, value in own.items()
                if isinstance(value, dict) and isinstance(inherited.get(key), dict)
            }
            own = inherited | own | {key: inherited[key] | own[key] for key in both}
        resolved.append(own)
        if isinstance(own.get("name"), str):
            by_name[own["name"]] = own
    return resolved


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _parse_setting(setting: str, named: Mapping[str, Any]) -> tuple[str, str, Any]:
    target, dot, rest = setting.partition(".")
    key, equals, text = rest.partition("=")
    if not (target and dot and key and equals):
        raise InputError(f"--set {setting}: expected STAGE.KEY=VALUE, such as joint.margin=0.8")
    if target not in named:
        raise InputError(
            f"--set {setting}: no stage {target!r}; expected one of {', '.join(named)}{_nearest(target, named)}"
        )
    if key in ("name", "kind", "start_from"):
        raise InputError(
            f"--set {setting}: {key} makes another chain; write an experiment file instead"
        )
    for read in (
        lambda word: tomllib.loads(f"value = {word}")["value"],
        ast.literal_eval,
    ):  # as in a file, or as Python has it
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return target, key, read(text)
    return target, key, text[:60]


def _record(kind: type, table: Mapping[str, Any], where: str, problems: list[str]):
    """Make a dataclass of a table whose keys and types are checked against its fields; None where it lacks what has no default.

    In the place of a value of another type stands the default.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in fields:
            problems.append(
                f"{where}: unknown key {key!r}; expected {', '.join(fields)}{_nearest(key, fields)}"
            )
        elif fields[key].type is Augment and isinstance(value, dict):
            values[key] = _record(Augment, value, f"{where}: {key}", problems)
        else:
            try:
                values[key] = _typed(fields[key], value)
            except InputError as error:
                problems.append(f"{where}: {key}: {error}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    problems += [f"{where}: missing key {name!r}" for name in needed if name not in table]
    return kind(**values) if set(needed) <= set(values) else None


def _typed(field: dataclasses.Field, value: Any) -> Any:
    expected = field.type
    if expected is Augment:
        if isinstance(value, bool):
            return USUAL_CHANGES if value else Augment()
        raise InputError(f"expected true, false or a table of strengths; received {value!r}")
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else math.inf
    if expected in (tuple[int, ...], tuple[str, ...]):
        item = int if expected == tuple[int, ...] else str
        listed = isinstance(value, (list, tuple)) and all(type(entry) is item for entry in value)
        if listed and (value or field.default == ()):
            return tuple(value)
    elif type(value) is expected:
        return value
    name = (
        getattr(expected, "__name__", str(expected))
        if expected in (int, float, str, bool)
        else f"a list of {item.__name__}"
    )
    raise InputError(f"expected {name}; received {value!r}")
