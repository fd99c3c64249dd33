"""Experiments as data: TOML files -> frozen dataclasses, every key checked."""

import ast
import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pipelines.spec import DOMAINS, InputError

KINDS = ("supervised", "contrastive", "joint")
MOST = 1_000_000
"""The largest number of epochs, and of examples a step."""
RESERVED = ("network", "data")
"""What a stage cannot be called: the other table of a file, and the folder of the samples in a run folder."""


@dataclasses.dataclass(frozen=True)
class Network:
    """The network's shape. The paper's own is not known; these are the project's choices."""

    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of each stage of convolutions; each stage halves height and width."""
    convolutions: int = 2
    """Convolutions a stage."""
    groups: int = 8
    """Groups of each GroupNorm."""
    embedding: int = 256
    dropout: float = 0.3
    """Share of the features dropped before the head, in training."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """How far random changes of the training inputs go, 0: not at all; see `kerasemo.augment`."""

    flip: float = 0.0
    """Of faces: the probability of a mirror image."""
    shift: float = 0.0
    """Share of the side, along both axes."""
    scale: float = 0.0
    """Share of the size, larger or smaller."""
    rotation_degrees: float = 0.0
    brightness: float = 0.0
    """Share of the 255 grey levels, up or down."""
    contrast: float = 0.0
    """Share of each pixel's distance to the face's mean, more or less."""
    erasing: float = 0.0
    """Share of the side that a square is erased of."""
    time_mask: float = 0.0
    """Of segments: share of the frames that is masked in one stretch."""
    frequency_mask: float = 0.0
    """Share of the Mel bins that is masked in one stretch."""
    time_shift: float = 0.0
    """Share of the frames, earlier or later."""
    gain_db: float = 0.0
    """Louder or softer."""


USUAL_CHANGES = Augment(
    **{"flip": 0.5, "shift": 0.08, "scale": 0.1, "rotation_degrees": 10.0, "brightness": 0.1, "contrast": 0.2, "erasing": 0.3},
    **{"time_mask": 0.2, "frequency_mask": 0.15, "time_shift": 0.1, "gain_db": 6.0},
)
"""What `augment = true` means. The strengths are the project's choice."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training in the chain. Rates, batches and epochs are the project's choices, not the paper's."""

    name: str
    kind: str
    sources: tuple[str, ...]
    """`NAME/DOMAIN` of each set that is trained on."""
    start_from: str = ""
    """The stage whose weights this one starts from; empty: from scratch."""
    epochs: int = 20
    batch: int = 64
    """Examples a step; for contrastive and joint, pairs of two a step count as two examples."""
    learning_rate: float = 1e-3
    """At the start; it falls to nothing along a cosine."""
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    margin: float = 0.6
    """Of the contrastive loss, on embeddings of unit length."""
    contrastive_weight: float = 1.0
    augment: Augment = Augment()
    """In a file `true`, `false` or a table of some strengths, such as `{flip = 0.5}`."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network and the chain of stages that train it."""

    name: str
    network: Network
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """Return the stage of a name; InputError names those there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise InputError(f"no stage {name!r} in experiment {self.name!r}; it has {', '.join(stage.name for stage in self.stages)}")

    def chain(self, name: str) -> tuple[Stage, ...]:
        """Return the stages that lead to one, the first first, itself last."""
        stage = self.stage(name)
        return (*(self.chain(stage.start_from) if stage.start_from else ()), stage)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source of the experiment, in the order in which the stages name them."""
        return tuple(dict.fromkeys(source for stage in self.stages for source in stage.sources))


def shipped_experiments() -> list[str]:
    """Return the names of the experiments that come with the package."""
    files = resources.files("kerasemo") / "experiments"
    return sorted(file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml"))


def read_experiment(name: str, settings: Sequence[str] = ()) -> Experiment:
    """Read a shipped experiment by name, or any by its file.

    Args:
        name: One of `shipped_experiments()`, or the path of a TOML file.
        settings: Changes such as `joint.margin=0.8` (a stage's key) or `network.dropout=0.1`.

    Raises:
        InputError: Unknown experiment, key, stage or kind, a value of another type, or a chain that does not hold.

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
        raise InputError(f"no experiment {name!r}; expected {', '.join(shipped_experiments())} or the path of a .toml file")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    return _experiment(path, document, settings)


def _experiment(path: Path, document: Mapping[str, Any], settings: Sequence[str]) -> Experiment:
    unknown = sorted(set(document) - {"network", "stages"})
    if unknown:
        raise InputError(f"{path}: unknown key {unknown[0]!r}; expected [network] and [[stages]]")
    if not isinstance(document.get("network", {}), dict):
        raise InputError(f"{path}: expected network to be a table, [network]; received {document['network']!r}")
    tables = document.get("stages", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{path}: expected at least one [[stages]] table")
    network, stages = dict(document.get("network", {})), [dict(table) for table in tables]
    for setting in settings:
        target, key, value = _parse_setting(setting)
        named = {table.get("name"): table for table in stages} | {"network": network}
        if target not in named:
            raise InputError(f"--set {setting}: no stage {target!r}; expected one of {', '.join(map(str, named))}")
        if key in ("name", "kind", "start_from"):
            raise InputError(f"--set {setting}: {key} makes another chain; write an experiment file instead")
        named[target][key] = value
    chain = tuple(_record(Stage, table, f"{path}: stage {table.get('name')!r}") for table in stages)
    experiment = Experiment(path.stem, _record(Network, network, f"{path}: [network]"), chain)
    _check(path, experiment)
    return experiment


def _parse_setting(setting: str) -> tuple[str, str, Any]:
    target, dot, rest = setting.partition(".")
    key, equals, text = rest.partition("=")
    if not (target and dot and key and equals):
        raise InputError(f"--set {setting}: expected STAGE.KEY=VALUE, such as joint.margin=0.8")
    try:
        return target, key, ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return target, key, text[:60]


def _record(kind: type, table: Mapping[str, Any], where: str):
    """Make a dataclass of a table whose keys and types are checked against its fields."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in fields:
            raise InputError(f"{where}: unknown key {key!r}; expected {', '.join(fields)}")
        values[key] = _typed(fields[key].type, value, f"{where}: {key}")
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in values]
    if missing:
        raise InputError(f"{where}: missing key {missing[0]!r}")
    return kind(**values)


