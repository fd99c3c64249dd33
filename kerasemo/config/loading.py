"""What the settings of an experiment may be, each alone and together, beyond their types."""

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

from kerasemo.config.schema import USUAL_CHANGES, Augment, Experiment, Network, Stage
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.spec import Spec
from pipelines.core.text import number_problems

PAIRS = ("balanced", "random")
HEADS = ("masked", "corpus")
BLOCKS = ("plain", "residual")
POOLS = ("average", "rows")
BALANCES = ("none", "classes")
LABELLED_BY = ("seed", "fold")
SCHEDULES = ("cosine", "constant")
KINDS = ("supervised", "contrastive", "joint")
MOST = 1_000_000
"""The largest number of epochs, and of examples a step."""
AUGMENT_RANGES = {
    **{"flip": (0, 1), "rotation_degrees": (0, 180), "gain_db": (0, 100)},
    **{
        "time_masks": (1, 8),
        "frequency_masks": (1, 8),
        "variants": (1, 8),
        "speed": (0, 0.5),
        "noise": (0, 1),
    },
}
"""The least and the most of those changes that may not be in [0, 0.9]."""
RESERVED = ("network", "data", "tune", "stages", "tables")
"""What a stage cannot be called: the other table of a file, and the folders of the samples, of searches and of tables in a run folder."""


def check_stage(stage: Stage, names: Sequence[Any], index: int, problems: list[str]) -> None:
    """Check what the types do not: a stage's name, kind, sources and place in the chain."""
    wrong = []
    if (
        names.count(stage.name) > 1
        or stage.name in RESERVED
        or not stage.name.replace("-", "").isalnum()
    ):
        wrong.append(
            f"names of stages are unique, letters, digits and hyphens, and not {' or '.join(RESERVED)}"
        )
    if stage.kind not in KINDS:
        wrong.append(f"kind must be one of {', '.join(KINDS)}; received {stage.kind!r}")
    if stage.start_from and stage.start_from not in names[:index]:
        wrong.append(
            f"start_from must name a stage that stands before it; received {stage.start_from!r}"
        )
    if stage.labelled_by != "seed" and not stage.labelled:
        wrong.append(
            f"labelled_by says how the clips of `labelled` are drawn, and that is 0; received {stage.labelled_by!r}"
        )
    for source in stage.sources:
        name, _, domain = source.partition("/")
        if not name or domain not in DOMAINS:
            wrong.append(f"a source is NAME/visual or NAME/audio; received {source!r}")
    if len(set(stage.sources)) != len(stage.sources):
        wrong.append(f"sources must differ; received {', '.join(stage.sources)}")
    if stage.kind == "supervised" and len(stage.sources) != 1:
        wrong.append(f"a supervised stage has one source; received {len(stage.sources)}")
    if stage.kind == "joint" and len(stage.sources) < 2:
        wrong.append(f"a joint stage has two sources or more; received {len(stage.sources)}")
    if stage.kind == "supervised":
        for key, default in (("pairs", "balanced"), ("hard_negatives", 0.0)):
            if (value := getattr(stage, key)) != default:
                wrong.append(
                    f"{key} is for contrastive and joint stages, a supervised one has no pairs; received {value!r}"
                )
    if stage.kind == "contrastive":
        for key, default in (("mixup", 0.0), ("balance", "none")):
            if (value := getattr(stage, key)) != default:
                wrong.append(
                    f"{key} is for supervised and joint stages, a contrastive one has no cross-entropy; received {value!r}"
                )
    if stage.speaker_normalization and any(
        not source.endswith("/audio") for source in stage.sources
    ):
        wrong.append(
            f"speaker_normalization is for stages on sound alone; received sources {', '.join(stage.sources)}"
        )
    if stage.kind != "joint" and stage.heads == "corpus":
        wrong.append(
            "heads = 'corpus' is for joint stages, a head for each source; leave it at 'masked'"
        )
    problems += [f"stage {stage.name!r}: {problem}" for problem in wrong]


