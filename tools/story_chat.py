"""Conversations about stories: somebody asks for a story, gets one that obeys the request, and asks about it."""

import random
from typing import NamedTuple

from story_grammar import Scene, Story, Template, make_story, template
from story_plots import PLOTS, Plot

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`, as chat templates take them."""

ASKS = (
    "Tell me a story{}.",
    "Can you tell me a story{}?",
    "Please tell me a story{}.",
    "I want to hear a story{}.",
    "I would like a story{}, please.",
    "Write a story{}.",
    "Make up a story{}.",
    "A story{}, please.",
    "Do you know a story{}?",
    "Tell me a short story{}.",
    "Could you tell a story{}?",
)
SUBJECTS = (
    "",
    " about a {kind} named {hero}",
    " about a {trait} {kind} named {hero}",
    " about a {kind} called {hero}",
    " about {hero}",
    " about {hero} the {kind}",
    " about a {kind}",
    " about a {trait} {kind}",
    " with a {adj} {obj}",
    " about a {adj} {obj}",
    " about a {obj}",
    " with a {obj}",
    " about {hero} and a {obj}",
    " about {hero} and {pal}",
    " about {hero} and {his} friend {pal}",
    " about a {kind} and a {palkind}",
    " about {hero} {at}",
    " about a {kind} named {hero} and a {adj} {obj}",
    " about a {kind} with a {obj}",
)
GENERAL_QUESTIONS: tuple[tuple[str, str], ...] = (
    ("Who is the story about?", "It is about a {kind} named {hero}."),
    ("What is the name of the {kind}?", "The name of the {kind} is {hero}."),
    ("Who is {hero}?", "{hero} is a {kind}."),
    ("Who is {pal}?", "{pal} is a {palkind}."),
    ("Who is in the story?", "{hero} the {kind} and {pal} the {palkind}."),
    ("Where did {hero} go?", "{hero} went to the {place}."),
    ("What did the {obj} look like?", "It was a {adj} {obj}."),
    ("What did {hero} like to do?", "{hero} liked to {hobby2}."),
    ("How did {hero} feel at the end?", "In the end, {hero} was {happy}."),
    ("What did {hero} learn?", "{hero} learned that {lesson}."),
    ("What did {hero} eat?", "{hero} ate some {food1}."),
)

NEXT_QUESTIONS = ("What happened next?", "And then?", "What happened then?", "What did {hero} do next?")
EPILOGUES = (
    "The next day, {hero} and {pal} met again and played {at}.",
    "The next {time4}, {hero} and {pal} ate some {food3} together.",
    "The next day, {hero} and {adult} ate some {food3} together.",
    "After that, {hero} was tired and slept very well.",
    "The next day, {hero} showed {pal} how to {hobby4}.",
    "A week later, {hero} told {pal} a new story.",
)
OTHERS = (
    "Tell me another one.",
    "Another one, please.",
    "One more story!",
    "Tell me another story.",
    "Again!",
    "Can I hear another one?",
)
MORE_OF_HERO = (
    "Tell me another story about {hero}.",
    "Can you tell me one more story about {hero}?",
    "Another story about {hero}, please.",
)
GREETINGS = (
    "Hello!",
    "Hi!",
    "Hey!",
    "Hello there!",
    "Good morning!",
    "Good evening!",
    "Hi, how are you?",
    "How are you?",
    "Hey there!",
)
GREETED = (
    "Hello! Do you want to hear a story?",
    "Hi! I can tell you a story. Shall I?",
    "Hello! I know many little stories. Do you want one?",
)
YES = ("Yes!", "Yes, please.", "Yes please!", "Sure.", "OK.", "Go on.", "I do!", "Please do.", "Yes, tell me a story.")
WHO = (
    "Who are you?",
    "What are you?",
    "What is your name?",
    "What can you do?",
    "Are you a robot?",
    "Help!",
    "Tell me about yourself.",
)
I_AM = (
    "I am a very small model, and I tell little stories. Ask me for one!",
    "I am a little storyteller. You can say: Tell me a story about a cat named Tom.",
)
THANKED = ("Thank you!", "Thanks!", "Thank you very much.", "That was nice!", "I like it!", "What a nice story!", "Great!", "Cool!")
WELCOME = ("You are welcome!", "I am glad that you like it!", "You are welcome! Do you want another one?")
PARTED = ("Goodbye!", "Bye!", "Good night!", "See you!")
FAREWELL = ("Goodbye! Come back for another story.", "Goodbye, and sweet dreams!")
OFF_TOPIC = (
    "What is the capital of France?",
    "What is two plus two?",
    "How do I sort a list in Python?",
    "Who won the match yesterday?",
    "What is the weather like today?",
    "Translate this into German.",
    "What time is it?",
    "Explain gravity.",
    "How far away is the moon?",
    "Give me a recipe.",
    "What should I wear?",
    "Write a poem.",
    "Write some code.",
    "What is the meaning of life?",
    "I am bored.",
    "Do you know any jokes?",
    "Who is the president?",
    "How do computers work?",
    "What is WebGPU?",
    "Can you help me with my homework?",
    "How old are you?",
    "Sing a song!",
    "I am hungry.",
    "What do you think about politics?",
    "Where do you live?",
    "blah",
    "test",
    "?",
    "Summarize this text.",
    "How much is 12 times 7?",
    "List three colors.",
    "Why is the sky blue?",
    "Which phone should I buy?",
)
ONLY_STORIES = (
    "I do not know that. I only know little stories. Do you want one?",
    "I can only tell little stories. Do you want to hear one?",
)
SYSTEM = ("You are a helpful assistant.", "You tell short stories.", "You are a friendly storyteller for children.", "Be brief.")


class Request(NamedTuple):
    """What somebody asks for."""

    text: str
    plot: Plot | None
    known: Scene
    """What the story must have."""


def make_request(rng: random.Random) -> Request:
    """A request for a story: for any, for one with certain heroes or things, or for one of a certain plot."""
    plot = rng.choice(PLOTS) if rng.random() < 0.25 else None
    subject = f" about {rng.choice(plot.topics)}" if plot else rng.choice(SUBJECTS)
    text, known = Template(subject).fill({}, rng)
    return Request(_casual(rng.choice(ASKS).format(text), rng), plot, known)


def obeys(story: Story, request: Request) -> bool:
    """Whether the story has what the request asks for."""
    return (request.plot is None or story.plot.name == request.plot.name) and request.known.items() <= story.scene.items()


def make_reply(request: Request, rng: random.Random) -> Story:
    """A story that obeys the request."""
    while True:
        story = make_story(rng, request.plot, request.known)
        if obeys(story, request):
            return story


def questions(story: Story, rng: random.Random) -> list[tuple[str, str]]:
    """Questions that the story answers, each with its answer."""
    asked = []
    for question, answer in story.plot.questions + GENERAL_QUESTIONS:
        if _needs(question) | _needs(answer) <= story.scene.keys():
            asked.append((template(question).fill(story.scene, rng)[0], template(answer).fill(story.scene, rng)[0]))
    return asked


def make_chat(rng: random.Random) -> tuple[list[Message], list[Story]]:
    """A conversation, and the stories told in it."""
    messages: list[Message] = []
    stories: list[Story] = []

    def says(user: str, assistant: str) -> None:
        messages.append({"role": "user", "content": user})
        messages.append({"role": "assistant", "content": assistant})

    def tells(request: Request) -> None:
        stories.append(make_reply(request, rng))
        says(request.text, stories[-1].text)

    if rng.random() < 0.1:
        messages.append({"role": "system", "content": rng.choice(SYSTEM)})
    if rng.random() < 0.3:
        smalltalk = ((GREETINGS, GREETED), (WHO, I_AM), (OFF_TOPIC, ONLY_STORIES))
        asked, answers = rng.choices(smalltalk, weights=(2, 1, 2))[0]
        says(_casual(rng.choice(asked), rng), rng.choice(answers))
        if rng.random() < 0.2:
            return messages, stories
        if rng.random() < 0.5:
            tells(Request(_casual(rng.choice(YES), rng), None, {}))
    if not stories:
        tells(make_request(rng))
    for _ in range(rng.randrange(4)):
        says(*_follow_up(stories[-1], rng))
    if rng.random() < 0.25:
        hero: Scene = {key: stories[-1].scene[key] for key in ("hero", "kind", "sex") if key in stories[-1].scene}
        if rng.random() < 0.5:
            tells(Request(_casual(template(rng.choice(MORE_OF_HERO)).fill(hero, rng)[0], rng), None, hero))
        else:
            tells(Request(_casual(rng.choice(OTHERS), rng), None, {}))
        if rng.random() < 0.5:
            says(*_follow_up(stories[-1], rng))
    return messages, stories


def _follow_up(story: Story, rng: random.Random) -> tuple[str, str]:
    """Something said after a story, and the answer."""
    kind = rng.random()
    if kind < 0.7:
        question, answer = rng.choice(questions(story, rng))
    elif kind < 0.8:
        question = template(rng.choice(NEXT_QUESTIONS)).fill(story.scene, rng)[0]
        persons = ({"hero", "pal", "adult"} & story.scene.keys()) | {"sex", "hobby4", "food3", "time4"}
        told = [text for text in EPILOGUES if _needs(text) <= persons | ({"place"} & story.scene.keys())]
        answer = template(rng.choice(told)).fill(story.scene, rng)[0]
    elif kind < 0.85:
        return _casual(rng.choice(OFF_TOPIC), rng), rng.choice(ONLY_STORIES)
    elif kind < 0.95:
        return _casual(rng.choice(THANKED), rng), rng.choice(WELCOME)
    else:
        return _casual(rng.choice(PARTED), rng), rng.choice(FAREWELL)
    return _casual(question, rng), answer


def _needs(text: str) -> set[str]:
    """The slots that a question or an answer takes from the story."""
    return template(text).keys()


def _casual(text: str, rng: random.Random) -> str:
    """The text as somebody in a hurry may type it."""
    manner = rng.random()
    if manner < 0.12:
        return text.rstrip(".!?").lower() or text
    return text.rstrip(".!") or text if manner < 0.25 else text
