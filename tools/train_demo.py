#!/usr/bin/env python3
"""Trains the built-in model: a tokenizer and a small Llama on the corpus of `corpus.py`, written as a Hugging Face checkpoint.

    python tools/train_demo.py --out assets/stories

Needs torch, transformers and tokenizers; runs on the CPU. Every document is seen once. Two things differ from the usual:

- What a story says again (a name, an object, a place) counts more in the loss at first. It is a small part of the text, most of
  which is a free choice that nobody can predict, and without that weight the model takes ten times as long to learn to copy it.
- In the last part every other step runs with linear weights rounded to 4 bits as the engine's q4 rounds them (gradients pass
  straight through), so that the model stays good when it is loaded at q4.

At the end the model is loaded again, tells stories and answers questions, and the grammar's checker judges them.
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from corpus import Document, document, score, training_stories
from story_chat import make_request, obeys, questions
from story_grammar import check_story

UNK, BOS, EOS, END, SYSTEM, USER, ASSISTANT = range(7)
SPECIAL = ["<unk>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 1024
TOKENIZER_DOCUMENTS = 5000
CONTEXT = 512
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
}
SEED = 1
IGNORED = -100
Q4_BLOCK = 32
TOKENS_PER_STEP = 2048
COPY_WEIGHT = 5.0
"""How much a repeated word counts at the start; it comes down to 1 over the first `COPY_SHARE` of the training."""
COPY_SHARE = 0.6
COMMON = 0.25
"""Tokens that stand in more than this share of the documents are no names of anything."""


class Example(NamedTuple):
    """A document as the model learns it."""

    ids: list[int]
    labels: list[int]
    """What is to be predicted, from the second token on; `IGNORED` for what a user says."""
    repeated: list[bool]
    """Whether the document had the token before, and it is not common."""


def train_tokenizer(seed: int, count: int) -> Tokenizer:
    """Byte-level BPE, so that any text has tokens; learned from the first `count` documents."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    documents = (document(seed, index) for index in range(count))
    texts = (text for d in documents for text in ([m["content"] for m in d.messages] or [story.text for story in d.stories]))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)])
    return tokenizer


def examples(tokenizer: Tokenizer, seed: int, first: int, count: int) -> list[Example]:
    """`count` documents as the model learns them, from number `first` on; one that is longer than the context is cut."""
    pairs = [labelled(tokenizer, document(seed, index)) for index in range(first, first + count)]
    documents_with = Counter(token for ids, _ in pairs for token in set(ids))
    common = {token for token, documents in documents_with.items() if documents > COMMON * count}
    made = []
    for ids, labels in pairs:
        had = set(common)
        repeated = []
        for token in ids:
            repeated.append(token in had and token not in common)
            had.add(token)
        made.append(Example(ids[:CONTEXT], labels[:CONTEXT], repeated[:CONTEXT]))
    return made


def labelled(tokenizer: Tokenizer, made: Document) -> tuple[list[int], list[int]]:
    """Ids and labels of a document."""
    if not made.messages:
        ids = [BOS, *tokenizer.encode(made.stories[0].text, add_special_tokens=False).ids, EOS]
        return ids, [IGNORED, *ids[1:]]
    ids, labels = [BOS], [IGNORED]
    for message in made.messages:
        role = SPECIAL.index(f"<|{message['role']}|>")
        said = [role, *tokenizer.encode(message["content"], add_special_tokens=False).ids, END]
        ids += said
        labels += [IGNORED, *said[1:]] if role == ASSISTANT else [IGNORED] * len(said)
    return ids, labels


def batches(data: list[Example], rng: random.Random) -> list[list[Example]]:
    """All examples once, in random order, those of like length together."""
    order = data[:]
    rng.shuffle(order)
    made: list[list[Example]] = []
    pool = 1024
    for start in range(0, len(order), pool):
        batch: list[Example] = []
        for example in sorted(order[start : start + pool], key=lambda e: len(e.ids)):
            if batch and (len(batch) + 1) * len(example.ids) > TOKENS_PER_STEP:
                made.append(batch)
                batch = []
            batch.append(example)
        made.append(batch)
    rng.shuffle(made)
    return made


class Batch(NamedTuple):
    """Examples side by side, `[B, T]`, padded on the right."""

    ids: torch.Tensor
    labels: torch.Tensor
    repeated: torch.Tensor


def tensors(batch: list[Example]) -> Batch:
    """The batch as the model takes it."""
    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([e.ids + [EOS] * (width - len(e.ids)) for e in batch])
    labels = torch.tensor([e.labels + [IGNORED] * (width - len(e.labels)) for e in batch])
    repeated = torch.tensor([e.repeated + [False] * (width - len(e.repeated)) for e in batch])
    return Batch(ids, labels, repeated)