def check_chain(stage: Stage, before: Sequence[Stage | None], problems: list[str]) -> None:
    """Check that a chain reads all sound alike: its first stage on sound sets the statistics of the network's inputs."""
    by_name = {other.name: other for other in before if other is not None}
    parent = by_name.get(stage.start_from)
    while parent is not None and not any(source.endswith("/audio") for source in parent.sources):
        parent = by_name.get(parent.start_from)
    if parent is not None and parent.speaker_normalization != stage.speaker_normalization:
        told = (
            f"{stage.speaker_normalization} here, {parent.speaker_normalization} in {parent.name!r}"
        )
        problems.append(
            f"stage {stage.name!r}: speaker_normalization must be that of the stages on sound that it comes from; received {told}"
        )


def check_draws(stages: Sequence[Stage | None], problems: list[str]) -> None:
    """Check that stages that are drawn as another one name one that is drawn by its own name: else both would not be drawn alike."""
    known = {stage.name for stage in stages if stage is not None and not stage.drawn_as}
    for stage in stages:
        if stage is not None and stage.drawn_as and stage.drawn_as not in known:
            expected = "must name a stage of the experiment that has no drawn_as itself"
            problems.append(
                f"stage {stage.name!r}: drawn_as {expected}; received {stage.drawn_as!r}"
            )


def check_network(network: Network, problems: list[str]) -> None:
    """Check the ranges of a network's settings, and that its groups divide its widths."""
    wrong = []
    if network.groups < 1:
        wrong.append(f"groups must be at least 1; received {network.groups}")
    else:
        for width in network.widths:
            if width < 1 or width % network.groups:
                wrong.append(
                    f"every width must be a multiple of groups ({network.groups}); received {width}"
                )
    counts = (network.convolutions, network.embedding, network.members)
    for name, most in (
        ("widths", 4096),
        ("convolutions", 16),
        ("embedding", 65536),
        ("members", 64),
    ):
        value = max(network.widths) if name == "widths" else getattr(network, name)
        if value > most:
            wrong.append(f"{name} must be at most {most}; received {value}")
    if not (1 <= len(network.widths) <= 6 and min(counts) >= 1 and 0 <= network.dropout < 1):
        told = f"{len(network.widths)} widths, {', '.join(map(str, counts))}, dropout {network.dropout}"
        wrong.append(
            f"expected 1 to 6 widths, convolutions, embedding and members of at least 1, dropout in [0, 1); received {told}"
        )
    for name, known in (("blocks", BLOCKS), ("pool", POOLS)):
        if (value := getattr(network, name)) not in known:
            wrong.append(f"{name} must be one of {', '.join(known)}; received {value!r}")
    if not 0 <= network.squeeze <= min(network.widths):
        wrong.append(
            f"squeeze must be in [0, {min(network.widths)}], the smallest width; received {network.squeeze}"
        )
    problems += [f"[network]: {problem}" for problem in wrong]


