"""Kiosk mode: a loop until somebody touches, a fresh page for each visitor, no way out."""

from conftest import until

LAST = "fetch('/jobs?limit=1').then((answer) => answer.json()).then(({ jobs }) => jobs[0])"


def test_the_loop_runs_until_it_is_touched_and_an_idle_page_becomes_new(visit, server):
    visitor = visit(server, "/?kiosk=10", has_touch=True)
    page = visitor.page
    page.wait_for_selector(".float.done", timeout=20_000)
    assert page.evaluate("document.querySelector('main').inert"), "what lies behind the loop is out of reach"
    page.tap("#touch")
    assert page.is_hidden("#attract")
    page.click("#language")
    page.click("#colours button:first-child")
    visitor.make("eine Katze")
    visitor.finished()
    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    assert page.locator("#prints li").all_inner_texts() == ["a red cat"], "what the loop and others made is not shown"
    page.click("[data-view=tree]")
    page.click(".node.runs >> nth=0")
    assert page.get_attribute("html", "lang") == "de"
    page.wait_for_selector("#leaving:not([hidden])", timeout=10_000)
    page.wait_for_selector("#attract:not([hidden])", timeout=12_000)
    page.tap("#touch")
    assert page.is_visible("#make") and page.input_value("#prompt") == "" and page.is_hidden("#actions")
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("[aria-pressed=true]").count() == 0
    assert not any(letter.isdigit() for letter in page.inner_text("#seed"))
    page.click("[data-view=tree]")
    page.wait_for_selector(".node")
    assert page.inner_text("#story h1") == "Family tree", "nobody looks at a method yet"
    page.click("[data-view=gallery]")
    assert page.locator("#prints li").count() == 0, "the next visitor does not see what the last one made"
    page.click("[data-view=make]")
    visitor.make("a dog")
    visitor.finished()
    page.click("[data-view=gallery]")
    page.wait_for_selector(".mini.ready")
    assert page.locator("#prints li").all_inner_texts() == ["a dog"]


def at_slow_work(visit, server, idle_s, prompt):
    """A visitor of a kiosk whose picture is being made, and for long."""
    visitor = visit(server, f"/?kiosk={idle_s}")
    visitor.page.click("#touch")
    visitor.wish_slowly()
    visitor.make(prompt)
    until(visitor.page, "document.querySelector('#status').textContent.startsWith('Step ')")
    return visitor


def test_a_picture_that_takes_longer_than_anyone_is_idle_is_waited_for(visit, server):
    visitor = at_slow_work(visit, server, idle_s=10, prompt="a face that takes its time")
    page = visitor.page
    page.wait_for_timeout(12_000)
    assert page.is_hidden("#attract") and page.is_hidden("#leaving")
    assert visitor.status().startswith("Step ") and visitor.job()["state"] == "running"
    page.click("#go")
    until(page, "document.querySelector('#status').textContent === 'Stopped.'")
    assert visitor.job()["state"] == "cancelled"


def test_a_reload_leaves_nothing_of_the_last_visitor_and_stops_what_was_asked_for(visit, server):
    visitor = at_slow_work(visit, server, idle_s=60, prompt="a face that nobody waits for")
    page = visitor.page
    job = visitor.job()
    assert job["state"] == "running"
    page.unroute("**/jobs")
    page.reload()
    visitor.ready()
    page.click("#touch")
    assert page.input_value("#prompt") == "" and visitor.status() == ""
    until(page, "(id) => fetch(`/jobs/${id}`).then((answer) => answer.json()).then(({ state }) => state === 'cancelled')", job["id"], timeout=10_000)


def test_a_picture_that_comes_late_does_not_open_over_the_loop(visit, server):
    visitor = visit(server, "/?kiosk=10")
    page = visitor.page
    page.click("#touch")
    visitor.make("a cat")
    visitor.finished()
    held = []
    page.route("**/pictures/0", lambda route: route.continue_() if held else held.append(route))
    page.click("[data-view=gallery]")
    page.click("#prints .mini")
    page.wait_for_selector("#attract:not([hidden])", timeout=20_000)
    held[0].continue_()
    page.wait_for_selector("#prints .mini.ready", state="attached")
    page.wait_for_timeout(1000)
    assert page.locator("#viewer[open]").count() == 0 and page.is_visible("#attract")


