"""The story grammar: makes stories from the plots of `story_plots`, and checks stories against the same plots.

Both directions share one notion, `Scene`: the values that a story's slots have so far. Making a story binds free slots at random;
checking one binds them to what stands there, and fails where a slot already has another value. So a name, a pronoun, an object or a
place that changes within a story is an error, and so is a sentence for which no plot has a place.

Slots, besides those that name a table of `story_tables.TABLES`:
    hero, pal           names; kind, palkind: what they are (a boy has a man's name, a girl a woman's)
    he him his hers     the hero's pronouns; phe phim phis: those of the friend
    place, at           a place's noun, and the same place with its preposition ("in the park")
A slot that begins with a capital stands at the beginning of a sentence.
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import story_plots as plots
import story_tables as tables
from story_plots import PLOTS, Plot, Step

Scene = dict[str, str]
"""Values of slots: `sex` and `palsex` are "m" or "f", the others are what stands in the text."""

PRONOUNS = {
    "he": {"m": "he", "f": "she"},
    "him": {"m": "him", "f": "her"},
    "his": {"m": "his", "f": "her"},
    "hers": {"m": "his", "f": "hers"},
}
SEXES = {"boy": "m", "girl": "f"} | dict.fromkeys(tables.MALE_NAMES, "m") | dict.fromkeys(tables.FEMALE_NAMES, "f")
NAMES = tables.MALE_NAMES + tables.FEMALE_NAMES
SENTENCE_END = re.compile(r'(?<=[.!?])("?) (?=["A-Z])')
SLOT = re.compile(r"\{(\w+)\}")


class Slot(NamedTuple):
    """What a slot of a template asks for."""

    key: str
    """Where its value stands in a scene."""
    forms: dict[str, str]
    """Text in a sentence -> value in the scene."""


@cache
def slot(name: str) -> Slot:
    """The slot of that name, as it stands between braces."""
    key = name[0].lower() + name[1:]
    capital = name != key
    if key in ("hero", "pal"):
        forms = {n: n for n in NAMES}
    elif key in ("kind", "palkind"):
        forms = {k: k for k in tables.KINDS}
    elif key == "place":
        forms = {p: p for p in tables.PLACES}
    elif key == "at":
        key, forms = "place", {f"{preposition} the {p}": p for p, preposition in tables.PLACES.items()}
    elif key.removeprefix("p") in PRONOUNS:
        pronoun = PRONOUNS[key.removeprefix("p")]
        key, forms = ("palsex" if key.startswith("p") else "sex"), {text: sex for sex, text in pronoun.items()}
    else:
        forms = {v: v for v in tables.TABLES[key.rstrip("0123456789")]}
    if capital:
        forms = {text[0].upper() + text[1:]: value for text, value in forms.items()}
    return Slot(key, forms)


def sex_key(key: str) -> str | None:
    """The key of the sex that goes with a name or kind."""
    return {"hero": "sex", "kind": "sex", "pal": "palsex", "palkind": "palsex"}.get(key)


def family(key: str) -> str:
    """Slots of one family have different values in a story."""
    return "hero" if key == "pal" else key.rstrip("0123456789")


def bind(scene: Scene, key: str, value: str) -> Scene | None:
    """The scene with that value too; `None` if it contradicts what the scene has."""
    known = scene.get(key)
    if known is not None:
        return scene if known == value else None
    if key not in ("sex", "palsex") and any(family(k) == family(key) and v == value for k, v in scene.items()):
        return None
    scene = scene | {key: value}
    sex, theirs = SEXES.get(value), sex_key(key)
    return bind(scene, theirs, sex) if sex and theirs else scene


class Template:
    """One sentence with slots."""

    def __init__(self, text: str) -> None:
        """`text`: the sentence, its slots in braces."""
        self.text = text
        parts = SLOT.split(text)
        self.slots = [slot(name) for name in parts[1::2]]
        pattern = re.escape(parts[0])
        for this, literal in zip(self.slots, parts[2::2], strict=True):
            pattern += "(" + "|".join(sorted(map(re.escape, this.forms), key=len, reverse=True)) + ")" + re.escape(literal)
        self.pattern = re.compile(pattern)

    def match(self, sentence: str, scene: Scene) -> Scene | None:
        """The scene after that sentence; `None` if it is none of this template, or contradicts the scene."""
        match = self.pattern.fullmatch(sentence)
        if match is None:
            return None
        after: Scene | None = scene
        for this, text in zip(self.slots, match.groups(), strict=True):
            after = after if after is None else bind(after, this.key, this.forms[text])
        return after

    def fill(self, scene: Scene, rng: random.Random) -> tuple[str, Scene]:
        """A sentence of this template, and the scene after it: slots that the scene lacks get random values."""
        texts = []
        for this in self.slots:
            if this.key not in scene:
                free = [after for value in this.forms.values() if (after := bind(scene, this.key, value))]
                scene = rng.choice(free)
            texts.append(next(text for text, value in this.forms.items() if value == scene[this.key]))
        holes = iter(texts)
        return SLOT.sub(lambda _: next(holes), self.text), scene

    def keys(self) -> set[str]:
        """What it mentions."""
        return {this.key for this in self.slots}


@cache
def template(text: str) -> Template:
    """The template of that text."""
    return Template(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return SENTENCE_END.sub(r"\1\n", text.strip()).split("\n")


OPENING = Step(plots.OPENING_ONCE + plots.OPENING_OTHER)
ALL_TEMPLATES = tuple(
    template(text) for text in dict.fromkeys(text for plot in PLOTS for step in (OPENING, *plot.steps) for text in step.options)
)


class Story(NamedTuple):
    """A story, and what is true in it."""

    text: str
    plot: Plot
    scene: Scene
    """Of what the text mentions."""


def make_story(rng: random.Random, plot: Plot | None = None, known: Scene | None = None) -> Story:
    """A random story, of `plot` if one is asked for, in which the slots of `known` have their values where they occur."""
    plot = plot or rng.choice(PLOTS)
    scene: Scene = {}
    for key, value in (known or {}).items():
        bound = bind(scene, key, value)
        if bound is None:
            raise ValueError(f"no story has {key} = {value!r} beside {scene}")
        scene = bound
    once = rng.random() < 0.85
    steps = (Step(plots.OPENING_ONCE if once else plots.OPENING_OTHER), *plot.steps)
    text: list[str] = []
    mentioned: set[str] = set()
    for step in steps:
        if rng.random() >= step.chance:
            continue
        sentence = template(rng.choice(step.options))
        filled, scene = sentence.fill(scene, rng)
        text.append(filled)
        keys = sentence.keys()
        mentioned |= keys | {sex_key(key) or key for key in keys}
    return Story(" ".join(text), plot, {key: value for key, value in scene.items() if key in mentioned})


def parse_sentence(sentence: str) -> list[tuple[str, Scene]]:
    """The templates that make this sentence, each with the values of its slots; empty if the grammar has none."""
    found = ((t.text, t.match(sentence, {})) for t in ALL_TEMPLATES)
    return [(text, scene) for text, scene in found if scene is not None]


class Verdict(NamedTuple):
    """What the checker says of a story."""

    story: Story | None
    """The story as understood; `None` if it is not consistent."""
    reason: str
    """Why it is not."""


def check_story(text: str) -> Verdict:
    """Whether one plot accounts for the whole story, with one value for each slot from its first sentence to its last."""
    said = sentences(text)
    reached, where = -1, ""
    for plot in PLOTS:
        states: list[tuple[int, Scene]] = [(0, {})]
        steps = (OPENING, *plot.steps)
        done = 0
        while states and done < len(said):
            states, done = list(_advance(steps, states, said[done])), done + 1
            if states and done > reached:
                reached, where = done, plot.name
        for at, scene in states:
            if all(step.chance < 1 for step in steps[at:]):
                return Verdict(Story(text, plot, scene), "")
    if reached == len(said):
        return Verdict(None, f"the story ({where}) breaks off after {said[-1]!r}")
    failed = said[max(reached, 0)]
    return Verdict(None, f"{failed!r} {'does not follow' if parse_sentence(failed) else 'is no sentence of the grammar'} ({where})")


WHO_AND_WHAT = frozenset(
    ("hero", "kind", "sex", "pal", "palkind", "palsex", "adult", "obj", "baby", "plant", "treat", "missing")
)
"""Slots that are somebody, or the thing that a story is about."""


def keeps_names_and_things(text: str) -> bool:
    """Whether everybody keeps name, kind and pronouns, and the thing stays the same, from the first sentence to the last, in whatever
    order the plots' sentences come. What is no sentence of the grammar says nothing about that."""
    scenes: list[Scene] = [{}]
    for sentence in sentences(text):
        if not parse_sentence(sentence):
            continue
        after = (t.match(sentence, scene) for scene in scenes for t in ALL_TEMPLATES)
        kept = ({k: v for k, v in scene.items() if k in WHO_AND_WHAT} for scene in after if scene is not None)
        scenes = [dict(items) for items in {tuple(sorted(scene.items())) for scene in kept}]
        if not scenes:
            return False
    return True


def _advance(steps: tuple[Step, ...], states: list[tuple[int, Scene]], sentence: str) -> Iterator[tuple[int, Scene]]:
    """The states (next step, scene) after one more sentence."""
    seen: list[tuple[int, Scene]] = []
    for at, scene in states:
        for i in range(at, len(steps)):
            for option in steps[i].options:
                after = template(option).match(sentence, scene)
                if after is not None and (i + 1, after) not in seen:
                    seen.append((i + 1, after))
                    yield i + 1, after
            if steps[i].chance >= 1:
                break


def words() -> set[str]:
    """The distinct words of the grammar, in lower case."""
    texts = [form for t in ALL_TEMPLATES for this in t.slots for form in this.forms]
    texts += [SLOT.sub(" ", t.text) for t in ALL_TEMPLATES]
    return {word.lower() for text in texts for word in re.findall(r"[A-Za-z]+", text)}
