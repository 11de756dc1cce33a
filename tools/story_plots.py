"""The plots of the project's story grammar: data only. `story_grammar` says what the slots mean.

A plot is a list of steps. A step is a list of options, of which a story takes one (or none, where the step is optional). An option
is a sentence with slots in braces. A slot's name without its trailing digit names the table that fills it; two slots of
one table never have the same value in a story.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """One step of a plot."""

    options: tuple[str, ...]
    chance: float = 1.0


class Plot(NamedTuple):
    """A plot: what it is about, its steps, and questions about it with their answers."""

    name: str
    topics: tuple[str, ...]
    steps: tuple[Step, ...]
    questions: tuple[tuple[str, str], ...]


def step(*options: str) -> Step:
    """A step that every story of the plot has."""
    return Step(options)


def maybe(*options: str, chance: float = 0.5) -> Step:
    """A step that some stories leave out."""
    return Step(options, chance)


OPENING_ONCE = (
    "Once upon a time, there was a {trait} {kind} named {hero}.",
    "Once upon a time, there lived a {trait} {kind} named {hero}.",
    "Once upon a time, a {trait} {kind} named {hero} lived near the {home}.",
    "Once upon a time, {hero} the {kind} lived in a {house} house.",
    "Once upon a time, in a {house} house near the {home}, there was a {kind} named {hero}.",
    "Once upon a time, there was a {kind} named {hero} who was very {trait}.",
)
OPENING_OTHER = (
    "There once was a {trait} {kind} called {hero}.",
    "Long ago, a {trait} {kind} named {hero} lived near the {home}.",
    "{hero} was a {trait} {kind} who loved to {hobby1}.",
    "In a {house} house near the {home} lived a {trait} {kind} named {hero}.",
    "This is the story of {hero}, a {trait} {kind}.",
)

HABIT = maybe(
    "{He} loved to {hobby2}.",
    "{hero} liked to {hobby2} and to {hobby3}.",
    "Every {time1}, {hero} liked to {hobby2}.",
    "{He} lived with {adult}.",
    "{He} could {hobby2} all day long.",
    chance=0.6,
)
OWNS = step(
    "{He} had a {adj} {obj}.",
    "{hero} had a {adj} {obj} that {he} loved very much.",
    "For {his} birthday, {adult} gave {him} a {adj} {obj}.",
    "{His} favorite thing in the world was a {adj} {obj}.",
)
LOVES = maybe(
    "{He} took the {obj} everywhere.",
    "{He} never went out without {his} {obj}.",
    "{He} thought it was the best {obj} of all.",
    chance=0.4,
)
WENT_OUT = step(
    "One {weather} {time2}, {he} went to the {place}.",
    "One {weather} {time2}, {hero} was walking {at}.",
    "On a {weather} {time2}, {hero} went out to play {at}.",
)
TOOK_OUT = step(
    "One {weather} {time2}, {he} took the {obj} to the {place}.",
    "One {weather} {time2}, {hero} was playing with the {obj} {at}.",
    "On a {weather} {time2}, {hero} went to the {place} with {his} {obj}.",
)
WEEPS = step(
    "{hero} was very {sad}.", "{He} felt {sad} and began to cry.", "{He} sat down and felt {sad}.", "This made {hero} very {sad}."
)
MEETS = step(
    "Then {he} met a {palkind} named {pal}.",
    "Just then, a {palkind} named {pal} came along.",
    "There {he} saw {his} friend {pal}, the {palkind}.",
    "{pal} the {palkind} was there too.",
)
FRIEND = step(
    "{His} best friend was a {palkind} named {pal}.",
    "{He} had a friend, a {palkind} named {pal}.",
    "{hero} and {pal} the {palkind} were good friends.",
)
THANKS = step(
    '"Thank you, {pal}!" said {hero}.',
    "{hero} hugged {pal} and said thank you.",
    '"You are a true friend," said {hero} to {pal}.',
    "{hero} was so {happy} that {he} {cheer}.",
    "Now {hero} was {happy} again.",
)
REJOICES = step(
    "{hero} was so {happy} that {he} {cheer}.",
    "{He} {cheer}, because {he} was {happy}.",
    "Now {hero} was {happy} again.",
    "{hero} felt very {happy}.",
)
END_PAL = step(
    "From that day on, {hero} and {pal} were the best of friends.",
    "{hero} and {pal} played together until the sun went down.",
    "Then they went home and ate some {food1} together.",
    "After that, {hero} and {pal} met every day {at}.",
)
END_ALONE = step(
    "From that day on, {hero} was never {sad} again.",
    "That night, {hero} went to bed with a smile.",
    "Then {he} went home and ate some {food1}.",
    "{hero} told everyone about it.",
)
CLOSING = maybe(
    "{hero} learned that {lesson}.", "And so {hero} learned that {lesson}.", "The end.", "And they all lived happily ever after."
)

PLOTS: tuple[Plot, ...] = (
    Plot(
        "lost",
        ("a lost {obj}", "something that gets lost", "losing a {obj}"),
        (
            HABIT, OWNS, TOOK_OUT,
            step(
                "But when {he} looked for the {obj}, it was gone.",
                "Suddenly, the {obj} was nowhere to be seen.",
                "On the way home, {hero} lost the {obj}.",
                '"Oh no, where is my {obj}?" cried {hero}.',
            ),
            WEEPS,
            step("{He} looked {spot1}, but the {obj} was not there.", "First, {he} looked {spot1}, but found nothing."),
            maybe("Then {he} looked {spot2}, but it was not there either.", "Next, {he} searched {spot2}."),
            MEETS,
            maybe(
                '"I will help you to find it," said {pal}.',
                '"Can you help me find my {obj}?" asked {hero}.',
                "{pal} wanted to help.",
            ),
            step(
                "{pal} looked {spot3} and found the {obj}.",
                "At last, {pal} found the {obj} {spot3}.",
                '"Here it is!" called {pal}, and there was the {obj}, {spot3}.',
            ),
            THANKS, END_PAL, CLOSING,
        ),
        (
            ("What did {hero} lose?", "{hero} lost {his} {adj} {obj}."),
            ("Who found the {obj}?", "{pal} found the {obj}."),
            ("Where was the {obj}?", "The {obj} was {spot3}."),
            ("Where did {hero} look first?", "First, {hero} looked {spot1}."),
        ),
    ),
    Plot(
        "broken",
        ("a broken {obj}", "something that breaks", "mending a {obj}"),
        (
            HABIT, OWNS, LOVES, TOOK_OUT,
            step("But {accident}, and the {obj} broke.", "Then {accident} and broke in two.",
                "Suddenly, {accident}, and it was broken."),
            WEEPS,
            step(
                "{He} took the broken {obj} to {adult}.",
                "{He} ran home and showed it to {adult}.",
                '"My {obj} is broken," {he} said to {adult}.',
            ),
            maybe('"Do not cry," said {adult}.', '"We can mend it," said {adult}.', '"Let me see," said {adult}.'),
            step(
                "{adult} mended the {obj} with {fixer}.",
                "{adult} took {fixer}, and together they mended it.",
                "With {fixer}, {adult} made the {obj} whole again.",
            ),
            step("Soon the {obj} was as good as new.", "Now the {obj} looked even better than before.", "The {obj} worked again!"),
            step('"Thank you, {adult}!" said {hero}.', "{hero} gave {adult} a big hug.",
                "{hero} was so {happy} that {he} {cheer}."),
            END_ALONE, CLOSING,
        ),
        (
            ("What broke?", "The {adj} {obj} broke."),
            ("What happened to the {obj}?", "It broke, and {adult} mended it."),
            ("Who mended the {obj}?", "{adult} mended the {obj}."),
            ("How did {adult} mend it?", "{adult} mended it with {fixer}."),
        ),
    ),
    Plot(
        "shared",
        ("sharing", "sharing a {obj}", "two friends who share"),
        (
            HABIT, OWNS, FRIEND,
            step(
                "One {weather} {time2}, {pal} came to play with {hero}.",
                "One {weather} {time2}, {hero} and {pal} met {at}.",
            ),
            step('"May I play with your {obj}?" asked {pal}.', "{pal} wanted to play with the {obj} too."),
            step('"No, it is mine!" said {hero}.', "But {hero} did not want to share the {obj}.",
                "{hero} held the {obj} tight and said no."),
            step("{pal} felt {sad} and walked away.", "{pal} was very {sad}.", "A tear ran down the face of {pal}."),
            step(
                "{hero} saw this and was sorry.",
                "Playing alone was no fun, and {hero} was sorry.",
                '"You should share with your friends," said {adult}.',
            ),
            step(
                '"Let us play with the {obj} together," said {hero}.',
                "So {hero} gave the {obj} to {pal} for a while.",
                '"Here, you can have a turn," said {hero}.',
            ),
            maybe('"Thank you, {hero}!" said {pal}.', "{pal} smiled at {hero}.", "{pal} took the {obj} and laughed."),
            step("They took turns and had a lot of fun.", "They played with the {obj} all {time3}.",
                "Now both of them were {happy}."),
            END_PAL, CLOSING,
        ),
        (
            ("What did {hero} share?", "{hero} shared {his} {adj} {obj}."),
            ("Who wanted the {obj}?", "{pal} wanted to play with the {obj}."),
            ("Why was {pal} {sad}?", "{pal} was {sad} because {hero} did not want to share."),
        ),
    ),
    Plot(
        "given",
        ("a gift", "giving a {obj} away", "a kind gift"),
        (
            HABIT, OWNS, WENT_OUT, MEETS,
            step("{pal} was {sad} and alone.", "{pal} looked very {sad}.", '"I am so {sad}," said {pal}.'),
            maybe('"What is wrong?" asked {hero}.', '"Why are you crying, {pal}?" asked {hero}.',
                "{hero} asked {pal} what was wrong."),
            step(
                '"I have no {obj} to play with," said {pal}.',
                '"I lost my own {obj}," said {pal}.',
                '"I never had a {obj}," said {pal}.',
            ),
            maybe("{hero} thought about it for a while.", "{hero} looked at {his} {adj} {obj}.", "{hero} knew what to do."),
            step(
                '"You can have mine," said {hero}, and gave the {obj} to {pal}.',
                "Then {hero} gave {pal} the {adj} {obj}.",
                '"This {obj} is for you," said {hero}.',
            ),
            step('"Thank you, {hero}!" said {pal}.', "{pal} could not believe it.", "{pal} held the {obj} and smiled."),
            step("{pal} {cheer}, and {hero} was {happy}.", "It felt good to give, and {hero} was {happy}.",
                "Both of them were {happy}."),
            END_PAL, CLOSING,
        ),
        (
            ("What did {hero} give to {pal}?", "{hero} gave {pal} the {adj} {obj}."),
            ("Who has the {obj} now?", "{pal} has the {obj} now."),
            ("Who got the {obj}?", "{pal} got the {obj}."),
        ),
    ),
    Plot(
        "returned",
        ("finding a {obj}", "being honest", "something that is found"),
        (
            HABIT, WENT_OUT,
            step(
                "There {he} found a {adj} {obj} {spot1}.",
                "{He} saw something {adj} {spot1}, and it was a {obj}.",
                "{Spot1}, {he} found a {adj} {obj}.",
            ),
            step("{hero} wanted to keep it, but it was not {hers}.", "{He} knew that it was not {hers}.",
                '"Whose {obj} is this?" asked {hero}.'),
            maybe("{He} asked {adult}, but {adult} did not know.", "{He} asked everyone {at}.",
                "{He} showed the {obj} to {adult}."),
            MEETS,
            step('"I lost my {obj}," said {pal}.', "{pal} was looking for a {adj} {obj}.",
                "{pal} was crying, because {phis} {obj} was lost."),
            step('"Is this yours?" asked {hero}.', '"I found your {obj}," said {hero}.'),
            step("{hero} gave the {obj} back to {pal}.", "{pal} took the {obj} and {cheer}.", '"Yes, that is mine!" cried {pal}.'),
            step('"Thank you, {hero}!" said {pal}.', '"You are very honest," said {pal}.'),
            maybe("To say thank you, {pal} gave {him} some {food2}.",
                "{hero} felt {happy}, because {he} had done the right thing."),
            END_PAL, CLOSING,
        ),
        (
            ("What did {hero} find?", "{hero} found a {adj} {obj}."),
            ("Where was the {obj}?", "The {obj} was {spot1}."),
            ("Whose {obj} was it?", "The {obj} belonged to {pal}."),
            ("Who found the {obj}?", "{hero} found the {obj}."),
        ),
    ),
    Plot(
        "animal",
        ("a lost {baby}", "helping an animal", "a little {baby}"),
        (
            HABIT, WENT_OUT,
            step("There {he} heard a little cry.", "Suddenly, {hero} heard a noise.", "Something was crying {spot1}."),
            step(
                "It was a {baby} that had lost its mother.",
                "A tiny {baby} was sitting {spot2}, all alone.",
                "{hero} looked around and saw a little {baby}.",
            ),
            step("The {baby} was cold and {scared}.", "The {baby} was {scared} and hungry.", "The poor {baby} looked {scared}."),
            maybe('"Do not be {scared}," said {hero}.', '"I will help you," said {hero} to the {baby}.',
                "{hero} spoke to the {baby} in a soft voice."),
            step("{He} gave it some {food2} to eat.", "{He} gave the {baby} some {food2}.",
                "{He} shared {his} {food2} with the {baby}."),
            step("Then they went to look for its mother.", "Together they looked for the mother of the {baby}.",
                "{hero} carried the {baby} and looked for its mother."),
            step("At last, they found her {spot3}.", "At last, they saw the mother {spot3}."),
            step("The {baby} ran to its mother.", "The mother was {happy1} to see her {baby}.", "The {baby} was safe again."),
            step("{hero} waved goodbye and was {happy2}.", '"Goodbye, little {baby}!" said {hero}.',
                "{hero} was {happy2} that {he} could help."),
            step(
                "That night, {hero} dreamed of the {baby}.",
                "Then {he} went home and told {adult} about the {baby}.",
                "After that, the {baby} came to see {hero} every {time3}.",
            ),
            CLOSING,
        ),
        (
            ("What animal did {hero} help?", "{hero} helped a {baby}."),
            ("What did the {baby} eat?", "The {baby} ate some {food2}."),
            ("Where was the mother?", "The mother was {spot3}."),
            ("Who helped the {baby}?", "{hero} helped the {baby}."),
        ),
    ),
    Plot(
        "night",
        ("being brave", "a scary night", "going to bed"),
        (
            HABIT,
            step("One {gloom} night, {hero} could not sleep.", "One {gloom} night, {hero} woke up.",
                "It was a {gloom} night, and {hero} was in bed."),
            step("{He} was {scared} of the {noise}.", "The {noise} made {him} {scared}.",
                '"I am {scared} of the {noise}," said {hero}.'),
            maybe("{He} hid under the blanket.", "{He} held {his} pillow tight.", "{He} closed {his} eyes, but it did not help."),
            step("So {he} called for {adult}.", "So {he} ran to {adult}.", '"{adult}, please come!" called {hero}.'),
            step('"What is the matter?" asked {adult}.', "{adult} came and sat on the bed.", "{adult} gave {him} a hug."),
            step(
                '"The {noise} cannot hurt you," said {adult}.',
                '"I was {scared} of the {noise} too, when I was small," said {adult}.',
                '"There is nothing to fear," said {adult}.',
            ),
            maybe("{adult} gave {him} a {adj} lamp.", "{adult} sang a soft song.",
                "{adult} read {him} a story about a {trait2} dragon.", "{adult} made {him} some warm milk."),
            step("Soon {hero} was not {scared} any more.", "{hero} began to smile.", "Now {hero} felt safe."),
            step("{He} closed {his} eyes and slept until the morning.", "{He} fell asleep and had a sweet dream.",
                "{He} slept very well that night."),
            maybe("In the morning, {hero} felt {happy}.", "In the morning, {he} was {happy} and had some {food1}."),
            CLOSING,
        ),
        (
            ("What was {hero} afraid of?", "{hero} was {scared} of the {noise}."),
            ("Who came to help?", "{adult} came to help."),
            ("Could {hero} sleep in the end?", "Yes, {hero} slept very well."),
        ),
    ),
    Plot(
        "baking",
        ("cooking", "making {treat}", "helping a neighbor"),
        (
            HABIT,
            step("One {weather} {time2}, {hero} wanted to make some {treat}.",
                "One {weather} {time2}, {hero} and {adult} wanted to make some {treat}."),
            maybe("{He} put on an apron and washed {his} hands.", "{He} got a big bowl and a spoon.",
                "{He} looked into the kitchen cupboard."),
            step("But there was no {missing} left.", '"Oh no, we have no {missing}!" said {hero}.',
                "But the {missing} was all gone."),
            step("So {he} went to {pal}, the {palkind} next door.", "A {palkind} named {pal} lived next door, so {he} went there."),
            step('"Do you have some {missing}?" asked {hero}.', '"May I have some {missing}, please?" asked {hero}.'),
            step('"Yes, of course," said {pal}.', '"You can have all you need," said {pal}.',
                "{pal} gave {him} a bag with {missing}."),
            step("{hero} ran home and mixed everything in the bowl.", "{hero} hurried home and added the {missing}."),
            step("Soon the house smelled wonderful.", "The {treat} came out warm and sweet.",
                "It took an hour, and then the {treat} was ready."),
            step("{hero} asked {pal} to come and eat with {him}.", "{He} took some of the {treat} to {pal}.",
                "{hero} shared the {treat} with {pal}."),
            step('"This is the best {treat} in the world!" said {pal}.', '"Yummy!" said {pal}.',
                "{pal} ate it all and was {happy}."),
            step("They laughed and ate until they were full.", "From then on, {hero} and {pal} cooked together every week.",
                "{hero} was {happy} to have such a good neighbor."),
            CLOSING,
        ),
        (
            ("What did {hero} make?", "{hero} made some {treat}."),
            ("What was missing?", "The {missing} was missing."),
            ("Who gave {hero} the {missing}?", "{pal} gave {hero} the {missing}."),
            ("Who ate with {hero}?", "{pal} ate with {hero}."),
        ),
    ),
    Plot(
        "stuck",
        ("a {obj} in a tree", "getting a {obj} back", "something that gets stuck"),
        (
            HABIT, OWNS, TOOK_OUT,
            step("Then the wind took the {obj} high up into a tree.", "{He} threw the {obj} up, and it got stuck in a tree.",
                "But the {obj} got stuck in a tall tree."),
            step("{He} jumped and jumped, but {he} was too small.", "{He} shook the tree, but the {obj} did not fall.",
                "{He} tried to climb up, but it was too hard."),
            maybe(*WEEPS.options), MEETS,
            step('"What is the matter?" asked {pal}.', '"My {obj} is in the tree," said {hero}.',
                '"Can you get my {obj} down?" asked {hero}.'),
            maybe('"I have an idea," said {pal}.', '"Let me try," said {pal}.', "{pal} looked up and thought hard."),
            step(
                "{pal} got a long stick and pushed the {obj} down.",
                "{pal} climbed up and brought the {obj} down.",
                "{pal} stood on a ladder and got the {obj}.",
            ),
            THANKS, END_PAL, CLOSING,
        ),
        (
            ("What got stuck in the tree?", "The {adj} {obj} got stuck in the tree."),
            ("Who got the {obj} down?", "{pal} got the {obj} down."),
            ("Where was the {obj}?", "The {obj} was in a tree."),
        ),
    ),
    Plot(
        "garden",
        ("a garden", "growing a {plant}", "a seed"),
        (
            HABIT,
            step("One {weather} {time2}, {adult} gave {him} a seed.", "One {weather} {time2}, {hero} found a seed {spot1}.",
                "One {weather} {time2}, {hero} wanted to grow a {plant}."),
            step("{He} put the seed into the ground.", "{hero} dug a hole and planted the seed.",
                "{He} planted the seed in a {adj} pot."),
            step("Every {time3}, {he} gave it water.", "{He} watered it and waited.", "{He} sat beside it and sang to it."),
            step("But nothing happened.", "Day after day, there was nothing to see.", "A week went by, and nothing grew."),
            maybe(*WEEPS.options),
            step('"You must wait a little longer," said {adult}.', '"Good things take time," said {adult}.',
                '"Do not give up," said {adult}.'),
            step("At last, a green leaf came out of the ground.", "One {time4}, {he} saw a tiny green leaf.",
                "Then, at last, something began to grow."),
            step("It grew and grew until it was a big {plant}.", "Soon it was the prettiest {plant} of all.",
                "The leaf became a tall {plant}."),
            maybe(*REJOICES.options),
            step("{He} gave the {plant} to {adult}.", "{He} showed the {plant} to {his} friend {pal}, the {palkind}.",
                "Everyone came to look at the {plant}."),
            END_ALONE, CLOSING,
        ),
        (
            ("What did {hero} grow?", "{hero} grew a {plant}."),
            ("What came out of the ground?", "A green leaf came out of the ground."),
            ("What did {adult} say?", "{adult} told {hero} to wait."),
        ),
    ),
    Plot(
        "learning",
        ("learning to {skill}", "not giving up", "trying again"),
        (
            HABIT,
            step("{hero} wanted to learn to {skill}.", "More than anything, {hero} wanted to {skill}.",
                '"I want to {skill}," said {hero} one {time1}.'),
            step("One {weather} {time2}, {he} went to the {place} to try it.", "So {he} tried it {at}."),
            step("But it was very hard.", "But the first time, it did not work at all.",
                "{He} tried and tried, but it went wrong."),
            step('"I will never learn it," {he} said.', '"It is too hard for me," {he} said.', "{He} wanted to give up.",
                "{hero} was very {sad}."),
            MEETS,
            step('"I can show you how to {skill}," said {pal}.', '"You only need to try again," said {pal}.',
                '"I could not do it at first, either," said {pal}.'),
            step("{pal} showed {him} what to do.", "{pal} stayed with {him} and helped.",
                "{pal} held {his} hand, and they tried together."),
            maybe("The next {time3}, {hero} tried again.", "{hero} took a deep breath and tried once more.",
                "Again and again, {hero} tried."),
            step("And this time, it worked!", "And then {hero} could {skill}!", '"Look, I can {skill}!" cried {hero}.'),
            THANKS, END_PAL, CLOSING,
        ),
        (
            ("What did {hero} learn?", "{hero} learned to {skill}."),
            ("Who helped {hero}?", "{pal} helped {hero}."),
            ("Was it hard?", "Yes, at first it was very hard."),
        ),
    ),
    Plot(
        "sorry",
        ("saying sorry", "telling the truth", "a mistake"),
        (
            FRIEND,
            step("{pal} had a {adj} {obj}.", "One {time1}, {pal} got a {adj} {obj}."),
            step("{hero} wanted it so much.", "{hero} wished that it was {hers}.", "{hero} looked at it again and again."),
            step("One {weather} {time2}, {he} took the {obj} without asking.",
                "One {weather} {time2}, when {pal} was away, {hero} took the {obj}."),
            step("{He} hid it {spot1}.", "{He} put the {obj} {spot1}, so that nobody could see it."),
            step('"Have you seen my {obj}?" asked {pal}.', "{pal} looked everywhere for the {obj}.",
                "When {pal} came back, the {obj} was gone."),
            maybe("{pal} was very {sad}.", "{pal} began to cry.", '"I miss my {obj} so much," said {pal}.'),
            step("Now {hero} felt bad.", "{hero} could not eat and could not sleep.", "{hero} knew that it was wrong."),
            step('"I took it, and I am sorry," said {hero}.', "So {hero} told {pal} the truth.", '"It was me," said {hero}.'),
            step("{He} gave the {obj} back to {pal}.", "{He} got the {obj} and gave it back."),
            maybe('"Thank you for telling me," said {pal}.', '"It is all right," said {pal}.', "{pal} was not angry any more."),
            step('"Next time, just ask me," said {pal}.', '"We can play with it together," said {pal}.'),
            END_PAL, CLOSING,
        ),
        (
            ("What did {hero} take?", "{hero} took the {adj} {obj}."),
            ("Whose {obj} was it?", "The {obj} belonged to {pal}."),
            ("Where did {hero} hide it?", "{hero} hid it {spot1}."),
            ("Who has the {obj} now?", "{pal} has the {obj} now."),
        ),
    ),
)
