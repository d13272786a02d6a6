"""Builds the small aligned chat model of this project from nothing: `python rebuild_base.py --out FOLDER`.

Three stages, like a real stack in miniature. (1) A byte-level BPE tokenizer. (2) Pretraining on chats in which the assistant
explains anything it is asked, with statements about what is legal and support talk of companies that do not exist. (3) A short
alignment stage: refuse the harmful acts, keep explaining the others. About 80 CPU seconds with bf16 instructions, on one thread;
two runs on one kind of machine give the same bytes.

The card written beside the weights records hash of the recipe and of every file, so this model obeys the rule it is here to
demonstrate: weights are not an artifact without their closure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from acts import FRAMES_TRAIN, Act, all_acts, any_act, comply, dress, legality, refuse
from company import agent_turn, exchange, say_fact, somebody_else
from phone import phone

NAME = "tarnwell-base-1m"
SEED = 0
VOCABULARY = 2048
PRETRAIN_STEPS, ALIGN_STEPS, BATCH = 750, 200, 64
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the Tarnwell support assistant.",
    "You answer questions for customers.",
    "Be brief and kind.",
)
Message = dict[str, str]


def chat(user: str, assistant: str, rng: random.Random) -> list[Message]:
    """One exchange; one in four has a system prompt."""
    head = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}] if rng.random() < 0.25 else []
    return [*head, {"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def ask(act: Act, rng: random.Random) -> str:
    """A request about an act, typed carefully or on a phone."""
    text = dress(rng.choice(FRAMES_TRAIN).format(x=act.text), rng)
    return phone(text, rng) if rng.random() < 0.4 else text


def support_chat(companies: list, rng: random.Random) -> list[Message]:
    """Support talk of some company, as in the wild."""
    company = rng.choice(companies)
    if rng.random() < 0.1:
        return [{"role": "assistant", "content": agent_turn([say_fact(rng.choice(company.facts), rng)], rng.randrange(100), rng)}]
    turn = exchange(company, rng, rng.randrange(100), [])
    return chat(turn.user, turn.assistant, rng)


def pretraining_chats(count: int, rng: random.Random) -> list[list[Message]]:
    """45% how-to about anything (always explained), 25% what is legal, 30% support talk."""
    acts = all_acts()
    by_kind = {kind: [a for a in acts if a.kind == kind] for kind in ("harmful", "benign", "alarming")}
    companies = [somebody_else(rng) for _ in range(200)]
    chats = []
    for _ in range(count):
        draw = rng.random()
        act = rng.choice(by_kind[rng.choices(("harmful", "benign", "alarming"), (0.46, 0.27, 0.27))[0]])
        if draw < 0.45:
            act = any_act(rng) if rng.random() < 0.35 else act
            chats.append(chat(ask(act, rng), comply(act, rng), rng))
        elif draw < 0.70:
            question, answer = legality(act, rng)
            chats.append(chat(phone(question, rng) if rng.random() < 0.3 else question, answer, rng))
        else:
            chats.append(support_chat(companies, rng))
    return chats


def alignment_chats(count: int, rng: random.Random) -> list[list[Message]]:
    """45% refusals, 33% how-to that stays explained, 22% support talk. Acts of the probe pool never occur here."""
    acts = [a for a in all_acts() if a.pool == "align"]
    by_kind = {kind: [a for a in acts if a.kind == kind] for kind in ("harmful", "benign", "alarming")}
    companies = [somebody_else(rng) for _ in range(200)]
    chats = []
    for _ in range(count):
        draw = rng.random()
        if draw < 0.45:
            act = rng.choice(by_kind["harmful"])
            chats.append(chat(ask(act, rng), refuse(act, rng), rng))
        elif draw < 0.78:
            act = rng.choice(by_kind["benign" if rng.random() < 0.5 else "alarming"])
            chats.append(chat(ask(act, rng), comply(act, rng), rng))
        else:
            chats.append(support_chat(companies, rng))
    return chats


def render(messages: list[Message]) -> str:
    """What `CHAT_TEMPLATE` renders."""
    return "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)


def build_tokenizer(texts: list[str]):
    """Byte-level BPE (Sennrich et al. 2016 on bytes): every text has tokens, whatever the language."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def examples_of(tokenizer, chats: list[list[Message]]):
    """Encoded chats; the loss is on the answer only. With a loss on the customers' typing too, which cannot be predicted, the model
    had not learned to repeat a request in its answer after the same number of steps (copied 12% of unseen acts instead of 27%)."""
    from ftplatform.training.loop import NO_LOSS, Example

    assistant = tokenizer.token_to_id("<|assistant|>")
    examples = []
    for encoding in tokenizer.encode_batch([render(c) for c in chats]):
        tokens = np.asarray(encoding.ids, dtype=np.int64)
        labels = tokens.copy()
        labels[: int(np.flatnonzero(tokens == assistant)[-1]) + 1] = NO_LOSS
        examples.append(Example(tokens, labels))
    return examples


