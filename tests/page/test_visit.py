"""A visit to the page: making, watching, stopping, reloading, the gallery, the tree, other languages, hands and eyes."""

import json
import pathlib
import re

import pytest
from conftest import ROOT, settled, stand_in, until

PAGE = ROOT / "src/server/page"


def test_a_picture_develops_from_previews_and_can_be_turned_over_and_kept(visit, slow, tmp_path):
    visitor = visit(slow)
    page = visitor.page
    page.evaluate("""() => {
      window.frames_seen = new Set();
      const drawn = CanvasRenderingContext2D.prototype.drawImage;
      CanvasRenderingContext2D.prototype.drawImage = function (...all) {
        drawn.apply(this, all);
        if (this.canvas.closest("#polaroid")) window.frames_seen.add(this.canvas.toDataURL());
      };
    }""")
    visitor.make()
    until(page, "document.querySelector('#status').textContent.startsWith('Step ')")
    shares = [float(page.evaluate("document.querySelector('#polaroid').style.getPropertyValue('--developed')"))]
    visitor.finished()
    shares.append(float(page.evaluate("document.querySelector('#polaroid').style.getPropertyValue('--developed')")))
    assert shares[0] < 1 and shares[1] == 1
    assert page.evaluate("window.frames_seen.size") == 5, "four previews and the picture, each another"
    assert re.match(r"Ready. It took [\d.]+ s\.", visitor.status())
    page.click("#actions [data-action=turn]")
    seed = page.inner_text("#seed")
    assert seed in page.inner_text("#polaroid dl") and "a smiling sun" in page.inner_text("#polaroid dl")
    with page.expect_download() as kept:
        page.click("#actions [data-action=download]")
    assert kept.value.suggested_filename == f"a-smiling-sun-{seed}.png"
    file = tmp_path / "kept.png"
    kept.value.save_as(file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_stopping_ends_the_job_and_leaves_no_picture(visit, slow):
    visitor = visit(slow)
    visitor.make("a cat to be stopped")
    until(visitor.page, "document.querySelector('#status').textContent.startsWith('Step 1')")
    visitor.page.click("#go")
    until(visitor.page, "document.querySelector('#status').textContent === 'Stopped.'")
    assert visitor.page.is_hidden("#actions")
    jobs = visitor.page.evaluate("fetch('/jobs?limit=50').then((answer) => answer.json())")["jobs"]
    assert [job["state"] for job in jobs if job["wish"]["prompt"] == "a cat to be stopped"] == ["cancelled"]


def test_a_reload_in_the_middle_goes_on_with_the_same_job(visit, slow):
    visitor = visit(slow)
    visitor.make("a rocket that lasts")
    until(visitor.page, "document.querySelector('#status').textContent.startsWith('Step 1')")
    visitor.page.reload()
    visitor.ready()
    assert visitor.page.inner_text("#go-text") == "Stop"
    visitor.finished()
    assert visitor.page.input_value("#prompt") == "a rocket that lasts"
    assert sum(url.endswith("/jobs") for url in visitor.asked) == 1, "nothing was sent twice"


def test_two_visitors_each_get_their_own_picture(visit, slow):
    first, second = visit(slow), visit(slow)
    first.make("a red owl")
    until(first.page, "document.querySelector('#status').textContent.startsWith('Step')")
    second.make("a donut")
    until(second.page, "document.querySelector('#status').textContent.startsWith('Place 1')")
    for visitor, prompt in ((first, "a red owl"), (second, "a donut")):
        visitor.finished()
        assert visitor.page.inner_text("#polaroid .caption") == prompt
    assert first.page.inner_text("#seed") != second.page.inner_text("#seed")


def test_the_whole_page_can_be_used_by_keyboard_alone(visit, slow):
    page = visit(slow).page

    def tab_to(selector, most=60):
        for _ in range(most):
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).boxShadow")
                assert ring != "nonenone", f"{selector} does not show that it has the focus"
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is out of the keyboard's reach")

    tab_to("#prompt")
    page.keyboard.type("a blue car")
    # A row of chips is one stop, however many there are; arrows go along it.
    tab_to("#styles button", most=6)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.matches('#styles button:last-child')")
    page.keyboard.press("Space")
    tab_to("#time")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#have") == "3 s"
    tab_to("#go")
    page.keyboard.press("Enter")
    page.wait_for_selector("#actions:not([hidden])", timeout=20_000)
    assert "a flat blue car" in page.text_content("#polaroid dl")
    tab_to("[data-view=gallery]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mini.ready")
    tab_to(".mini")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer:not([open])", state="attached")
    tab_to("[data-view=tree]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".node")
    tab_to(".node.runs")
    page.keyboard.press("Enter")
    tab_to(".trial .primary")


def test_the_seed_lock_repeats_a_picture_and_others_differ(visit, slow):
    visitor = visit(slow)
    page = visitor.page
    visitor.make()
    visitor.finished()
    seed = page.inner_text("#seed")
    page.click("#lock")
    page.click("#go")
    page.wait_for_selector("#actions[hidden]", state="attached")
    visitor.finished()
    assert page.inner_text("#seed") == seed
    page.click("#lock")
    page.click("#actions [data-action=others]")
    until(page, "document.querySelectorAll('#strip .ready').length === 4", timeout=40_000)
    page.click("#strip button:nth-child(3)")
    assert page.inner_text("#seed") != seed


def test_time_too_short_is_told_and_fewer_steps_are_planned(visit, slow):
    page = visit(slow).page
    until(page, "document.querySelector('#plan').textContent === '4 steps, about 0.4 s'")
    page.focus("#time")
    page.keyboard.press("Home")
    until(page, "document.querySelector('#plan').textContent === '1 step, about 0.1 s'")


def test_the_gallery_gives_a_picture_back_to_the_form_and_deletes(visit, slow):
    visitor = visit(slow)
    page = visitor.page
    visitor.make("a cactus for the gallery")
    visitor.finished()
    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    # Whoever touches twice sees nothing twice.
    answered = []
    page.on("requestfinished", lambda asked: answered.append(asked.url) if "/jobs?" in asked.url else None)
    page.dblclick("[data-view=gallery]")
    for _ in range(250):
        if len(answered) == 2:
            break
        page.wait_for_timeout(40)
    assert len(answered) == 2
    page.wait_for_selector(".mini.ready")
    before = page.locator("#prints li").count()
    assert page.evaluate("new Set([...document.querySelectorAll('#prints li')].map((one) => one.dataset.job)).size") == before > 0
    assert page.inner_text("#prints li:first-child span") == "a cactus for the gallery"
    page.click("#prints li:first-child button")
    page.click("#viewer [data-action=again]")
    assert page.input_value("#prompt") == "a cactus for the gallery" and page.get_attribute("#lock", "aria-pressed") == "true"
    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    page.click("#prints li:first-child button")
    page.click("#viewer [data-action=remove]")
    assert page.is_visible(".sure"), "it asks first"
    page.click("#viewer [data-action=remove]")
    until(page, "(count) => document.querySelectorAll('#prints li').length === count", before - 1)


def test_the_tree_tells_and_tries(visit, slow):
    page = visit(slow).page
    page.click("[data-view=tree]")
    page.wait_for_selector(".node")
    assert page.locator(".node").count() == (ROOT / "models/lineage.toml").read_text().count("[[algorithm]]")
    page.click(".node[data-name=style_gan]")
    assert page.inner_text("#story h1") == "Style-based generator"
    assert page.locator(".node.related").count() > 2 and page.locator(".node:not(.related)").count() > 2
    page.click(".trial .primary")
    page.wait_for_selector("#story .polaroid.done", timeout=20_000)
    page.click("#story .kin button >> nth=0")
    assert page.inner_text("#story h1") != "Style-based generator"


def test_a_full_queue_is_waited_for_and_a_blocked_prompt_is_told(visit):
    with stand_in("--step-s", "0.05", "--full", "2") as address:
        visit.expect_complaints = True
        visitor = visit(address)
        visitor.make()
        until(visitor.page, "document.querySelector('#status').textContent.startsWith('Many people')")
        visitor.page.click("#go")
        until(visitor.page, "document.querySelector('#status').textContent === 'Stopped.'")
        assert visitor.page.evaluate("document.querySelector('#polaroid').classList.contains('blank')"), "nothing develops"
        visitor.make()
        until(visitor.page, "document.querySelector('#status').textContent.startsWith('Many people')")
        visitor.finished()
        visitor.make("a forbidden thing")
        until(visitor.page, "document.querySelector('#status').textContent.startsWith('This place does not')")
        assert visitor.page.inner_text("#go-text") == "Make picture", "one can try again"


def test_a_token_in_the_address_is_used_and_leaves_the_address(visit):
    with stand_in("--step-s", "0.05", "--token", "secret") as address:
        visitor = visit(address, "/#token=secret")
        assert "secret" not in visitor.page.url
        visitor.make()
        visitor.finished()
        visitor.page.reload()
        visitor.ready()
        assert not any("secret" in url.removeprefix(address + "/#token=secret") for url in visitor.asked)


def test_without_a_token_the_page_asks_for_it(visit):
    with stand_in("--token", "secret") as address:
        visit.expect_complaints = True
        visitor = visit(address, admitted=False)
        visitor.page.wait_for_selector("#entrance[open]")
        visitor.page.fill("#token", "wrong")
        visitor.page.keyboard.press("Enter")
        until(visitor.page, "document.querySelector('#token-wrong').textContent === 'That was not it.'")
        visitor.page.fill("#token", "secret")
        visitor.page.keyboard.press("Enter")
        visitor.ready()


def test_german_from_the_browser_and_from_the_button(visit, slow):
    visitor = visit(slow, locale="de-DE")
    page = visitor.page
    assert page.get_attribute("html", "lang") == "de" and page.inner_text("#go-text") == "Bild machen"
    page.fill("#prompt", "eine blaue Katze")
    assert page.inner_text("#read") == "Gelesen als: a blue cat"
    page.click("#go")
    until(page, "document.querySelector('#status').textContent.startsWith('Schritt')")
    visitor.finished()
    assert "a blue cat" in page.text_content("#polaroid dl") and page.inner_text("#polaroid .caption") == "eine blaue Katze"
    page.click("#language")
    assert page.get_attribute("html", "lang") == "en" and page.inner_text("#go-text") == "Make picture"


def test_every_word_is_there_in_every_language_and_every_word_is_used():
    texts = json.loads((PAGE / "texts.json").read_text())
    english = texts["languages"]["en"]
    sources = "\n".join(file.read_text() for file in PAGE.iterdir() if file.suffix in (".js", ".html"))
    named = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', sources)) | set(re.findall(r'\bt\("(\w+)"', sources))
    checked = 0
    for name, words in texts["languages"].items():
        assert words.keys() == english.keys(), name
        for key, value in words.items():
            assert set(re.findall(r"{(\w+)}", value)) == set(re.findall(r"{(\w+)}", english[key])), (name, key)
            checked += 1
    assert named <= english.keys(), named - english.keys()
    assert all(re.search(rf'["`.]{key}\b|state_', sources) for key in english)
    assert checked > 200
    for idea in texts["ideas"]:
        assert set(idea) == set(texts["languages"])


SIZES = [(800, 480), (1024, 600), (1440, 900), (420, 860)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_targets_are_large_words_are_legible_and_nothing_is_cut_off(visit, slow, size, scheme):
    visitor = visit(slow, viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale="de-DE")
    page = visitor.page
    script = (pathlib.Path(__file__).parent / "measure.js").read_text()
    checked = 0
    filled = {"make": "#plan:not(:empty)", "gallery": ".mini.ready, #empty:not([hidden])", "tree": "#story .key", "operator": "#operator .tile"}
    for view, content in filled.items():
        page.click(f"[data-view={view}]")
        page.wait_for_selector(content)
        settled(page)
        found = page.evaluate(script)
        assert not found["small"], (view, found["small"])
        assert not found["faint"], (view, found["faint"])
        assert not found["wide"], (view, found["wide"])
        assert not found["nameless"], (view, found["nameless"])
        checked += found["checked"]
    assert checked > 60
    if size != (420, 860):
        page.click("[data-view=make]")
        bottom = page.eval_on_selector("#go", "(button) => button.getBoundingClientRect().bottom")
        assert bottom <= size[1], "the button that makes the picture needs no scrolling"


def test_who_wants_no_motion_gets_none(visit, slow):
    visitor = visit(slow, reduced_motion="reduce")
    visitor.make()
    until(visitor.page, "document.querySelector('#status').textContent.startsWith('Step')")
    moving = visitor.page.evaluate("document.getAnimations().filter((one) => one.effect.getComputedTiming().duration > 5).length")
    assert moving == 0
    visitor.finished()