def _typed(expected: type, value: Any, where: str) -> Any:
    if expected is Augment:
        if isinstance(value, dict):
            return _record(Augment, value, where)
        if isinstance(value, bool):
            return USUAL_CHANGES if value else Augment()
        raise InputError(f"{where}: expected true, false or a table of strengths; received {value!r}")
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else math.inf
    if expected in (tuple[int, ...], tuple[str, ...]):
        item = int if expected == tuple[int, ...] else str
        if isinstance(value, (list, tuple)) and value and all(type(entry) is item for entry in value):
            return tuple(value)
    elif type(value) is expected:
        return value
    name = getattr(expected, "__name__", str(expected)) if expected in (int, float, str) else f"a list of {item.__name__}"
    raise InputError(f"{where}: expected {name}; received {value!r}")


def _check(path: Path, experiment: Experiment) -> None:
    """Check what the types do not: names, kinds, sources, ranges and the chain."""
    names = [stage.name for stage in experiment.stages]
    seen: set[str] = set()
    for stage in experiment.stages:
        where = f"{path}: stage {stage.name!r}"
        if names.count(stage.name) > 1 or stage.name in RESERVED or not stage.name.replace("-", "").isalnum():
            raise InputError(f"{where}: names of stages are unique, letters, digits and hyphens, and not {' or '.join(RESERVED)}")
        if stage.kind not in KINDS:
            raise InputError(f"{where}: kind must be one of {', '.join(KINDS)}; received {stage.kind!r}")
        if stage.start_from and stage.start_from not in seen:
            raise InputError(f"{where}: start_from must name a stage that stands before it; received {stage.start_from!r}")
        for source in stage.sources:
            name, _, domain = source.partition("/")
            if not name or domain not in DOMAINS:
                raise InputError(f"{where}: a source is NAME/visual or NAME/audio; received {source!r}")
        if len(set(stage.sources)) != len(stage.sources):
            raise InputError(f"{where}: sources must differ; received {', '.join(stage.sources)}")
        if stage.kind == "supervised" and len(stage.sources) != 1:
            raise InputError(f"{where}: a supervised stage has one source; received {len(stage.sources)}")
        if stage.kind == "joint" and len(stage.sources) < 2:
            raise InputError(f"{where}: a joint stage has two sources or more; received {len(stage.sources)}")
        _check_ranges(where, stage)
        seen.add(stage.name)
    network = experiment.network
    if network.groups < 1:
        raise InputError(f"{path}: [network]: groups must be at least 1; received {network.groups}")
    for width in network.widths:
        if width < 1 or width % network.groups:
            raise InputError(f"{path}: [network]: every width must be a multiple of groups ({network.groups}); received {width}")
    sizes = (("widths", max(network.widths), 4096), ("convolutions", network.convolutions, 16), ("embedding", network.embedding, 65536))
    for name, value, most in sizes:
        if value > most:
            raise InputError(f"{path}: [network]: {name} must be at most {most}; received {value}")
    if not (1 <= len(network.widths) <= 6 and network.convolutions >= 1 and network.embedding >= 1 and 0 <= network.dropout < 1):
        raise InputError(f"{path}: [network]: expected 1 to 6 widths, convolutions and embedding of at least 1, dropout in [0, 1)")


def _check_ranges(where: str, stage: Stage) -> None:
    couples = len(stage.sources) * (len(stage.sources) - 1) // 2
    if stage.kind != "supervised" and couples > 1 and stage.batch % (2 * couples):
        expected = f"a multiple of {2 * couples}, for as many pairs of every two of {len(stage.sources)} sources"
        raise InputError(f"{where}: batch must be {expected}; received {stage.batch}")
    for key, holds, expected in (
        ("epochs", 1 <= stage.epochs <= MOST, f"at least 1 and at most {MOST}"),
        ("batch", 2 <= stage.batch <= MOST and stage.batch % 2 == 0, "an even number of at least 2"),
        ("learning_rate", 0 < stage.learning_rate < 10, "above 0 and below 10"),
        ("weight_decay", 0 <= stage.weight_decay < 1, "in [0, 1)"),
        ("label_smoothing", 0 <= stage.label_smoothing < 1, "in [0, 1)"),
        ("margin", 0 < stage.margin <= 2, "in (0, 2], the largest distance of two unit vectors"),
        ("contrastive_weight", 0 <= stage.contrastive_weight < 1e6, "at least 0"),
    ):
        if not holds:
            raise InputError(f"{where}: {key} must be {expected}; received {getattr(stage, key)!r}")
    for key, strength in dataclasses.asdict(stage.augment).items():
        most = {"flip": 1, "rotation_degrees": 180, "gain_db": 100}.get(key, 0.9)
        if not 0 <= strength <= most:
            raise InputError(f"{where}: augment: {key} must be in [0, {most}]; received {strength!r}")