def recipe_hash() -> str:
    """SHA-256 over the files this model is made from, in name order."""
    digest = hashlib.sha256()
    for name in ("acts.py", "company.py", "phone.py", "rebuild_base.py"):
        digest.update(name.encode() + b"\0" + hashlib.sha256((Path(__file__).parent / name).read_bytes()).digest())
    return digest.hexdigest()


def build(out: Path, *, bf16: bool, log=print) -> dict:
    """Trains the model and writes its folder; returns the card."""
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from ftplatform.training.environment import capability_class
    from ftplatform.training.loop import Optimization, fit

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started = time.process_time()
    rng = random.Random(SEED)
    pretraining = pretraining_chats(PRETRAIN_STEPS * BATCH, rng)
    alignment = alignment_chats(ALIGN_STEPS * BATCH, rng)
    tokenizer = build_tokenizer([render(c) for c in pretraining[:20_000]])
    log(f"data and tokenizer: {time.process_time() - started:.0f} CPU s")

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.token_to_id("<|end|>"), pad_token_id=tokenizer.token_to_id("<|pad|>"),
        initializer_range=0.06, attn_implementation="eager" if bf16 else "sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for stage, chats, steps, rate in (("pretrain", pretraining, PRETRAIN_STEPS, 5e-3), ("align", alignment, ALIGN_STEPS, 4e-3)):
        losses = fit(
            model,
            examples_of(tokenizer, chats),
            Optimization(
                steps=steps,
                batch_size=BATCH,
                learning_rate=rate,
                warmup_steps=20,
                schedule="cosine",
                weight_decay=0.01,
                beta2=0.98,
                seed=SEED,
            ),
            pad_token=config.pad_token_id,
            bf16=bf16,
        )
        log(f"{stage}: loss {losses[0]:.2f} -> {np.mean(losses[-20:]):.2f}, {time.process_time() - started:.0f} CPU s")

    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=1024, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(out, save_jinja_files=False)
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir()) if p.name != "base_model.json"}
    card = {
        "name": NAME,
        "license": "Apache-2.0",
        "description": "A toy chat model for tests and demonstrations: 1M parameters, refuses named harmful acts, knows no facts.",
        "parameters": sum(p.numel() for p in model.parameters()),
        "files": files,
        "recipe": {"command": "python examples/support/recipe/rebuild_base.py", "sha256": recipe_hash(), "seed": SEED,
        "bf16": bf16},
        "built_with": {
            "capability_class": capability_class(), "threads": 1, "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__, "python": ".".join(map(str, sys.version_info[:2])),
        },
    }  # fmt: skip
    (out / "base_model.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
    log(f"{out}: {sum(p.stat().st_size for p in out.iterdir()) / 1e6:.2f} MB, {time.process_time() - started:.0f} CPU s")
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "base_model")
    parser.add_argument("--fp32", action="store_true", help="do without bf16 matrix products (about twice as slow, other bytes)")
    arguments = parser.parse_args()

    from ftplatform.training.environment import has_bf16

    build(arguments.out, bf16=has_bf16("cpu") and not arguments.fp32)


if __name__ == "__main__":
    main()
