"""The model card of a bundle: its training, its scores, its licence and its limits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasemo.config.loading import load_experiment, shipped_experiments
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.serving.signatures import SIGNATURES
from pipelines.core.domains import DOMAINS, domain_facts
from pipelines.core.text import printable
from pipelines.corpora import licence_of

LIMITS = (
    "- It recognises how the speakers of its corpora *portray* emotions, most of them actors."
    " It does not tell what a person feels, thinks\n"
    "  or intends.\n"
    "- It errs more on people who differ from those it was trained on, in age, skin, language"
    " or culture, and on other cameras, light,\n"
    "  microphones and noise.\n"
    "- Its probabilities say how sure it is among its labels on data like that of its "
    "corpora. On other data they are not probabilities\n"
    "  of being right.\n"
    "- It always answers one of its labels, whatever is shown. A face is to be cropped as "
    "`pipelines.faces` does it.\n"
    "- Do not use it to judge people: not in hiring, schools, policing, border control or "
    "medicine."
)


def model_card(document: Mapping[str, Any]) -> str:
    """Return the model card of a bundle in Markdown, from the contents of `bundle.json`."""
    sections = (_summary, _training, _scores, _fusion, _signatures, _limits, _licences, _command)
    lines = [line for section in sections for line in section(document)]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return "\n".join([*lines, "## Versions", "", versions]) + "\n"


def _summary(document: Mapping[str, Any]) -> Iterator[str]:
    training = document["training"]
    yield f"# {printable(document['name'])}"
    yield ""
    if document["synthetic"]:
        yield (
            "**Trained on synthesised samples: it shows that everything works, "
            "and knows nothing of people.**"
        )
        yield ""
    facts = [domain_facts(domain) for domain in document["domains"]]
    domains = " and ".join(f"{domain.person_part}s" for domain in facts)
    members = training["network"].get("members", 1)
    networks = (
        "One network of kerasemo"
        if members == 1
        else f"{members} networks of kerasemo, whose mean logits answer"
    )
    size = f"{training['parameters']:,} weights in all".replace(",", " ")
    inputs = " and ".join(f"64x64x3 {domain.item}s" for domain in facts)
    reads = f"{networks}, {size}, read{'s' * (members == 1)} {inputs}."
    yield f"Emotions from {domains}: {', '.join(document['labels'])}. {reads}"
    yield ""


def _training(document: Mapping[str, Any]) -> Iterator[str]:
    training = document["training"]
    yield "## Training"
    yield ""
    protocol = f"Protocol {training['protocol']}, fold {training['fold']}, seed {training['seed']}."
    yield (
        f"{protocol} Each stage starts from the weights of the one before; "
        "its epoch was chosen on validation clips."
    )
    yield ""
    yield "| stage | kind | sources | epoch | clips trained on |"
    yield "|---|---|---|---|---|"
    for stage in training["stages"]:
        sources = ", ".join(stage["trained_on"])
        counts = ", ".join(str(stage["split"][source]["train"]) for source in stage["trained_on"])
        epoch = f"{stage['best_epoch']} of {stage['epochs']}"
        yield f"| {stage['stage']} | {stage['kind']} | {sources} | {epoch} | {counts} |"
    yield ""
    settings = training["stages"][-1]["settings"]
    if hop := settings.get("test_hop_frames"):
        yield (
            f"Sound is heard in segments of 64 frames, one every {hop}, "
            "as it was when the scores below were made."
        )
        yield ""
    if share := settings.get("active_share"):
        yield (
            f"Segments in which less than {share:.0%} of the frames are active are left out "
            "as pauses, unless a clip has no others."
        )
        yield ""
    for source, splits in training["speakers"].items():
        names = "; ".join(f"{split} {_speakers(speakers)}" for split, speakers in splits.items())
        yield f"Speakers of {source}: {names}."
        yield ""
    yield "The hashes of all training and validation clips are in `training_clips.json`."
    yield ""


def _signatures(document: Mapping[str, Any]) -> Iterator[str]:
    yield "## Signatures"
    yield ""
    yield "| name | input | output |"
    yield "|---|---|---|"
    for name, signature in document["signatures"].items():
        input_text, output_text = _types(signature["inputs"]), ", ".join(signature["outputs"])
        if document["format"] == "saved_model":
            input_text = SIGNATURES[name].input_text
            output_text = SIGNATURES[name].describe_outputs()
        yield f"| `{name}` | {input_text} | {output_text} |"
    yield ""


def _limits(_document: Mapping[str, Any]) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield LIMITS
    yield ""


def _licences(document: Mapping[str, Any]) -> Iterator[str]:
    yield "## Licences"
    yield ""
    yield (
        "Weights follow the licences of the corpora they were trained on; "
        "most are for research only."
    )
    for corpus in _corpora(document["training"]):
        yield f"- {corpus}: {licence_of(corpus)}"
    yield ""


def _command(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the command that makes the model again."""
    training = document["training"]
    if not training.get("experiment"):
        return
    yield "## To make it again"
    yield ""
    if not is_shipped_experiment(training):
        yield (
            f"By the settings in `bundle.json`: {printable(training['experiment'])} "
            "is not shipped, or was changed for this."
        )
        yield ""
        return
    arguments = {
        "stage": training["stage"],
        "experiment": training["experiment"],
        "protocol": training["protocol"],
        "fold": training["fold"],
        "seed": training["seed"],
        "records": "RECORDS",
        "run": "RUN",
    }
    options = " ".join(f"--{name} {value}" for name, value in arguments.items())
    yield (
        f"    python -m kerasemo.train {options} && "
        f"python -m kerasemo.export --run RUN --stage {training['stage']} --out OUT"
    )
    yield ""
    voices = ", ".join(
        sorted(
            source.partition("/")[0]
            for source in training["trained_on"]
            if source.endswith("/audio")
        )
    )
    waveform_text = f" (the sound of {voices} with `--waveform`)" if voices else ""
    yield (
        f"RECORDS holds {', '.join(_corpora(training))}, each made with "
        f"`python -m pipelines.build`{waveform_text}. Processors differ in the last digits of"
    )
    yield "sums, so another machine gives another network, about as good."
    yield ""


