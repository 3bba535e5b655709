"""Captions: what a picture may be called, the vocabulary, and word numbers for the network."""

import json
import random
import re
from collections import Counter
from pathlib import Path

from data import words

LENGTH = 12
PAD, UNKNOWN = 0, 1

# Words that carry no picture. They share the padding's number, so the network does not see them.
SILENT = """a an the of with in on at and or to for from by is are be it its this that my me your some very please draw
make show create picture image photo drawing illustration icon sticker emoji s""".split()

# What people say for pictures whose own name is another one; see also `common.json`.
COMMON = json.loads(Path(__file__).with_name("common.json").read_text())


def spoken(text: str) -> list[str]:
    """A caption's words without the silent ones; `cat2` in a shortcode is a cat."""
    return [w for w in (re.sub(r"(?<=[a-z])\d+$", "", w) for w in words(text)) if w and w not in SILENT]


class Captions:
    """Draws a caption for a picture, a new one every time."""

    def __init__(self, entries: list[dict], seed: int):
        self.random = random.Random(seed)
        self.styles = sorted({e["style"] for e in entries})
        self.default_style = "glossy"
        unique = {e["name"]: e for e in entries}
        # A word that is all of one picture's name means that picture, so no other picture may be called by it alone.
        reserved = {tuple(spoken(name)) for name in unique}
        reserved |= {tuple(spoken(c)) for captions in COMMON.values() for c in captions}
        uses = Counter()
        for name, entry in unique.items():
            uses.update({tuple(spoken(t)) for t in entry["tags"]} | {(w,) for w in spoken(name)})
        self.choices = []
        for entry in entries:
            name = spoken(entry["name"])
            common = [spoken(c) for c in COMMON.get(entry["name"], [])]
            others = common + common + [spoken(s) for s in entry["short"]]
            tags = [spoken(t) for t in entry["tags"]]
            loose = {tuple(t) for t in tags} | {(w,) for w in name}
            loose = [t for t in loose if t and t not in reserved and uses[t] <= 40]
            self.choices.append({
                "name": name, "others": [o for o in others if o], "tags": [t for t in tags if t],
                "loose": sorted(loose), "loose_weights": [1 / uses[t] for t in sorted(loose)], "style": entry["style"],
            })
        every = Counter(self.styles)
        for choice in self.choices:
            every.update(choice["name"])
            for caption in choice["others"] + choice["tags"]:
                every.update(caption)
        self.vocabulary = {"[PAD]": PAD, "[UNK]": UNKNOWN}
        for word in sorted(every):
            self.vocabulary[word] = len(self.vocabulary)

    def content(self, choice: dict) -> list[str]:
        chance, draw = self.random.random(), self.random
        name, others = choice["name"], choice["others"]
        if chance < 0.3 and others:
            return draw.choice(others)
        if 0.3 <= chance < 0.4:
            return draw.sample(name, len(name))
        if 0.4 <= chance < 0.49 and choice["tags"]:
            extra = draw.sample(choice["tags"], min(len(choice["tags"]), draw.randint(1, 2)))
            return name + [w for tag in extra for w in tag]
        if 0.49 <= chance < 0.62 and choice["loose"]:
            return list(draw.choices(choice["loose"], choice["loose_weights"])[0])
        return name

    def draw(self, index: int) -> list[int]:
        """One caption of picture `index` as word numbers. A caption without a style word means the default style."""
        choice, draw = self.choices[index], self.random
        caption = list(self.content(choice))
        if choice["style"] != self.default_style or draw.random() < 0.3:
            caption.insert(0 if draw.random() < 0.7 else len(caption), choice["style"])
        numbers = [self.vocabulary[w] for w in caption]
        while draw.random() < 0.25:
            # A silent word may stand anywhere.
            numbers.insert(draw.randint(0, len(numbers)), PAD)
        return padded(numbers)

    def read(self, text: str) -> list[int]:
        """A prompt as the exported tokenizer reads it."""
        return padded([PAD if w in SILENT else self.spellings().get(w, UNKNOWN) for w in words(text)])

    def spellings(self) -> dict[str, int]:
        """The vocabulary with silent words and simple plurals and singulars of known words."""
        table = dict(self.vocabulary)
        for word, number in self.vocabulary.items():
            if len(word) > 2 and word.isalpha():
                table.setdefault(plural(word), number)
                if word.endswith("s") and not word.endswith("ss"):
                    table.setdefault(word[:-1], number)
        for word in SILENT:
            table[word] = PAD
        return table


def plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def padded(numbers: list[int]) -> list[int]:
    return (numbers + [PAD] * LENGTH)[:LENGTH]
