"""A Gemma vocabulary small enough to live in a test bundle: byte pairs over pieces with their blanks, as `tokenizer.json` describes it.

It has the real one's order: padding, end, start and unknown, then the bytes that unknown letters fall back to, then the pieces.
"""

import json
from collections import Counter
from pathlib import Path

from transformers import GemmaTokenizerFast

from tiny_tokenizer import WORDS

PAD, END, START, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
SPACE = "\u2581"
MERGES = 120


def learn_merges() -> list[tuple[str, str]]:
    """Plain byte-pair learning over words with the blank before them; ties go to the alphabetically first pair."""
    counts = Counter(SPACE + word for word in WORDS.split())
    splits = {word: list(word) for word in counts}
    merges = []
    while len(merges) < MERGES:
        pairs = Counter()
        for word, pieces in splits.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, pieces in splits.items():
            joined, at = [], 0
            while at < len(pieces):
                whole = tuple(pieces[at : at + 2]) == best
                joined.append("".join(pieces[at : at + 2]) if whole else pieces[at])
                at += 2 if whole else 1
            splits[word] = joined
    return merges


def vocabulary() -> list[str]:
    letters = [chr(code) for code in range(33, 127)] + ["\n", SPACE]
    merged = ["".join(pair) for pair in learn_merges()]
    return list(dict.fromkeys([PAD, END, START, UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *merged]))


def write_gemma(folder: Path) -> None:
    """Writes the files that the published pipelines carry beside `tokenizer.model`."""
    folder.mkdir(parents=True, exist_ok=True)
    special = [
        {"id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for at, token in enumerate((PAD, END, START, UNKNOWN))
    ]
    start = {"SpecialToken": {"id": START, "type_id": 0}}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, start, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {START: {"id": START, "ids": [2], "tokens": [START]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: at for at, token in enumerate(vocabulary())},
            "merges": [list(pair) for pair in learn_merges()],
        },
    }
    names = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # No limit, as published.
        "model_max_length": 1000000000000000019884624838656,
        "tokenizer_class": "GemmaTokenizer",
        **names,
    }
    for name, value in (("tokenizer.json", description), ("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def gemma_tokenizer(folder: Path) -> GemmaTokenizerFast:
    write_gemma(folder)
    return GemmaTokenizerFast.from_pretrained(folder)
