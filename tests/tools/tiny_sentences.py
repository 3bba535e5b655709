"""A T5 vocabulary small enough to live in a test bundle: SentencePiece's unigram model, as `tokenizer.json` describes it.

It has the real one's order: padding, end and unknown, then the pieces with the likeliest first. Each letter is a piece, so
that any word of the prompts can be cut; frequent words are whole.
"""

import json
import math
from collections import Counter
from pathlib import Path

from transformers import T5TokenizerFast

from tiny_tokenizer import WORDS

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_LENGTH = 512
SPACE = "\u2581"


def vocabulary() -> list[tuple[str, float]]:
    counts = Counter()
    for word in WORDS.split():
        word = SPACE + word
        counts[word] += 3
        counts.update(word)
        counts.update(word[at : at + 2] for at in range(len(word) - 1))
        counts.update(word[at : at + 3] for at in range(len(word) - 2))
    letters = [chr(code) for code in range(33, 127)] + [SPACE]
    frequent = [piece for piece, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if count >= 3]
    pieces = list(dict.fromkeys(frequent + letters))
    total = sum(counts.values())
    scores = [round(math.log(max(counts[piece], 0.5) / total), 4) for piece in pieces]
    return [(PAD, 0.0), (END, 0.0), (UNKNOWN, 0.0), *zip(pieces, scores)]


def write_sentences(folder: Path, max_length: int = MAX_LENGTH) -> None:
    """Writes the files that the published pipelines carry beside `spiece.model`."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary()
    special = [
        {"id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for at, token in enumerate((PAD, END, UNKNOWN))
    ]
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": END, "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": END, "type_id": 0}},
            ],
            "special_tokens": {END: {"id": END, "ids": [1], "tokens": [END]}},
        },
        "decoder": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [list(piece) for piece in pieces], "byte_fallback": False},
    }
    config = {
        "eos_token": END,
        "extra_ids": 0,
        "model_max_length": max_length,
        "pad_token": PAD,
        "tokenizer_class": "T5Tokenizer",
        "unk_token": UNKNOWN,
    }
    names = {"eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    for name, value in (("tokenizer.json", description), ("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sentences(folder: Path) -> T5TokenizerFast:
    write_sentences(folder)
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0)
