#!/usr/bin/env python3
"""The corpus of the built-in model: stories and conversations of the project's own grammar, and the checker of that grammar.

    python3 tools/corpus.py generate --count 5 --seed 1
    python3 tools/corpus.py check FILE --train-seed 1 --train-count 18000
    python3 tools/corpus.py selftest

`FILE` has one JSON object per line with a `text` (a story), or stories with empty lines between. The standard library suffices.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from story_chat import Message, make_chat, make_reply, make_request, obeys, questions
from story_grammar import NAMES, Story, check_story, keeps_names_and_things, make_story, parse_sentence, sentences, words

STORY_SHARE = 0.55
"""Of the documents; the others are conversations."""


class Document(NamedTuple):
    """One document of the corpus: a story, or a conversation."""

    stories: list[Story]
    messages: list[Message]
    """Empty for a story."""


def document(seed: int, index: int) -> Document:
    """The document of that number: a function of its arguments."""
    rng = random.Random(f"{seed}:{index}")
    if rng.random() < STORY_SHARE:
        return Document([make_story(rng)], [])
    messages, stories = make_chat(rng)
    return Document(stories, messages)


def training_stories(seed: int, count: int) -> set[str]:
    """The texts of all stories in that corpus."""
    return {story.text for index in range(count) for story in document(seed, index).stories}


class Score(NamedTuple):
    """How good stories are; shares are from 0 to 1."""

    stories: int
    sentences: int
    parsed: float
    """Share of sentences that the grammar has."""
    consistent: float
    """Share of stories in which everybody keeps name, kind and pronouns, and the thing stays the same."""
    whole: float
    """Share of stories that one plot accounts for, sentence by sentence, from the opening to the end."""
    unseen: float | None
    """Share of stories that are not in the training corpus."""
    faults: list[str]
    """Why stories are not whole."""


def score(texts: Iterable[str], seen: set[str] | None = None) -> Score:
    """Checks stories."""
    told = [text.strip() for text in texts]
    said = [sentence for text in told for sentence in sentences(text)]
    verdicts = [check_story(text) for text in told]
    return Score(
        stories=len(told),
        sentences=len(said),
        parsed=sum(bool(parse_sentence(sentence)) for sentence in said) / max(len(said), 1),
        consistent=sum(map(keeps_names_and_things, told)) / max(len(told), 1),
        whole=sum(verdict.story is not None for verdict in verdicts) / max(len(told), 1),
        unseen=None if seen is None else sum(text not in seen for text in told) / max(len(told), 1),
        faults=[verdict.reason for verdict in verdicts if verdict.story is None],
    )


def read_stories(path: Path) -> Iterator[str]:
    """The stories of a file: JSON lines with a `text`, or text with empty lines between stories."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        lines = (json.loads(line) for line in text.splitlines() if line.strip())
        yield from (line["text"] for line in lines if "text" in line)
    else:
        yield from (" ".join(story.split()) for story in re.split(r"\n\s*\n", text) if story.strip())


def swap_name(story: Story) -> str:
    """The hero's last mention has another name."""
    head, _, tail = story.text.rpartition(story.scene["hero"])
    return head + next(name for name in NAMES if name not in story.text) + tail


def swap_pronoun(story: Story) -> str:
    """The hero's last pronoun is of the other sex."""
    old, new = ("he", "she") if story.scene["sex"] == "m" else ("she", "he")
    pattern = re.compile(rf"(.*)\b{old}\b", re.DOTALL | re.IGNORECASE)
    return pattern.sub(lambda match: match[1] + new, story.text)


def swap_object(story: Story) -> str:
    """The object turns into another at its last mention."""
    head, found, tail = story.text.rpartition(story.scene.get("obj", "\0"))
    return head + ("drum" if found != "drum" else "kite") + tail if found else story.text


def drop_fate(story: Story) -> str:
    """What the plot is about does not happen: its sixth sentence and the two before are missing."""
    said = sentences(story.text)
    return " ".join(said[:3] + said[6:])


def break_off(story: Story) -> str:
    """The last third is missing."""
    said = sentences(story.text)
    return " ".join(said[: len(said) * 2 // 3])


def garble(story: Story) -> str:
    """Two words of the last sentence change places."""
    *head, last = sentences(story.text)
    turned = last.split()
    turned[0], turned[1] = turned[1], turned[0]
    return " ".join([*head, " ".join(turned)])


CORRUPTIONS: tuple[Callable[[Story], str], ...] = (swap_name, swap_pronoun, swap_object, drop_fate, break_off, garble)


def selftest() -> list[str]:
    """What is wrong with the grammar: its own stories must pass, and corrupted ones must not."""
    wrong = []
    if len(words()) < 300:
        wrong.append(f"the grammar has {len(words())} words, expected at least 300")
    rng = random.Random(0)
    stories = [make_story(rng) for _ in range(300)]
    for story in stories:
        if not 6 <= len(sentences(story.text)) <= 15:
            wrong.append(f"a story of {len(sentences(story.text))} sentences: {story.text}")
        for sentence in sentences(story.text):
            if not parse_sentence(sentence):
                wrong.append(f"does not parse: {sentence}")
        verdict = check_story(story.text)
        if verdict.story is None:
            wrong.append(f"{verdict.reason}: {story.text}")
        if not keeps_names_and_things(story.text):
            wrong.append(f"names or things change: {story.text}")
        for corrupt in CORRUPTIONS:
            worse = corrupt(story)
            if worse != story.text and check_story(worse).story is not None:
                wrong.append(f"{corrupt.__name__} went unnoticed: {worse}")
    renamed = [swap_name(story) for story in stories]
    if sum(map(keeps_names_and_things, renamed)) > len(stories) // 20:
        wrong.append("another name for the hero goes unnoticed in more than one of twenty stories")
    if len({story.text for story in stories}) < len(stories):
        wrong.append("two of 300 stories are the same")
    for _ in range(100):
        request = make_request(rng)
        understood = check_story(make_reply(request, rng).text).story
        if understood is None or not obeys(understood, request):
            wrong.append(f"the reply does not obey {request.text!r}")
        elif not questions(understood, rng):
            wrong.append(f"there is nothing to ask about: {understood.text}")
    return wrong


def show(result: Score) -> None:
    """Prints shares in percent, and some of the faults."""
    print(f"stories      {result.stories}")
    print(f"sentences    {result.sentences}, {100 * result.parsed:.2f} % parse")
    print(f"consistent   {100 * result.consistent:.2f} % (names and things), {100 * result.whole:.2f} % tell one plot")
    if result.unseen is not None:
        print(f"unseen       {100 * result.unseen:.2f} %")
    for fault in result.faults[:10]:
        print(f"  {fault}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="print documents, one JSON object per line")
    generate.add_argument("--count", type=int, default=10)
    generate.add_argument("--seed", type=int, default=1)
    check = commands.add_parser("check", help="check the stories of a file")
    check.add_argument("file", type=Path)
    check.add_argument("--train-seed", type=int)
    check.add_argument("--train-count", type=int, default=0)
    commands.add_parser("selftest", help="check the grammar itself")
    args = parser.parse_args()

    if args.command == "generate":
        for index in range(args.count):
            made = document(args.seed, index)
            print(json.dumps({"messages": made.messages} if made.messages else {"text": made.stories[0].text}))
        return 0
    if args.command == "check":
        seen = None if args.train_seed is None else training_stories(args.train_seed, args.train_count)
        show(score(read_stories(args.file), seen))
        return 0
    wrong = selftest()
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(words())} words; {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
