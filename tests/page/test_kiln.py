"""The page against the real `kiln serve` with the models in the box; skipped where `KILN` names no binary."""

from conftest import until


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


def test_a_slow_model_is_stopped_and_survives_a_reload(visit, kiln):
    visitor = visit(kiln)
    page = visitor.page
    page.evaluate("""async () => {
      const { submit } = await import("/page/api.js");
      const { id } = await submit({ prompt: "face", model: "ddpm", steps: 1000, count: 4 });
      sessionStorage.setItem("kiln.job", JSON.stringify({ id, words: "face" }));
    }""")
    page.reload()
    visitor.ready()
    until(page, "document.querySelector('#status').textContent.startsWith('Step ')", timeout=20_000)
    page.reload()
    visitor.ready()
    until(page, "document.querySelector('#status').textContent.startsWith('Step ')", timeout=20_000)
    page.click("#go")
    until(page, "document.querySelector('#status').textContent === 'Stopped.'", timeout=20_000)


def test_two_visitors_at_once(visit, kiln):
    visitors = [visit(kiln), visit(kiln)]
    for visitor, prompt in zip(visitors, ["a red owl", "a donut"], strict=True):
        visitor.make(prompt)
    for visitor, prompt in zip(visitors, ["a red owl", "a donut"], strict=True):
        visitor.finished()
        assert visitor.page.inner_text("#polaroid .caption") == prompt


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
    for motion, plays in [("no-preference", True), ("reduce", False)]:
        visitor = visit(kiln, reduced_motion=motion)
        page = visitor.page
        page.select_option("#model", "sticker-motion")
        assert page.inner_text("#go-text") == "Make clip"
        page.click("#styles [data-name=Spinning]")
        visitor.make("a cat")
        visitor.finished(timeout=60_000)
        assert "a spinning cat" in page.text_content("#polaroid dl")
        # The film settles first.
        page.wait_for_timeout(1500)
        photo = page.locator("#polaroid .photo")
        seen = set()
        for _ in range(6):
            seen.add(photo.screenshot())
            page.wait_for_timeout(130)
        assert (len(seen) > 1) is plays, f"{len(seen)} pictures were seen with motion {motion}"
        assert page.locator("#polaroid .photo img").count() == int(plays)
