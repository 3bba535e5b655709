"""Writes tests/golden/pictures/tokens.json: token ids of awkward texts. See README.md beside this file."""

import importlib.util
import json
import logging
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers  # noqa: E402
from transformers import CLIPTokenizer, CLIPTokenizerFast, GemmaTokenizerFast, T5TokenizerFast  # noqa: E402

from make_bundles import BUNDLES  # noqa: E402
from make_pictures import PICTURES  # noqa: E402

# CLIP's; of T5's longer texts the beginning says enough.
LENGTH = 77

TEXTS = [
    "",
    " ",
    "a",
    "a smiling sun",
    "A Smiling SUN",
    "a red apple on a table, highly detailed oil painting",
    "cat, dog; bird: fish. moon! star? sun...",
    "well-known state-of-the-art art_work under_score",
    "(masterpiece:1.2), [best quality], {detailed}",
    "3 cats and 42 dogs in 2024, 4k 8K 1080p 3.14",
    "it's can't we're they've you'll she'd I'm don't",
    "IT'S CAN'T WE'RE",
    "rock 'n' roll 'quoted' ''",
    "it\u2019s a \u201ccurly\u201d quote\u2026 and \u2013 dash \u2014 dash",
    "caf\u00e9 na\u00efve fa\u00e7ade \u00fcber \u00c5ngstr\u00f6m stra\u00dfe",
    "cafe\u0301 decomposed n\u0303",
    "\u0130stanbul \u0131\u015f\u0131k",
    "\ufb01ne \ufb02ower \u2460 \uff21\uff22\uff23 \uff11\uff12",
    "\U0001f31e smiling sun \U0001f604",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f44d\U0001f3fd thumbs",
    "\u2764\ufe0f red heart",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u732b",
    "\u8d64\u3044\u308a\u3093\u3054 \u30ea\u30f3\u30b4",
    "\ube68\uac04 \uc0ac\uacfc",
    "\u043a\u0440\u0430\u0441\u043d\u043e\u0435 \u042f\u0411\u041b\u041e\u041a\u041e",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f\u0394\u039f\u03a3",
    "\u0642\u0637\u0629 \u062d\u0645\u0631\u0627\u0621",
    "\u0e41\u0e21\u0e27\u0e2a\u0e35\u0e41\u0e14\u0e07",
    "\u092c\u093f\u0932\u094d\u0932\u0940",
    "  leading and   many    spaces  ",
    "tab\tnew\nline\r\nreturn\x0bvertical",
    "no\u00a0break\u2003em\u3000wide\u200bzero",
    "control\x00null\x07bell\x7fdelete\ufffdreplacement",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; &quot;x&quot; &#39;",
    "<b>bold</b> <|endoftext|> tail",
    "<|startoftext|>head<|endoftext|>",
    "<|ENDOFTEXT|> upper case special",
    "x<|endoftext|>y",
    "<|endoftext",
    "!!! !",
    "$100 & 50% #tag @name ~tilde `tick` ^caret |pipe| \\back/",
    "2\u00b2 \u00bd \u2167 \u0664 numbers",
    "https://example.org/a?b=c&d=e",
    "zebraquixotic" * 12,
    "a golden castle by the sea at sunset with many small stars, " * 12,
    "sun " * 75,
    "sun " * 76,
    "sun " * 74 + "moon",
    "\u732b" * 60,
]


def main() -> None:
    logging.disable(logging.WARNING)
    rows, slower = [], {}
    for name, folder in (("sd", "sd/tokenizer"), ("sdxl_2", "sdxl/tokenizer_2")):
        slow = CLIPTokenizer.from_pretrained(BUNDLES / folder)
        fast = CLIPTokenizerFast.from_pretrained(BUNDLES / folder)
        slower[name] = (slow, fast, folder)
    # T5's has a fast form alone here, since its slow one reads SentencePiece's own file.
    t5 = T5TokenizerFast.from_pretrained(BUNDLES / "sd3/tokenizer_3", extra_ids=0)
    slower["sd3_3"] = (t5, t5, "sd3/tokenizer_3")
    # As Sana's pipeline sets it.
    gemma = GemmaTokenizerFast.from_pretrained(BUNDLES / "sana/tokenizer", padding_side="right")
    slower["sana"] = (gemma, gemma, "sana/tokenizer")
    for text in TEXTS:
        row = {"text": text, "input_ids": {}}
        for name, (slow, fast, _) in slower.items():
            options = {"padding": "max_length", "max_length": min(slow.model_max_length, LENGTH), "truncation": True}
            ids = slow(text, **options)["input_ids"]
            others = fast(text, **options)["input_ids"]
            row["input_ids"][name] = ids
            if others != ids:
                row.setdefault("fast_differs", {})[name] = others
        rows.append(row)
    about = {
        "transformers": transformers.__version__,
        "tokenizer": "CLIPTokenizer",
        "ftfy": importlib.util.find_spec("ftfy") is not None,
        "folders": {name: folder for name, (_, _, folder) in slower.items()},
    }
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (PICTURES / "tokens.json").write_text(f'{{"about": {json.dumps(about)},\n "texts": [\n{lines}\n]}}\n')
    different = sum("fast_differs" in row for row in rows)
    print(f"{len(rows)} texts for {len(slower)} tokenizers; the fast one differs on {different}")


if __name__ == "__main__":
    main()