def test_the_loop_gives_way_to_whoever_comes(visit, server):
    visitor = visit(server, "/?kiosk=10")
    page = visitor.page
    page.wait_for_selector(".float", timeout=20_000)
    visitor.wish_slowly()
    page.wait_for_selector(".float.developing", timeout=20_000)
    until(page, LAST + ".then((job) => job.state === 'running')")
    page.click("#touch")
    until(page, LAST + ".then((job) => job.state === 'cancelled')")


def test_what_the_loop_had_just_asked_for_is_stopped_too(visit, server):
    visitor = visit(server, "/?kiosk=10")
    page = visitor.page
    visitor.wish_slowly()
    on_its_way = []
    page.route("**/jobs", lambda route: on_its_way.append(route))
    for _ in range(500):
        if on_its_way:
            break
        page.wait_for_timeout(40)
    page.click("#touch")
    before = page.evaluate(LAST + ".then((job) => job?.id)")
    on_its_way.pop().fallback()
    until(page, f"(before) => {LAST}.then((job) => job && job.id !== before && job.state === 'cancelled')", before)


def test_whoever_works_is_not_taken_for_gone(visit, slow):
    page = visit(slow, "/?kiosk=10").page
    page.click("#touch")
    for letter in "a cat with a hat"[:12]:
        page.keyboard.type(letter)
        page.wait_for_timeout(1000)
    assert page.is_hidden("#attract") and page.is_hidden("#leaving")


def test_there_is_no_way_out(visit, server):
    visitor = visit(server, "/?kiosk=60")
    page = visitor.page
    page.click("#touch")
    visitor.make()
    visitor.finished()
    assert page.locator("a[href]:not([href^='#'])").count() == 0
    for selector in (".staff", "[data-action=download]", "[data-action=print]", "[data-action=remove]"):
        assert page.locator(selector).count() > 0
        assert all(not one.is_visible() for one in page.locator(selector).all()), selector
    keys = [
        {"key": "p", "ctrlKey": True}, {"key": "s", "ctrlKey": True}, {"key": "o", "metaKey": True}, {"key": "C", "ctrlKey": True, "shiftKey": True},
        {"key": "F5"}, {"key": "F12"}, {"key": "ArrowLeft", "altKey": True},
    ]
    prevented = page.evaluate("""(keys) => [
      new MouseEvent("contextmenu", { bubbles: true, cancelable: true }),
      new DragEvent("drop", { bubbles: true, cancelable: true }),
      new DragEvent("dragover", { bubbles: true, cancelable: true }),
      ...keys.map((key) => new KeyboardEvent("keydown", { ...key, bubbles: true, cancelable: true })),
    ].map((event) => !document.body.dispatchEvent(event))""", keys)
    assert prevented == [True] * (3 + len(keys))
    editing = page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'v', ctrlKey: true, bubbles: true, cancelable: true }))")
    assert editing, "the prompt can be edited as usual"
    for way in ("Control+Enter", "Shift+Enter", "Control+Shift+Enter"):
        page.focus(".skip")
        page.keyboard.press(way)
    page.focus(".skip")
    page.click(".skip", button="middle")
    page.click(".skip", modifiers=["Control"])
    for _ in range(8):
        page.go_back()
    page.evaluate("history.go(-8)")
    until(page, "history.state?.depth === 12")
    page.go_back()
    until(page, "history.state?.depth === 12")
    assert len(visitor.context.pages) == 1, "no window opens"
    assert page.url == f"{server}/?kiosk=60" and page.is_visible("#polaroid.done")
    assert [url for url in visitor.asked if "?kiosk" in url] == [f"{server}/?kiosk=60"], "the page was loaded once"