def check_ranges(stage: Stage, problems: list[str]) -> None:
    """Check each setting of a stage by itself."""
    frames = Spec().segment_frames
    for key, holds, expected in (
        ("epochs", 1 <= stage.epochs <= MOST, f"at least 1 and at most {MOST}"),
        (
            "batch",
            2 <= stage.batch <= MOST and stage.batch % 2 == 0,
            "an even number of at least 2",
        ),
        (
            "steps",
            0 <= stage.steps <= MOST,
            f"at least 0, where 0 is every item once, and at most {MOST}",
        ),
        (
            "labelled",
            0 <= stage.labelled <= MOST,
            f"at least 0, where 0 is all, and at most {MOST}",
        ),
        ("labelled_by", stage.labelled_by in LABELLED_BY, f"one of {', '.join(LABELLED_BY)}"),
        ("schedule", stage.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ("warmup", 0 <= stage.warmup < 1, "in [0, 1), a share of all steps"),
        ("mixup", 0 <= stage.mixup <= 10, "in [0, 10], where 0 mixes nothing"),
        ("balance", stage.balance in BALANCES, f"one of {', '.join(BALANCES)}"),
        ("active_share", 0 <= stage.active_share <= 1, "in [0, 1], where 0 keeps every segment"),
        (
            "train_hop_frames",
            0 <= stage.train_hop_frames <= frames,
            f"in [0, {frames}], where 0 is as the records are cut",
        ),
        (
            "test_hop_frames",
            0 <= stage.test_hop_frames <= frames,
            f"in [0, {frames}], where 0 is as the records are cut",
        ),
        ("learning_rate", 0 < stage.learning_rate < 10, "above 0 and below 10"),
        ("weight_decay", 0 <= stage.weight_decay < 1, "in [0, 1)"),
        ("label_smoothing", 0 <= stage.label_smoothing < 1, "in [0, 1)"),
        ("margin", 0 < stage.margin <= 2, "in (0, 2], the largest distance of two unit vectors"),
        ("contrastive_weight", 0 <= stage.contrastive_weight < 1e6, "at least 0"),
        ("clip_norm", 0 <= stage.clip_norm < 1e6, "at least 0, where 0 is no limit"),
        ("accumulate", 1 <= stage.accumulate <= MOST, "at least 1"),
        ("ema", 0 <= stage.ema < 1, "in [0, 1), where 0 is no average"),
        ("freeze", all(stage.freeze), "beginnings of the names of layers, not empty"),
        ("pairs", stage.pairs in PAIRS, f"one of {', '.join(PAIRS)}"),
        ("hard_negatives", 0 <= stage.hard_negatives <= 1, "in [0, 1]"),
        ("heads", stage.heads in HEADS, f"one of {', '.join(HEADS)}"),
    ):
        if not holds:
            problems.append(
                f"stage {stage.name!r}: {key} must be {expected}; received {getattr(stage, key)!r}"
            )
    for key, strength in dataclasses.asdict(stage.augment).items():
        least, most = AUGMENT_RANGES.get(key, (0, 0.9))
        if not least <= strength <= most:
            problems.append(
                f"stage {stage.name!r}: augment: {key} must be in [{least}, {most}]; received {strength!r}"
            )


def check_batch(stage: Stage, problems: list[str]) -> None:
    """Check that a batch holds as many pairs of every two sources, and each of the parts it is accumulated from as well."""
    if stage.batch < 2 or stage.batch % 2:
        return  # which is told already
    couples = max(1, len(stage.sources) * (len(stage.sources) - 1) // 2)
    where = f"stage {stage.name!r}"
    if stage.kind != "supervised" and stage.batch % (2 * couples):
        expected = f"a multiple of {2 * couples}, for as many pairs of every two of {len(stage.sources)} sources"
        problems.append(f"{where}: batch must be {expected}; received {stage.batch}")
    elif stage.accumulate > 0:
        share, what = (
            (stage.batch, "examples")
            if stage.kind == "supervised"
            else (stage.batch // 2 // couples, "pairs of every two sources")
        )
        if share % stage.accumulate:
            problems.append(
                f"{where}: accumulate must divide the {share} {what} of a step; received {stage.accumulate}"
            )


def shipped_experiments() -> list[str]:
    """Return the names of the experiments that come with the package."""
    files = resources.files("kerasemo.config") / "experiments"
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
        text = (resources.files("kerasemo.config") / "experiments" / path.name).read_text(
            encoding="utf-8"
        )
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
        raise InputError(problems[0] if of_words else f"{path}: {number_problems(problems)}")
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
        except KerasemoError as error:
            problems.append(str(error))
        else:
            named[target][key] = value
    shape = _record(Network, network, "[network]", problems)
    counts, stages = [len(problems)], []
    for table in tables:
        stages.append(_record(Stage, table, f"stage {table.get('name')!r}", problems))
        counts.append(len(problems))
    check_network(shape, problems)
    for index, stage in enumerate(stages):
        if stage is not None:
            check_stage(stage, [table.get("name") for table in tables], index, problems)
            check_ranges(stage, problems)
            check_chain(stage, stages[:index], problems)
            if (
                counts[index] == counts[index + 1]
            ):  # else a default that stands for a wrong value could be blamed
                check_batch(stage, problems)
    check_draws(stages, problems)
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
            except KerasemoError as error:
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
