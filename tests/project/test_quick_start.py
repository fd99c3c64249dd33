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
    assert f'run_marked "{mark}"' in (ROOT / ".ci" / "run").read_text()


def test_what_needs_tensorflow_io_is_run_where_it_loads():
    """Elsewhere those tests are skipped."""
    other_files = {
        path for path in (ROOT / "tests").rglob("test_*.py") if path.name != Path(__file__).name
    }
    needing = {
        path.name
        for path in other_files
        if "audio_tfio.check_tfio()" in path.read_text(encoding="utf-8")
    }
    named = {Path(word).name for words in commands() for word in words if word.startswith("tests/")}
    assert needing <= named and len(needing) >= 2, needing - named


@pytest.fixture(scope="module")
def main_job() -> list[str]:
    """The words of the README's main job."""
    (words,) = [
        words for words in commands() if words[1:] == ["-m", "kerasemo.train", "--stage", "joint"]
    ]
    return words[2:]


@pytest.fixture(scope="module")
def finished_job(command, main_job, tmp_path_factory) -> tuple[Path, dict, str]:
    """The run folder, the result and the standard error of the main job as the README has it.

    No option is left out or added but the run folder and --json.
    """
    folder = tmp_path_factory.mktemp("quick-start") / "run"
    process = command(*main_job, "--run", folder, "--json", timeout=1500, check=0)
    return folder, json.loads(process.stdout), process.stderr


def check_scored_sources(result: dict) -> None:
    """Check that the chain was trained and every source of the samples was scored."""
    supervised = [stage for stage in result["stages"] if stage["kind"] == "supervised"]
    names = [stage["stage"] for stage in supervised]
    assert names == ["pretrain", "finetune", "transfer", "transfer-2"]
    assert set(result["sources"]) == {*load_experiment("sample").sources, "savee/fused"}
    fused = result["sources"]["savee/fused"]
    assert fused["clips"] == result["sources"]["savee/visual"]["clips"]
    assert fused["fusion"]["utterances"] >= 10


@pytest.mark.endurance
def test_main_job_trains_the_chain_and_scores_every_source(finished_job):
    _, result, progress = finished_job
    check_scored_sources(result)
    assert re.search(r"joint: \d+/\d+ images, [\d.]+ images/s", progress)


@pytest.mark.endurance
def test_second_run_reuses_all_stages(finished_job, main_job, command):
    folder, result, _ = finished_job
    again = command(*main_job, "--run", folder, check=0)
    assert again.stderr.count("reus") == 6  # the corpora and five stages
    assert "Stage joint" in again.stdout
    for source in result["sources"]:
        assert source in again.stdout


@pytest.mark.endurance
def test_main_job_beats_twice_chance_on_unseen_speakers(finished_job):
    _, result, _ = finished_job
    for stage in result["stages"]:
        if stage["kind"] == "supervised":
            ((source, score),) = stage["sources"].items()
            assert 2 * score["chance"] <= score["ua"] < 1, (stage["stage"], source, score["ua"])
    for source in (*result["trained_on"], "savee/fused"):
        assert result["sources"][source]["ua"] >= 2 * result["sources"][source]["chance"], source
