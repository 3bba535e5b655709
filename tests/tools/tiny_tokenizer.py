"""A CLIP byte-pair vocabulary small enough to live in a test bundle.

It has the real one's order: the 256 byte symbols (so `!` is id 0, which SD 2 and SDXL pad with), the same with
`</w>`, one token per merge, then the two special tokens with `<|endoftext|>` as the highest id.
"""

import json
from collections import Counter
from pathlib import Path

from transformers.models.clip.tokenization_clip import bytes_to_unicode

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
MERGES = 120

# Frequent words get merged into one token, rare ones stay in pieces: both happen in any prompt below.
WORDS = """
a a a a the the the of of of in in on on and and with with at to is an it its no not
smiling smiling sun sunny moon star stars night light red red green blue yellow golden apple apples cat cats dog dogs
house tree forest mountain river sea ocean castle dragon robot rocket flower flowers bird fish face portrait
painting photo photograph picture drawing sketch style digital art watercolor oil detailed highly quality best
low blurry ugly bad worst deformed text watermark cute small large big old young man woman girl boy king queen
city street car train water fire snow rain cloud clouds sky sunset morning evening winter summer
can't don't it's i'm we're they've you'll she'd
"""


def learn_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """Plain byte-pair learning; ties go to the alphabetically first pair so that the result never varies."""
    counts = Counter()
    for word in words:
        # CLIP splits contractions off before it merges.
        for part in word.replace("'", " '").split():
            counts[part] += 1
    splits = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, pieces in splits.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, pieces in splits.items():
            joined, at = [], 0
            while at < len(pieces):
                if tuple(pieces[at : at + 2]) == best:
                    joined.append(best[0] + best[1])
                    at += 2
                else:
                    joined.append(pieces[at])
                    at += 1
            splits[word] = joined
    return merges


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    merges = learn_merges(WORDS.split(), MERGES)
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(pair) for pair in merges] + [START, END]
    return {token: at for at, token in enumerate(tokens)}, merges


def write_tokenizer(folder: Path, pad: str) -> None:
    """Writes the four files that the published pipelines carry; `pad` is `<|endoftext|>` (SD 1) or `!`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary()
    special = {"bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": pad}
    config = {
        "add_prefix_space": False,
        "bos_token": added(START, True),
        "do_lower_case": True,
        "eos_token": added(END, True),
        "errors": "replace",
        "model_max_length": MAX_LENGTH,
        "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": added(END, True),
    }
    merge_text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(merge_text, encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def added(token: str, typed: bool = False) -> dict:
    kind = {"__type": "AddedToken"} if typed else {}
    return kind | {"content": token, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
