"""The arithmetic by which Stable Diffusion web UI reads its prompts, written out on a pipeline's own tokenizer and text encoder.

`(a)` is 1.1 times as heavy, `[a]` 1/1.1 times, `(a:1.3)` 1.3 times; brackets nest, and a backslash makes one a letter. Texts are tokenized
between the brackets, put into chunks of 75 tokens, of which a sentence's end moves to the next chunk where the last comma lies 20 tokens
back or less, and `BREAK` begins the next chunk. Each chunk is encoded alone, multiplied token by token, and brought back to the mean that
it had before (the emphasis mode "Original"). Chunks stand one after the other along the tokens; the pooled embedding is the first one's.
"""

import re

import torch

CHUNK, BACKTRACK = 75, 20
TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
BREAK = re.compile(r"\s*\bBREAK\b\s*")


def parse(text: str) -> list[list]:
    """Texts with their weights; `None` in the place of a text is a break."""
    found, round_at, square_at = [], [], []

    def multiply(start: int, factor: float) -> None:
        for item in found[start:]:
            item[1] *= factor

    for match in TOKEN.finditer(text):
        token, weight = match.group(0), match.group(1)
        if token.startswith("\\") and len(token) == 2:
            found.append([token[1], 1.0])
        elif token == "(":
            round_at.append(len(found))
        elif token == "[":
            square_at.append(len(found))
        elif weight is not None and round_at:
            multiply(round_at.pop(), float(weight))
        elif token == ")" and round_at:
            multiply(round_at.pop(), 1.1)
        elif token == "]" and square_at:
            multiply(square_at.pop(), 1 / 1.1)
        else:
            for at, part in enumerate(BREAK.split(token)):
                if at:
                    found.append([None, 1.0])
                found.append([part, 1.0])
    for start in round_at:
        multiply(start, 1.1)
    for start in square_at:
        multiply(start, 1 / 1.1)
    merged: list[list] = []
    for item in found:
        if merged and item[0] is not None and merged[-1][0] is not None and merged[-1][1] == item[1]:
            merged[-1][0] += item[0]
        else:
            merged.append(item)
    return merged


def chunks(text: str, tokenizer) -> list[tuple[list[int], list[float]]]:
    """Ids and weights, 77 each: start, 75 tokens, end; behind the first end stands the padding."""
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    done, tokens, weights, last_comma = [], [], [], None

    def close() -> None:
        nonlocal tokens, weights, last_comma
        left = CHUNK - len(tokens)
        ids = [start, *tokens, end] + [pad] * left
        done.append((ids, [1.0, *weights, 1.0] + [1.0] * left))
        tokens, weights, last_comma = [], [], None

    for part, weight in parse(text):
        if part is None:
            close()
            continue
        for token in tokenizer(part, add_special_tokens=False, truncation=False)["input_ids"]:
            if token == comma:
                last_comma = len(tokens)
            elif len(tokens) == CHUNK and last_comma is not None and CHUNK - last_comma <= BACKTRACK:
                moved, moved_weights = tokens[last_comma + 1 :], weights[last_comma + 1 :]
                tokens, weights = tokens[: last_comma + 1], weights[: last_comma + 1]
                close()
                tokens, weights = moved, moved_weights
            if len(tokens) == CHUNK:
                close()
            tokens.append(token)
            weights.append(weight)
    if tokens or not done:
        close()
    return done


@torch.no_grad()
def encode(text: str, tokenizer, encoder, last_but_one: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [1, 77 n, D] and the first chunk's pooled one, [1, P]."""
    parts, pooled = [], None
    for ids, weights in chunks(text, tokenizer):
        result = encoder(torch.tensor([ids]), output_hidden_states=True)
        tokens = result.hidden_states[-2] if last_but_one else result.last_hidden_state
        mean = tokens.mean()
        weighted = tokens * torch.tensor(weights).reshape(1, -1, 1)
        parts.append(weighted * (mean / weighted.mean()))
        pooled = result[0] if pooled is None else pooled
    return torch.cat(parts, dim=1), pooled
