"""The page's square codes, read by a decoder that is not ours."""

import random

import numpy
import zxingcpp


def read(rows):
    side = numpy.array(rows, dtype=bool)
    image = numpy.where(numpy.pad(side, 4), 0, 255).astype(numpy.uint8).repeat(6, 0).repeat(6, 1)
    found = zxingcpp.read_barcodes(image)
    assert len(found) == 1
    return found[0]


def test_codes_of_every_length_are_read_as_they_were_written(browser, slow):
    page = browser.new_page()
    page.goto(slow)
    chance = random.Random(4)
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-_/:.?=& 'äöüßé☀🔥"
    texts = ["", "http://192.168.1.20:7860/jobs/0123456789abcdef/pictures/0", "kiln generate 'a smiling sun' --model sticker --seed 7 --steps 4"]
    texts += ["".join(chance.choice(alphabet[:46]) for _ in range(length)) for length in range(1, 332)]
    texts += ["".join(chance.choice(alphabet) for _ in range(60)) for _ in range(20)]
    codes = page.evaluate("async (texts) => { const { encode } = await import('/page/qr.js'); return texts.map(encode); }", texts)
    versions = set()
    for text, rows in zip(texts[1:], codes[1:], strict=True):
        found = read(rows)
        assert found.text == text and found.ec_level == "M"
        versions.add((len(rows) - 17) // 4)
    assert versions == set(range(1, 14)), "every version was read"
    assert page.evaluate("async () => (await import('/page/qr.js')).encode('x'.repeat(332))") is None
    page.close()
    print(f"{len(texts) - 1} codes read")
