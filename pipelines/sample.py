"""`python -m pipelines.sample`: small synthetic corpora in the genuine layouts, to try everything without registering anywhere.

Every clip is a pure function of the seed and of its own name, so the files are the same however many workers write them.
The faces are drawn by `pipelines.synthetic.film`, the speech is made by `pipelines.synthetic.speech`.
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
        help="where the corpora go; finished files in it are kept",
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
        help="number of processes (default: one a processor)",
    )
    arguments = parser.parse_args(argv)

    def write() -> int:
        planned = plan_utterances()
        with progress_bar("sample", unit="clips") as shown:
            shown.start(len(planned))
            folders = write_samples(
                arguments.out,
                seed=arguments.seed,
                workers=arguments.workers,
                on_clip=lambda _: shown.advance(),
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
            print(
                f"{corpus:<10} {folder}  {', '.join(f'{count} {suffix}' for suffix, count in counts.items() if count)}"
            )
        return 0

    return run_main(write, prog=parser.prog)


if __name__ == "__main__":
    raise SystemExit(main())
