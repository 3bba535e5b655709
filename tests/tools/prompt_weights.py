"""Weighted prompts into embeddings, by a pipeline's own tokenizer and text encoder: what `src/text/` and `src/stage/text_encoder.rs` are held against.

Written from what Kiln's README and the heads of `src/text/weights.rs` and `src/text/chunks.rs` say of the notation, and from no other program's source. A weight is the product of
the factors of all brackets that a letter stands in; brackets are therefore kept as spans over the letters, and nothing is weighed before the last was read.
"""

from dataclasses import dataclass, field
from itertools import groupby
from math import prod

import torch

FACTORS = {"(": 1.1, "[": 1 / 1.1}
CLOSERS = {")": "(", "]": "["}
ESCAPABLE = set("()[]\\")
BREAK = "BREAK"
# Tokens that may move to the next chunk, so that it begins behind a comma.
BACKTRACK = 20


@dataclass
class Reading:
    """The letters of a prompt without its notation, the spans that weigh them, and where chunks begin."""

    letters: list[str] = field(default_factory=list)
    spans: list[tuple[int, int, float]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    begun: dict[str, list[int]] = field(default_factory=lambda: {"(": [], "[": []})

    def close(self, bracket: str, factor: float) -> None:
        self.spans.append((self.begun[bracket].pop(), len(self.letters), factor))

    def weight(self, place: int) -> float:
        return round(prod(factor for begin, end, factor in self.spans if begin <= place < end), 9)

    def sections(self) -> list[list[tuple[str, float]]]:
        """For each chunk that was asked for its texts, neighbours of one weight as one."""
        edges = [0, *self.breaks, len(self.letters)]
        found = []
        for begin, end in zip(edges, edges[1:]):
            runs = groupby(range(begin, end), self.weight)
            found.append([("".join(self.letters[place] for place in places), weight) for weight, places in runs])
        return found


def number_before_bracket(text: str) -> tuple[float, int] | None:
    """The number that `text` begins with when nothing but a closing bracket follows it, and how many letters both take."""
    inner, bracket, _ = text.partition(")")
    digits = inner.strip()
    unsigned = digits[1:] if digits[:1] in ("+", "-") else digits
    if not bracket or unsigned.count(".") > 1 or not unsigned.replace(".", "").isdecimal() or not digits.isascii():
        return None
    return float(digits), len(inner) + 1


def is_break(prompt: str, place: int) -> bool:
    end = place + len(BREAK)

    def joins(letter: str) -> bool:
        return letter.isalnum() or letter == "_"

    return prompt[place:end] == BREAK and not (place and joins(prompt[place - 1])) and not (end < len(prompt) and joins(prompt[end]))


def read(prompt: str) -> Reading:
    reading, place = Reading(), 0
    while place < len(prompt):
        letter, rest = prompt[place], prompt[place + 1 :]
        weighed = number_before_bracket(rest) if letter == ":" else None
        if letter == "\\" and rest[:1] in ESCAPABLE and rest:
            reading.letters.append(rest[0])
            place += 2
        elif letter in FACTORS:
            reading.begun[letter].append(len(reading.letters))
            place += 1
        elif letter in CLOSERS and reading.begun[CLOSERS[letter]]:
            bracket = CLOSERS[letter]
            reading.close(bracket, FACTORS[bracket])
            place += 1
        elif weighed and reading.begun["("]:
            reading.close("(", weighed[0])
            place += 1 + weighed[1]
        elif weighed:
            # It closes nothing, so all of it is text.
            reading.letters.extend(prompt[place : place + 1 + weighed[1]])
            place += 1 + weighed[1]
        elif is_break(prompt, place):
            section = reading.breaks[-1] if reading.breaks else 0
            while len(reading.letters) > section and reading.letters[-1].isspace() and prompt[place - 1].isspace():
                reading.letters.pop()
            reading.breaks.append(len(reading.letters))
            place += len(BREAK)
            place += len(prompt[place:]) - len(prompt[place:].lstrip())
        else:
            reading.letters.append(letter)
            place += 1
    for bracket, begun in reading.begun.items():
        while begun:
            reading.close(bracket, FACTORS[bracket])
    return reading


def cut(tokens: list[tuple[int, float]], room: int, comma: int) -> list[list[tuple[int, float]]]:
    """The chunks of one section, at most `room` tokens each."""
    chunks = []
    while len(tokens) > room:
        commas = [place for place in range(room - BACKTRACK, room) if tokens[place][0] == comma]
        end = commas[-1] + 1 if commas and tokens[room][0] != comma else room
        chunks.append(tokens[:end])
        tokens = tokens[end:]
    return [*chunks, tokens]


def chunks_of(prompt: str, tokenizer) -> list[list[tuple[int, float]]]:
    room = tokenizer.model_max_length - 2
    [comma] = tokenizer(",", add_special_tokens=False).input_ids
    found = []
    for section in read(prompt).sections():
        tokens = [(token, weight) for text, weight in section for token in tokenizer(text, add_special_tokens=False).input_ids]
        found += cut(tokens, room, comma)
    # Behind the last break nothing needs to stand.
    return found if found[-1] or len(found) == 1 else found[:-1]


@torch.no_grad()
def encode(prompt: str, tokenizer, encoder, is_xl: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of all chunks, [1, L, D], and what the first says as a whole; of SDXL from the last layer but one."""
    states, pooled = [], None
    for chunk in chunks_of(prompt, tokenizer):
        plain = [(tokenizer.bos_token_id, 1.0), *chunk, (tokenizer.eos_token_id, 1.0)]
        plain += [(tokenizer.pad_token_id, 1.0)] * (tokenizer.model_max_length - len(plain))
        ids, weights = (torch.tensor(column)[None] for column in zip(*plain))
        said = encoder(ids, output_hidden_states=True)
        state = said.hidden_states[-2] if is_xl else said.last_hidden_state
        heavy = state * weights[..., None]
        states.append(heavy * (state.mean() / heavy.mean()))
        pooled = said[0] if pooled is None else pooled
    return torch.cat(states, dim=1), pooled