def _corpora(training: Mapping[str, Any]) -> list[str]:
    return sorted({source.partition("/")[0] for source in training["trained_on"]})


def is_shipped_experiment(training: Mapping[str, Any]) -> bool:
    """Return whether network and stages equal the shipped experiment with the name."""
    if training.get("experiment") not in shipped_experiments():
        return False
    shipped = load_experiment(training["experiment"])
    trained_stages = [StageConfig.from_json(stage["settings"]) for stage in training["stages"]]
    names = {stage["stage"] for stage in training["stages"]}
    shipped_stages = [stage for stage in shipped.stages if stage.name in names]
    if NetworkConfig.from_json(training["network"]) != shipped.network:
        return False
    return trained_stages == shipped_stages


def _types(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in inputs.items())


def _scores(document: Mapping[str, Any]) -> Iterator[str]:
    last = document["training"]["stages"][-1]
    yield f"## Scores of stage {last['stage']} on its {last['scored']} clips"
    yield ""
    if not last["scores"]:
        yield "None."
    for source, score in last["scores"].items():
        figures = {
            "UA": score.get("ua"),
            "WA": score.get("wa"),
            "macro-F1": score.get("macro_f1"),
            "chance": score.get("chance"),
        }
        figures |= {"pair AUC": score.get("pair_auc")}
        text = ", ".join(
            f"{name} {value:.3f}" for name, value in figures.items() if value is not None
        )
        stamp = ", deduplicated" if score.get("deduplicated") else ""
        if copies := last["split"].get(source, {}).get("copies_train"):
            stamp = f", as published: {copies} copies of test clips stayed in training"
        yield f"- {source} ({score['clips']} clips{stamp}): {text}"
        if "confusion" in score:
            rows = enumerate(zip(score["emotions"], score["confusion"], strict=True))
            recalls = (
                f"{emotion} {row[place] / sum(row):.2f}"
                for place, (emotion, row) in rows
                if sum(row)
            )
            yield f"  - recall: {', '.join(recalls)}"
    yield ""
    reproduce_text = " `python -m kerasemo.reproduce` asks every fold." if last["scores"] else ""
    yield (
        "One fold's test side is few speakers: read these as what this very model does, "
        f"not as what the method reaches.{reproduce_text}"
    )
    yield ""


def _speakers(speakers: Sequence[str] | int) -> str:
    """Return the number of speakers, with their names if the names are known."""
    return (
        str(speakers)
        if isinstance(speakers, int)
        else f"{len(speakers)} ({', '.join(map(printable, speakers))})"
    )


def _fusion(document: Mapping[str, Any]) -> Iterator[str]:
    if set(document["domains"]) != set(DOMAINS):
        return
    fusion = document["fusion"]
    yield "## Face and voice together"
    yield ""
    count = fusion["utterances"]
    fitted = (
        f"fitted on {count} validation utterances"
        if count
        else "not fitted: no validation utterance has both"
    )
    figures = f"w = {fusion['visual_weight']:.3f}, T = {fusion['temperature']:.3f}"
    yield f"p ∝ exp((w log p_face + (1 − w) log p_voice) / T) with {figures} ({fitted})."
    yield ""