def round_q4(weight: torch.Tensor) -> torch.Tensor:
    """What a weight, `[rows, dim]`, is at q4: in blocks of 32 along a row, `scale * (nibble - 8)` with an f16 scale."""
    blocks = weight.unflatten(-1, (-1, Q4_BLOCK))
    extreme = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = (extreme * -0.125).half().float()
    inverse = torch.where(scale == 0, 0.0, 1.0 / scale)
    nibbles = (blocks * inverse + 8.5).floor().clamp(0, 15)
    return ((nibbles - 8) * scale).flatten(-2)


class Rounded(torch.nn.Module):
    """A linear layer whose weight is rounded to q4 where `on` says so; gradients pass straight through.

    It multiplies in bf16, which is three times as fast as f32 on a CPU that has it; the weights themselves are f32.
    """

    on = False

    def __init__(self, linear: torch.nn.Linear) -> None:
        """Takes the place of `linear`."""
        super().__init__()
        self.weight = linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: `[.., in]`; returns `[.., out]`."""
        weight = self.weight
        if Rounded.on:
            weight = weight + (round_q4(weight.detach()) - weight.detach())
        return F.linear(x.bfloat16(), weight.bfloat16()).float()


def make_model(seed: int) -> LlamaForCausalLM:
    """A Llama with random weights, whose linear layers can be rounded."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        initializer_range=0.06,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        bos_token_id=BOS,
        eos_token_id=[EOS, END],
        pad_token_id=EOS,
        **SHAPE,
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, child in list(block.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(block, name, Rounded(child))
    return model


def losses(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy in nats of each token that is to be predicted, and whether it is a repeated one: `[N]` both."""
    logits = model(input_ids=batch.ids[:, :-1], use_cache=False).logits
    wanted = batch.labels[:, 1:] != IGNORED
    return F.cross_entropy(logits[wanted].float(), batch.labels[:, 1:][wanted], reduction="none"), batch.repeated[:, 1:][wanted]


def schedule(step: int, steps: int) -> float:
    """The share of the highest learning rate: linear up over 50 steps, then half a cosine down."""
    if step < 50:
        return (step + 1) / 50
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - 50) / max(steps - 50, 1)))


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, lr=0.02 * rate, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=0.004 * rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Cycle(NamedTuple):
    """A pass over some documents, with a learning rate that goes up and comes down."""

    documents: int
    rate: float
    """The highest learning rate, as a share of the first cycle's."""
    rounded: float
    """The share of the steps, at the end, of which every other one runs at q4."""


CYCLES = (Cycle(18_000, 1.0, 0.3), Cycle(16_000, 0.6, 0.2))


def train(model: LlamaForCausalLM, data: list[Example], cycle: Cycle, seed: int) -> list[tuple[int, float]]:
    """One pass over the data; returns (step, mean loss since the last entry, repeated words counting as any others)."""
    todo = batches(data, random.Random(seed))
    both = optimizers(model, cycle.rate)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: schedule(step, len(todo))) for one in both]
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    began = time.monotonic()
    for step, batch in enumerate(todo):
        Rounded.on = step >= len(todo) * (1 - cycle.rounded) and step % 2 == 0
        loss, repeated = losses(model, tensors(batch))
        extra = (COPY_WEIGHT - 1) * max(0.0, 1 - step / (COPY_SHARE * len(todo)))
        weights = 1 + extra * repeated
        ((loss * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in (*both, *schedules):
            one.step()
        model.zero_grad()
        recent.append(loss.mean().item())
        if (step + 1) % 50 == 0 or step + 1 == len(todo):
            curve.append((step + 1, sum(recent) / len(recent)))
            recent = []
            print(f"step {step + 1}/{len(todo)}  loss {curve[-1][1]:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    Rounded.on = False
    return curve


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, data: list[Example], rounded: bool) -> float:
    """Mean loss over examples that were not trained on."""
    Rounded.on = rounded
    every = torch.cat([losses(model, tensors(batch))[0] for batch in batches(data, random.Random(0))])
    Rounded.on = False
    return every.mean().item()


def drawing(curve: list[tuple[int, float]]) -> str:
    """The loss over the steps as SVG, the loss on a logarithmic scale."""
    left, top, width, height = 60, 20, 560, 260
    steps = curve[-1][0]
    ticks = [tick for tick in (0.3, 0.5, 1, 2, 3, 5) if min(loss for _, loss in curve) * 0.9 < tick]
    low, high = math.log(min(loss for _, loss in curve) * 0.9), math.log(max(loss for _, loss in curve) * 1.1)

    def x(step: float) -> float:
        return left + width * step / steps

    def y(loss: float) -> float:
        return top + height * (high - math.log(loss)) / (high - low)

    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="330" font-family="sans-serif" font-size="12">',
        '<rect width="640" height="330" fill="white"/>',
    ]
    for tick in ticks:
        lines.append(f'<path d="M{left} {y(tick):.1f}h{width}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for step in range(0, steps + 1, 500):
        lines.append(f'<text x="{x(step):.1f}" y="{top + height + 18}" text-anchor="middle">{step}</text>')
    points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in curve)
    lines += [
        f'<polyline points="{points}" fill="none" stroke="#1565c0" stroke-width="2"/>',
        f'<path d="M{left} {top}v{height}h{width}" fill="none" stroke="black"/>',
        f'<text x="{left + width / 2}" y="318" text-anchor="middle">step</text>',
        f'<text transform="translate(16 {top + height / 2}) rotate(-90)" text-anchor="middle">loss, nats per token</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def write(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """The checkpoint, as transformers lays it out."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    model.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=[EOS, END], pad_token_id=EOS, do_sample=True, temperature=0.8, top_k=0, max_new_tokens=400
    )
    model.half().save_pretrained(out)


@torch.no_grad()
def sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """What the model says after each prompt, which has its special tokens already."""
    told: list[str] = []
    for start in range(0, len(prompts), 50):
        some = prompts[start : start + 50]
        batch = tokenizer(some, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        output = model.generate(**batch, do_sample=True, temperature=0.8, top_k=0, max_new_tokens=300, pad_token_id=EOS)
        told += tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return told


def judge(out: Path, seen: set[str], count: int) -> None:
    """Loads the checkpoint, lets it tell stories and answer, and prints what the grammar says of that."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    torch.manual_seed(0)
    rng = random.Random("judge")

    def chat(messages: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    opening = "Once upon a time"
    stories = [opening + text for text in sample(model, tokenizer, ["<s>" + opening] * count)]
    result = score(stories, seen)
    print(f"stories: {result.parsed:.4f} of sentences parse, {result.consistent:.4f} consistent, {result.unseen:.4f} unseen")
    print("\n".join(result.faults[:5] + stories[:2]))

    requests = [make_request(rng) for _ in range(count)]
    asked = [[{"role": "user", "content": request.text}] for request in requests]
    replies = sample(model, tokenizer, [chat(messages) for messages in asked])
    understood = [check_story(reply).story for reply in replies]
    obeyed = sum(story is not None and obeys(story, request) for story, request in zip(understood, requests, strict=True))
    print(f"requests: {sum(map(bool, understood)) / count:.4f} consistent, {obeyed / count:.4f} consistent and as asked")

    rounds = [
        ([*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": question}], answer)
        for messages, reply, story in zip(asked, replies, understood, strict=True)
        if story
        for question, answer in [rng.choice(questions(story, rng))]
    ]
    answers = sample(model, tokenizer, [chat(messages) for messages, _ in rounds])
    right = sum(answer == expected for answer, (_, expected) in zip(answers, rounds, strict=True))
    print(f"questions: {right / max(len(rounds), 1):.4f} of {len(rounds)} answered as expected")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/stories"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=1, help="more are little faster, and change the last digits")
    parser.add_argument("--judge", type=int, default=200, help="stories to check at the end")
    parser.add_argument("--judge-only", action="store_true", help="train nothing: judge what is in --out")
    parser.add_argument("--curve", type=Path, help="draw the loss over the steps here, as SVG")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    if not args.judge_only:
        train_and_write(args)
    judge(args.out, training_stories(args.seed, sum(cycle.documents for cycle in CYCLES)), args.judge)


def train_and_write(args: argparse.Namespace) -> None:
    """Everything but the judging."""
    began = time.monotonic()
    tokenizer = train_tokenizer(args.seed, TOKENIZER_DOCUMENTS)
    model = make_model(args.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    curve: list[tuple[int, float]] = []
    first = 0
    for number, cycle in enumerate(CYCLES):
        data = examples(tokenizer, args.seed, first, cycle.documents)
        print(f"cycle {number}: {len(data)} documents, {sum(len(example.ids) for example in data)} tokens", flush=True)
        done = curve[-1][0] if curve else 0
        curve += [(done + step, loss) for step, loss in train(model, data, cycle, args.seed + number)]
        # each cycle starts from weights as they are stored
        model.half().float()
        first += cycle.documents
    held_out = examples(tokenizer, args.seed + 1, 0, 500)
    held = [held_out_loss(model, held_out, rounded) for rounded in (False, True)]
    print(f"held-out loss {held[0]:.4f}, at q4 {held[1]:.4f}; {time.monotonic() - began:.0f} s in all", flush=True)
    write(model, tokenizer, args.out)
    if args.curve:
        args.curve.write_text(drawing(curve))


if __name__ == "__main__":
    main()
