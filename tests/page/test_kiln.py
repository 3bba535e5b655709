"""The page against the real `kiln serve` with the models in the box; skipped where `KILN` names no binary."""

import time

from conftest import settled, until


def test_a_visit_from_prompt_to_gallery(visit, kiln):
    visitor = visit(kiln)
    page = visitor.page
    until(page, "/\\d/.test(document.querySelector('#plan').textContent)")
    visitor.make("a flat blue cat")
    visitor.finished()
    assert page.evaluate("document.querySelector('#polaroid').classList.contains('sticker')"), "the picture is transparent around"
    assert page.inner_text("#seed").isdigit()
    page.click("#actions [data-action=turn]")
    facts = page.inner_text("#polaroid dl")
    assert "a flat blue cat" in facts and "sticker" in facts
    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    assert page.inner_text("#prints li:first-child span") == "a flat blue cat"


def test_previews_arrive(visit, kiln):
    visitor = visit(kiln)
    page = visitor.page
    events = page.evaluate("""async () => {
      const api = await import("/page/api.js");
      const { watch, send } = await import("/page/run.js");
      const job = await send({ prompt: "a rocket" }, () => {}, new AbortController().signal);
      const seen = { previews: 0, steps: 0 };
      const end = await watch(job.id, { queued() {}, step: () => (seen.steps += 1), preview: (blob) => (seen.previews += blob.size > 100 ? 1 : 0) });
      return { ...seen, state: end.state, pictures: end.pictures.length, size: (await api.picture(job.id, 0)).size };
    }""")
    assert events["state"] == "finished" and events["pictures"] == 1 and events["size"] > 1000
    assert events["steps"] >= 1 and events["previews"] >= 1


def test_a_job_outlives_a_reload_and_is_stopped(visit, kiln):
    visitor = visit(kiln)
    page = visitor.page
    visitor.wish_slowly()
    visitor.make("a face that lasts")
    number = "Number(document.querySelector('#status').textContent.match(/^Step (\\d+)/)?.[1] ?? 0)"
    until(page, f"{number} > 0", timeout=20_000)
    before = page.evaluate(number)
    page.reload()
    visitor.ready()
    assert page.inner_text("#go-text") == "Stop" and page.input_value("#prompt") == "a face that lasts"
    until(page, f"{number} > {before}", timeout=20_000)
    assert sum(url.endswith("/jobs") for url in visitor.asked) == 1, "nothing was sent twice"
    page.click("#go")
    until(page, "document.querySelector('#status').textContent === 'Stopped.'", timeout=20_000)
    assert visitor.job()["state"] == "cancelled"


def test_a_visitor_waits_for_another_and_a_reload_keeps_the_place(visit, kiln):
    first, second = visit(kiln), visit(kiln)
    first.wish_slowly()
    first.make("a face that lasts")
    until(first.page, "document.querySelector('#status').textContent.startsWith('Step ')", timeout=20_000)
    second.make("a donut")
    until(second.page, "document.querySelector('#status').textContent.startsWith('Place 1 in the queue')")
    second.page.reload()
    second.ready()
    until(second.page, "document.querySelector('#status').textContent.startsWith('Place 1 in the queue')")
    first.page.click("#go")
    until(first.page, "document.querySelector('#status').textContent === 'Stopped.'", timeout=20_000)
    second.finished()
    assert second.page.inner_text("#polaroid .caption") == "a donut"
    assert sum(url.endswith("/jobs") for url in second.asked) == 1, "nothing was sent twice"


def test_two_visitors_at_once(visit, kiln):
    visitors = [visit(kiln), visit(kiln)]
    for visitor, prompt in zip(visitors, ["a red owl", "a donut"], strict=True):
        visitor.make(prompt)
    for visitor, prompt in zip(visitors, ["a red owl", "a donut"], strict=True):
        visitor.finished()
        assert visitor.page.inner_text("#polaroid .caption") == prompt
    assert visitors[0].page.inner_text("#seed") != visitors[1].page.inner_text("#seed")
    for visitor in visitors:
        visitor.page.click("[data-view=gallery]")
        visitor.page.wait_for_selector(".mini.ready")
        assert {"a red owl", "a donut"} <= set(visitor.page.locator("#prints li").all_inner_texts())


def test_the_tree_tries_a_generator_and_the_operator_sees_it(visit, kiln):
    page = visit(kiln).page
    page.click("[data-view=tree]")
    page.wait_for_selector(".node.runs")
    page.click(".node[data-name=style_gan]")
    page.click(".trial .primary")
    page.wait_for_selector("#story .polaroid.done", timeout=30_000)
    page.click("[data-view=operator]")
    page.wait_for_selector("#operator .pill.good")
    page.wait_for_selector("#operator td .pill.finished")
    assert page.locator("#operator .tile").count() >= 3


def test_a_clip_plays_and_stands_still_for_whoever_asks_for_that(visit, kiln):
    took_s = 0
    for motion, plays in [("no-preference", True), ("reduce", False)]:
        visitor = visit(kiln, reduced_motion=motion)
        page = visitor.page
        page.select_option("#model", "sticker-motion")
        assert page.inner_text("#go-text") == "Make clip"
        page.click("#styles [data-name=Spinning]")
        visitor.make("a cat")
        visitor.finished(timeout=60_000)
        assert "a spinning cat" in page.text_content("#polaroid dl")
        settled(page)
        photo = page.locator("#polaroid .photo")
        began, seen = time.monotonic(), {photo.screenshot()}
        # Stillness is watched for several times as long as motion took to be seen.
        patience_s = 20 if plays else 0.5 + 3 * took_s
        while len(seen) == 1 and time.monotonic() < began + patience_s:
            seen.add(photo.screenshot())
        took_s = time.monotonic() - began
        assert (len(seen) > 1) is plays, f"{len(seen)} pictures were seen with motion {motion}"
        assert page.locator("#polaroid .photo img").count() == int(plays)
