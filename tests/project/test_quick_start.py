"""The README's main job as a newcomer runs it, on the sample corpora, and that its commands are those that exist."""

import json
import re
import shlex
from pathlib import Path

import pytest

from kerasemo.config.loading import load_experiment

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Return the words of every command in the bash blocks of the README and of what it says more of the results."""
    blocks = re.findall(
        r"```bash\n(.*?)```",
        README + (ROOT / "docs" / "results.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


def test_every_verb_and_option_of_the_readme_is_one_that_exists(command):
    helps = {}
    named = [
        words[2:]
        for words in commands()
        if words[1] == "-m" and words[2].startswith(("kerasemo.", "pipelines."))
    ]
    assert len(named) >= 6
    for verb, *words in named:
        if verb not in helps:
            helps[verb] = re.findall(r"--[a-z-]+", command(verb, "--help", check=0).stdout)
        assert {word for word in words if word.startswith("--")} <= set(helps[verb])


@pytest.mark.parametrize(
    "name", ["README.md", "docs/results.md", "benchmarks/README.md", "research/README.md"]
)
def test_links_lead_to_files_and_headings_that_are_there(name):
    links = re.findall(
        r"\]\(((?!https?:)[^)#\s]*)(?:#([^)\s]+))?\)", (ROOT / name).read_text(encoding="utf-8")
    )
    assert links
    for target, heading in links:
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        if heading:
            lines = re.sub(
                r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
            ).splitlines()
            titles = [
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in lines
                if line.startswith("#")
            ]
            assert heading in titles, (target, heading)


@pytest.mark.parametrize(
    ("mark", "extras"), [("tests", ".[test]"), ("tests with tensorflow-io", ".[test,tfio]")]
)
def test_ci_runs_the_commands_of_the_readme(mark, extras):
    block = re.search(rf"<!-- {mark} -->\n```bash\n(.+?)\n```", README)
    assert block and "pytest" in block.group(1) and extras in block.group(1)
    assert all(
        (ROOT / word).is_file() for word in block.group(1).split() if word.startswith("tests/")
    )
    assert f'"{mark}"' in (ROOT / ".ci" / "run").read_text()


def test_what_needs_tensorflow_io_is_run_where_it_loads():
    """Elsewhere those tests are skipped."""
    others = {
        path for path in (ROOT / "tests").rglob("test_*.py") if path.name != Path(__file__).name
    }
    needing = {
        path.name for path in others if "audio_tfio.check()" in path.read_text(encoding="utf-8")
    }
    named = {Path(word).name for words in commands() for word in words if word.startswith("tests/")}
    assert needing <= named and len(needing) >= 2, needing - named


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """The quick start's last words, with a run folder of its own and the result as JSON."""
    (words,) = [
        words for words in commands() if words[1:] == ["-m", "kerasemo.train", "--stage", "joint"]
    ]
    folder = tmp_path_factory.mktemp("quick-start") / "run"
    process = command(*words[2:], "--run", folder, "--json", timeout=1500, check=0)
    return folder, json.loads(process.stdout), process.stderr, words[2:]


def test_the_main_job_beats_twice_chance_on_speakers_it_never_saw(finished):
    _, result, progress, _ = finished
    supervised = [stage for stage in result["stages"] if stage["kind"] == "supervised"]
    assert [stage["stage"] for stage in supervised] == [
        "pretrain",
        "finetune",
        "transfer",
        "transfer-2",
    ]
    for stage in supervised:
        ((source, score),) = stage["sources"].items()
        assert score["ua"] >= 2 * score["chance"], (stage["stage"], source, score["ua"])
        assert score["ua"] < 1, "the sample is too easy to tell anything"
    assert set(result["sources"]) == {*load_experiment("sample").sources, "savee/fused"}
    fused = result["sources"]["savee/fused"]
    assert (
        fused["clips"] == result["sources"]["savee/visual"]["clips"]
        and fused["fusion"]["utterances"] >= 10
    )
    assert fused["ua"] >= 2 * fused["chance"]
    for source in result["trained_on"]:
        assert result["sources"][source]["ua"] >= 2 * result["sources"][source]["chance"], source
    assert re.search(r"joint: \d+/\d+ images, [\d.]+ images/s", progress)


def test_again_nothing_is_done_twice_and_it_says_so(finished, command):
    folder, result, _, words = finished
    again = command(*words, "--run", folder, check=0)
    assert again.stderr.count("reused") == 6  # the corpora and five stages
    assert "Stage joint on the test side of every source" in again.stdout
    for source in result["sources"]:
        assert source in again.stdout
