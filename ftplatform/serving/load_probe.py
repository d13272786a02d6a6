"""A process that loads adapters and reports how long each took to its first token; run by `load_times`.

``python -m ftplatform.serving.load_probe BASE ROUNDS ADAPTER ...`` writes one JSON object to standard output. With 0 rounds it loads the
first adapter, makes one token and says so: the parent measures that process from its start.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

#: Tokens of the prompt; the first token of an answer costs as much as reading it.
_PROMPT_TOKENS = 32


def main(arguments: list[str]) -> None:
    """Load and measure; see the module."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, rounds, *adapters = arguments
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    prompt = torch.arange(1, _PROMPT_TOKENS + 1)[None, :] % model.config.vocab_size
    options = {"max_new_tokens": 1, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}

    def first_token(served: Any) -> None:
        with torch.inference_mode():
            served.generate(input_ids=prompt, **options)

    if int(rounds) == 0:
        first_token(PeftModel.from_pretrained(model.eval(), adapters[0], local_files_only=True))
        print(json.dumps({}), flush=True)
        return
    model.eval()
    first_token(model)
    print(json.dumps(_measure(model, adapters, int(rounds), first_token)), flush=True)


def _measure(model: Any, adapters: list[str], rounds: int, first_token: Callable[[Any], None]) -> dict[str, list[float]]:
    """Seconds to the first token, by what was already there."""
    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter

    found: dict[str, list[float]] = {}

    def timed(what: str, act: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        served = act()
        first_token(served)
        found.setdefault(what, []).append(time.perf_counter() - began)
        return served

    for _ in range(rounds):

        def load(base: Any = model) -> Any:
            return PeftModel.from_pretrained(base, adapters[0], local_files_only=True)

        served = timed("cold adapter, warm base", load)
        for _ in range(2):
            timed("warm", lambda served=served: served)
        for other in (adapters[-1], adapters[0]):

            def swap(other: str = other, served: Any = served) -> Any:
                hotswap_adapter(served, other, adapter_name="default")
                return served

            timed("hot swap", swap)
        model = served.unload()
    served = PeftModel.from_pretrained(model, adapters[0], adapter_name="a0", local_files_only=True)
    for i, other in enumerate(adapters[1:], start=1):

        def beside(name: str = f"a{i}", other: str = other) -> Any:
            served.load_adapter(other, adapter_name=name, local_files_only=True)
            served.set_adapter(name)
            return served

        timed("cold adapter, beside others", beside)
    for _ in range(rounds):
        for i in range(len(adapters)):

            def switch(name: str = f"a{i}") -> Any:
                served.set_adapter(name)
                return served

            timed("resident beside others", switch)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
