"""What comes late: a place in a full queue, a file, an answer that nobody waits for any longer."""

from conftest import until

FULL = {"status": 429, "headers": {"Retry-After": "40"}, "json": {"error": {"code": "queue_full", "message": "full"}}}


def counted(page, routes, count):
    """Waits until so many requests are held."""
    for _ in range(500):
        if len(routes) >= count:
            return
        page.wait_for_timeout(40)
    raise AssertionError(f"{len(routes)} of {count} were asked for")


def test_stopping_takes_effect_before_the_server_answers_that_its_queue_is_full(visit, slow):
    visit.expect_complaints = True
    visitor = visit(slow)
    page = visitor.page
    asked = []
    page.route("**/jobs", lambda route: asked.append(route))
    visitor.make("a cat that is not waited for")
    counted(page, asked, 1)
    page.click("#go")
    asked[0].fulfill(**FULL)
    until(page, "document.querySelector('#status').textContent === 'Stopped.'", timeout=10_000)
    assert page.inner_text("#go-text") == "Make picture" and len(asked) == 1


def test_stopping_four_others_ends_those_that_still_wait_for_the_queue(visit, slow):
    visit.expect_complaints = True
    visitor = visit(slow)
    page = visitor.page
    visitor.make("a cat for four")
    visitor.finished()
    asked = []
    page.route("**/jobs", lambda route: asked.append(route))
    page.click("#actions [data-action=others]")
    counted(page, asked, 4)
    with page.expect_request("**/jobs/*/events"):
        asked[0].continue_()
    for route in asked[1:]:
        route.fulfill(**FULL)
    until(page, "document.querySelector('#status').textContent.startsWith('Many people')")
    page.click("#go")
    until(page, "document.querySelector('#status').textContent === 'Stopped.'", timeout=10_000)
    assert visitor.job()["state"] == "cancelled", "the one that the server took"
    assert page.inner_text("#go-text") == "Make picture" and len(asked) == 4, "none was asked for again"


def test_a_picture_that_comes_late_opens_only_for_the_last_touch_and_in_its_view(visit, slow):
    visitor = visit(slow)
    page = visitor.page
    for prompt in ("a late moon", "a late star"):
        visitor.make(prompt)
        page.wait_for_selector("#actions[hidden]", state="attached")
        visitor.finished()
    held = []
    page.route("**/pictures/0", lambda route: held.append(route))

    def touched(*places):
        """The gallery, where these were touched before any picture came."""
        held.clear()
        page.click("[data-view=gallery]")
        for place in places:
            page.click(place)
        counted(page, held, page.locator("#prints li").count())
        for route in held:
            route.continue_()

    touched(".mini >> text=a late moon", ".mini >> text=a late star")
    page.wait_for_selector("#viewer[open]")
    page.wait_for_timeout(500)
    assert page.inner_text("#viewer .caption") == "a late star"
    page.click("#viewer [data-action=close]")
    touched(".mini >> text=a late moon", "[data-view=make]")
    until(page, "!document.querySelector('.mini:not(.ready)')")
    page.wait_for_timeout(500)
    assert page.locator("#viewer[open]").count() == 0


def test_a_view_that_cannot_be_opened_says_so_where_one_looks(visit, slow):
    visit.expect_complaints = True
    page = visit(slow).page
    for view, path in (("gallery", "**/jobs?*"), ("tree", "**/lineage")):
        page.route(path, lambda route: route.abort())
        page.click(f"[data-view={view}]")
        until(page, "document.querySelector('#trouble').textContent === 'The server cannot be reached.'")
        page.route(path, lambda route: route.fulfill(status=500, json={"error": {"code": "internal", "message": "the disk is gone"}}))
        page.click(f"[data-view={view}]")
        until(page, "document.querySelector('#trouble').textContent === 'It did not work: the disk is gone'")
        assert page.is_visible("#trouble")
        page.unroute(path)
        page.click(f"[data-view={view}]")
        page.wait_for_selector("#prints li, #empty:not([hidden])" if view == "gallery" else ".node")
        assert page.is_hidden("#trouble")


def test_the_operator_asks_as_often_after_two_touches(visit, slow):
    page = visit(slow).page
    held = []
    page.route("**/status", lambda route: held.append(route) if len(held) < 2 else route.continue_())
    for touches in (1, 2):
        page.click("[data-view=operator]")
        counted(page, held, touches)
    for route in held:
        route.continue_()
    began = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/status')).map(({ startTime }) => startTime)"
    until(page, f"{began}.length >= 5")
    moments = page.evaluate(began)[1:5]
    assert min(later - earlier for earlier, later in zip(moments, moments[1:], strict=False)) > 1500, moments
