"""The vocabulary as a `tokenizer.json`, written as the `tokenizers` library reads it."""

import json
from pathlib import Path

from captions import LENGTH, PAD, UNKNOWN, Captions


def write_tokenizer(folder: Path, captions: Captions, neighbours: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    special = [
        {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for number, content in ((PAD, "[PAD]"), (UNKNOWN, "[UNK]"))
    ]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": "[^a-z0-9]+"}, "content": " "},
        ]},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None, "decoder": None,
        # Several spellings may share one number: plurals, and the words that say nothing, which share the padding's.
        "model": {"type": "WordLevel", "vocab": captions.spellings(neighbours), "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, separators=(",", ":")) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH, "pad_token": "[PAD]",
        "unk_token": "[UNK]", "padding_side": "right",
    }, indent=2) + "\n")
