"""Kiosk mode: a loop until somebody touches, a fresh page for each visitor, no way out."""


def test_the_loop_runs_until_it_is_touched_and_an_idle_page_becomes_new(visit, slow):
    visitor = visit(slow, "/?kiosk=10", has_touch=True)
    page = visitor.page
    page.wait_for_selector(".float.done", timeout=20_000)
    page.tap("#touch")
    assert page.is_hidden("#attract")
    page.click("#language")
    page.click("#colours button:first-child")
    visitor.make("eine Katze")
    visitor.finished()
    assert page.get_attribute("html", "lang") == "de"
    page.wait_for_selector("#leaving:not([hidden])", timeout=10_000)
    page.wait_for_selector("#attract:not([hidden])", timeout=12_000)
    page.tap("#touch")
    assert page.input_value("#prompt") == "" and page.is_hidden("#actions")
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("[aria-pressed=true]").count() == 0
    page.click("[data-view=gallery]")
    assert page.locator("#prints li").count() == 0, "the next visitor does not see what the last one made"


def test_whoever_works_is_not_taken_for_gone(visit, slow):
    page = visit(slow, "/?kiosk=10").page
    page.click("#touch")
    for letter in "a cat with a hat"[:12]:
        page.keyboard.type(letter)
        page.wait_for_timeout(1000)
    assert page.is_hidden("#attract") and page.is_hidden("#leaving")


def test_there_is_no_way_out(visit, slow):
    visitor = visit(slow, "/?kiosk=60")
    page = visitor.page
    page.click("#touch")
    visitor.make()
    visitor.finished()
    assert page.locator("a[href]:not([href^='#'])").count() == 0
    for selector in (".staff", "[data-action=download]", "[data-action=print]", "[data-action=remove]"):
        assert page.locator(selector).count() > 0
        assert all(not one.is_visible() for one in page.locator(selector).all()), selector
    prevented = page.evaluate("""() => [
      new MouseEvent("contextmenu", { bubbles: true, cancelable: true }),
      new KeyboardEvent("keydown", { key: "p", ctrlKey: true, bubbles: true, cancelable: true }),
      new KeyboardEvent("keydown", { key: "F5", bubbles: true, cancelable: true }),
      new KeyboardEvent("keydown", { key: "ArrowLeft", altKey: true, bubbles: true, cancelable: true }),
      new DragEvent("drop", { bubbles: true, cancelable: true }),
      new DragEvent("dragover", { bubbles: true, cancelable: true }),
    ].map((event) => !document.body.dispatchEvent(event))""")
    assert prevented == [True] * 6
    page.go_back()
    assert page.url == f"{slow}/?kiosk=60" and page.is_visible("#polaroid.done")
