"""The command `pipelines.sample`: write small synthetic corpora in the layouts of real ones.

With them a user can try every command without a registration. Each clip depends only on the seed
and its own name, so the files do not depend on the number of workers. `pipelines.synthetic.film`
draws the faces, and `pipelines.synthetic.speech` makes the speech.
"""

from collections.abc import Sequence
from pathlib import Path

from pipelines.core.cli import Parser, natural_int, positive_int, run_main
from pipelines.core.progress import progress_bar
from pipelines.synthetic.corpora import plan_utterances, write_samples


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sample corpora; return the exit status."""
    parser = Parser(
        prog="python -m pipelines.sample",
        description="Synthesise small eNTERFACE'05, SAVEE and EMO-DB corpora.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder of the corpora; complete files in it are kept",
    )
    parser.add_argument(
        "--seed",
        type=natural_int,
        default=0,
        metavar="N",
        help="another seed gives other speakers (default 0)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="the number of processes (default: one per processor)",
    )
    arguments = parser.parse_args(argv)

    def write() -> int:
        planned = plan_utterances()
        with progress_bar("sample", unit="clips") as bar:
            bar.start(len(planned))
            folders = write_samples(
                arguments.out,
                seed=arguments.seed,
                workers=arguments.workers,
                on_clip=lambda _: bar.advance(),
            )
        for corpus, folder in folders.items():
            files = [
                file
                for utterance in planned
                if utterance.corpus == corpus
                for file in utterance.files
            ]
            counts = {
                suffix: sum(file.endswith(suffix) for file in files) for suffix in (".avi", ".wav")
            }
            summary = ", ".join(f"{count} {suffix}" for suffix, count in counts.items() if count)
            print(f"{corpus:<10} {folder}  {summary}")
        return 0

    return run_main(write, prog=parser.prog)


if __name__ == "__main__":
    raise SystemExit(main())
