"""Captions: what a picture may be called, the vocabulary, and word numbers for the network."""

import json
import random
import re
import zlib
from collections import Counter
from pathlib import Path

from data import words

LENGTH = 12
PAD, UNKNOWN = 0, 1
# A word's plural has the word's number plus this one; the text encoder adds the same vector to all of them.
PLURAL = 20000

# Words that carry no picture. They share the padding's number, so the network does not see them.
SILENT = """a an the of with in on at and or to for from by is are be it its this that my me your some very please draw
make show create picture image photo drawing illustration icon sticker emoji s""".split()

# What people say for pictures whose own name is another one; see also `common.json`.
COMMON = json.loads(Path(__file__).with_name("common.json").read_text())

COLOURS = "red orange yellow green blue purple pink brown black white grey".split()
COUNTS = {2: ["two", "two", "2", "pair"], 3: ["three", "three", "3", "several", "many"], 4: ["four", "four", "4", "several", "many"]}

# Words kept out of every caption, to see what the network makes of words that it never heard.
HELD_WORDS = frozenset("""kitten kitty puppy bunny joyful serpent aeroplane motorbike burger donut blueberry dracula hurricane policeman
fireman pasta trousers eyeglasses mustache rhino yacht lips extraterrestrial sobbing asleep suitcase exhausted afraid sunshine toadstool
aubergine undead pork citrus reef cinema revolver""".split())

IRREGULAR = {"mouse": "mice", "man": "men", "woman": "women", "person": "people", "child": "children", "wolf": "wolves", "leaf": "leaves",
             "knife": "knives", "tooth": "teeth", "foot": "feet", "goose": "geese", "fish": "fish", "sheep": "sheep", "deer": "deer",
             "tomato": "tomatoes", "potato": "potatoes", "hero": "heroes", "mango": "mangoes", "volcano": "volcanoes"}


def spoken(text: str) -> list[str]:
    """A caption's words without the silent ones; `cat2` in a shortcode is a cat."""
    return [w for w in (re.sub(r"(?<=[a-z])\d+$", "", w) for w in words(text)) if w and w not in SILENT]


def heard(text: str) -> list[str]:
    """A caption's words, or none if one of them is held out."""
    found = spoken(text)
    return [] if HELD_WORDS.intersection(found) else found


def held_combination(name: str, what: str) -> bool:
    """Whether a name was never trained together with a colour, a count or, for fewer names, the style `flat`."""
    return zlib.crc32(f"{name}/{what}".encode()) % (45 if what == "flat" and name not in COMMON else 9) == 0 and not (
        what == "flat" and name in COMMON)


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
            uses.update({tuple(heard(t)) for t in entry["tags"]} | {(w,) for w in spoken(name)})
        self.choices = []
        for entry in entries:
            name = spoken(entry["name"])
            common = [heard(c) for c in COMMON.get(entry["name"], [])]
            others = common + common + [heard(s) for s in entry["short"]]
            tags = [heard(t) for t in entry["tags"]]
            loose = {tuple(t) for t in tags} | {(w,) for w in name}
            loose = [t for t in loose if t and t not in reserved and uses[t] <= 40]
            self.choices.append({
                "name": name, "others": [o for o in others if o], "tags": [t for t in tags if t],
                "loose": sorted(loose), "loose_weights": [1 / uses[t] for t in sorted(loose)], "style": entry["style"],
                "nouns": [words(n) for n in [entry["name"]] * 3 + COMMON.get(entry["name"], [])
                          if not HELD_WORDS.intersection(words(n))],
            })
        every = Counter(self.styles + COLOURS + [w for several in COUNTS.values() for w in several] + ["one", "1"])
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

    def draw(self, index: int, colour: str | None = None, count: int = 1, natural: str | None = None) -> list[int]:
        """One caption of picture `index` as word numbers; `colour` is its new colour, `natural` the one that it has by itself.

        A caption without a style word means the default style.
        """
        choice, draw = self.choices[index], self.random
        if colour is None and count == 1 and (natural is None or draw.random() < 0.85):
            numbers = [self.vocabulary[w] for w in self.content(choice)]
        else:
            colour = colour or (natural if draw.random() < 0.25 or count == 1 else None)
            noun = [w for w in draw.choice(choice["nouns"] or [choice["name"]])]
            if colour and any(w in COLOURS for w in noun):
                noun = choice["name"]
            numbers = self.numbers(noun, several=count > 1)
            if colour and colour not in noun:
                numbers.insert(0 if draw.random() < 0.9 else len(numbers), self.vocabulary[colour])
            if count > 1 and draw.random() < 0.8:
                numbers.insert(0, self.vocabulary[draw.choice(COUNTS[count])])
            elif count == 1 and draw.random() < 0.1:
                numbers.insert(0, self.vocabulary[draw.choice(["one", "1"])])
        if choice["style"] != self.default_style or draw.random() < 0.3:
            numbers.insert(0 if draw.random() < 0.7 else len(numbers), self.vocabulary[choice["style"]])
        while draw.random() < 0.25:
            # A silent word may stand anywhere.
            numbers.insert(draw.randint(0, len(numbers)), PAD)
        return padded(numbers)

    def numbers(self, noun: list[str], several: bool) -> list[int]:
        """A name's word numbers, its head word in the plural where it stands for `several`."""
        heads = [i for i, w in enumerate(noun) if w in ("of", "with", "in", "on", "over", "wearing", "without")]
        head = (heads[0] if heads and heads[0] > 0 else len(noun)) - 1
        found = []
        for i, word in enumerate(noun):
            if word in SILENT:
                continue
            number = self.vocabulary[word]
            if several and i == head:
                # A plural that is a word of the captions itself keeps its own number, as in a prompt.
                number = self.vocabulary.get(plural(word), number + PLURAL)
            found.append(number)
        return found

    def spellings(self, neighbours: dict) -> dict[str, int]:
        """Every spelling that the tokenizer knows: captions' words, unheard words near them, plurals, silent words."""
        table = {w: PAD for w in SILENT} | self.vocabulary
        for number, word in enumerate(neighbours["unheard"], start=len(self.vocabulary)):
            table.setdefault(word, number)
        for word, single in neighbours["plurals"].items():
            table.setdefault(word, table[single] + PLURAL)
        return table | {w: PAD for w in SILENT}

    def read(self, text: str, spellings: dict[str, int]) -> list[int]:
        """A prompt as the exported tokenizer reads it."""
        return padded([spellings.get(w, UNKNOWN) for w in words(text)])


def plural(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("y") and len(word) > 1 and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def padded(numbers: list[int]) -> list[int]:
    return (numbers + [PAD] * LENGTH)[:LENGTH]
