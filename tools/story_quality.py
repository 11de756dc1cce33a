#!/usr/bin/env python3
"""Measures the stories that the built-in model tells through the engine, with the checker of `corpus.py`.

    cargo build --release -p native-runner
    python3 tools/story_quality.py --runner target/release/native-runner --count 500

Runs `native-runner generate "Once upon a time"` once for each seed and each `--dtype`, and prints one table. With `--keep DIR` the
stories are written there, and those that are there already are not made again. The standard library suffices.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from corpus import Score, score, training_stories

PROMPT = "Once upon a time"


class Told(NamedTuple):
    """What the engine made of one seed."""

    text: str
    complete: bool
    """Whether the model ended the story itself."""
    adapter: str


def tell(runner: Path, model: Path, dtype: str, seed: int) -> Told:
    """One story through the engine."""
    command = [
        str(runner),
        "generate",
        PROMPT,
        "--model",
        str(model),
        "--dtype",
        dtype,
        "--temperature",
        "0.8",
        "--seed",
        str(seed),
        "--json",
        "--max-new-tokens",
        "400",
    ]
    environment = os.environ | {"NODEVICE_SELECT": "1"}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    done = json.loads(result.stdout.splitlines()[-1])
    return Told(PROMPT + done["text"], done["finish_reason"] == "stop", done["stats"]["adapter"])


def tell_all(runner: Path, model: Path, dtype: str, count: int, keep: Path | None) -> list[Told]:
    """A story for each seed from 0 on."""
    kept = keep / f"{dtype}.jsonl" if keep else None
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    told = [Told(**json.loads(line)) for line in lines]
    for seed in range(len(told), count):
        told.append(tell(runner, model, dtype, seed))
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps(told[-1]._asdict()) + "\n")
    return told[:count]


def row(dtype: str, told: list[Told], result: Score) -> str:
    """A row of the table."""
    complete = sum(story.complete for story in told) / max(len(told), 1)
    shares = (result.parsed, result.consistent, result.whole, result.unseen or 0.0, complete)
    return (
        " | ".join([f"| {dtype}", str(result.stories), str(result.sentences), *(f"{100 * share:.2f} %" for share in shares)]) + " |"
    )


def main() -> int:
    """The command line; fails where a figure is below its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", type=Path, default=Path("target/release/native-runner"))
    parser.add_argument("--model", type=Path, default=Path("assets/stories"))
    parser.add_argument("--dtype", nargs="+", default=["f16", "q4"])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--train-seed", type=int, default=1)
    parser.add_argument("--train-count", type=int, default=34_000)
    parser.add_argument("--keep", type=Path, help="folder for the stories, one JSON-lines file per type")
    args = parser.parse_args()

    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    seen = training_stories(args.train_seed, args.train_count)
    rows, faults, good = [], [], True
    for dtype in args.dtype:
        told = tell_all(args.runner, args.model, dtype, args.count, args.keep)
        result = score((story.text for story in told), seen)
        rows.append(row(dtype, told, result))
        faults += [f"{dtype}: {fault}" for fault in result.faults]
        bar = 0.90 if dtype == "q4" else 0.95
        good &= result.parsed >= bar and result.consistent >= 0.8 and (result.unseen or 0.0) >= 0.8
        print(f"{dtype} on {told[0].adapter}", file=sys.stderr)
    print("| dtype | stories | sentences | sentences that parse | names and things consistent | one plot throughout | unseen | ended by eos |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print("\n".join(faults), file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
