"The demo site as a visitor meets it: every request goes over real HTTP to a site on the loopback."

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import pytest

from lightbulb.web.demo_site import (
    CHARSETS,
    HIDDEN_TEXT,
    REDIRECTS,
    DemoSite,
    article_titles,
    demo_questions,
    demo_text,
    load_articles,
    load_topics,
    parse_article,
    serve_demo_site,
)

MISSING = "/wiki/moore-tube"
FORBIDDEN = "/private/editors"
QUESTIONS_SHA256 = (
    "c8f2cbd6408dd88a89744e4b6dcd8f9fda0c639ffafabea0f96ff1ba458f029e"  # splits are fixed: whoever changes the questions has to say so here
)


class Reply:
    "One HTTP exchange, redirects not followed."

    def __init__(self, site: DemoSite, path: str, **headers: str) -> None:
        parts = urlsplit(site.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()
        connection.close()


class Anchors(HTMLParser):
    "The addresses that a page names, and the text of its h1."

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        if tag == "img":
            self.images.append(values)


@pytest.fixture(scope="module")
def site():
    site = DemoSite()
    yield site
    site.close()


@pytest.fixture(scope="module")
def crawl(site: DemoSite) -> dict[str, Reply]:
    "Every page that links lead to from the home page, robots.txt obeyed."
    found: dict[str, Reply] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in found or path.startswith("/private/"): continue
        reply = found[path] = Reply(site, path)
        if 300 <= reply.status < 400:
            links = [reply.headers["Location"]]
        elif "html" in reply.headers["Content-Type"]:
            links = Anchors(reply.body.decode(errors="replace")).links
        else:
            links = []
        waiting += [urldefrag(urljoin(path, link)).url for link in links]
    return found


def test_every_link_leads_somewhere_but_one(crawl: dict[str, Reply]) -> None:
    assert {path for path, reply in crawl.items() if reply.status == 404} == {MISSING}
    assert all(reply.status in (200, 301) for path, reply in crawl.items() if path != MISSING)


def test_every_article_is_reached_from_the_home_page(crawl: dict[str, Reply]) -> None:
    assert {f"/wiki/{slug}" for slug in load_articles()} <= set(crawl)
    assert FORBIDDEN not in crawl


def test_every_article_has_a_topic() -> None:
    listed = [slug for slugs in load_topics().values() for slug in slugs]
    assert sorted(listed) == sorted(load_articles())


def test_articles_are_many_long_enough_and_linked() -> None:
    articles = load_articles()
    assert len(articles) >= 60 and len(set(article_titles())) == len(articles)
    for slug, article in articles.items():
        words = len(" ".join(block.text for block in article.blocks).split())
        assert 200 <= words <= 600, (slug, words)
        assert len(set(article.links) - {slug}) >= 5, (slug, article.links)
        assert set(article.links) <= set(articles), slug
        assert article.description.endswith("."), slug


def test_pages_have_what_real_pages_have(site: DemoSite) -> None:
    html = Reply(site, "/wiki/incandescent-light-bulb").body.decode()
    for part in (
        "<!doctype html>",
        "<nav>",
        "<article>",
        "<table>",
        "<figcaption>",
        "<footer>",
        "cookie",
        'rel="canonical"',
        'name="description"',
        "breadcrumb",
    ):
        assert part in html, part
    assert f'href="{site.url}/wiki/incandescent-light-bulb"' in html


def test_images_are_served_with_alternative_text(site: DemoSite, crawl: dict[str, Reply]) -> None:
    images = [image for reply in crawl.values() for image in Anchors(reply.body.decode(errors="replace")).images]
    assert len(images) >= 8
    for image in images:
        assert image["alt"] and len(image["alt"]) > 10
        reply = Reply(site, str(image["src"]))
        assert reply.status == 200 and reply.headers["Content-Type"] == "image/svg+xml"
        assert reply.body.startswith(b"<svg")


def test_robots_forbid_the_private_part_and_name_the_sitemap(site: DemoSite) -> None:
    text = Reply(site, "/robots.txt").body.decode()
    robots = RobotFileParser()
    robots.parse(text.splitlines())
    assert not robots.can_fetch("lightbulb", site.url + FORBIDDEN)
    assert robots.can_fetch("lightbulb", site.url + "/wiki/tungsten")
    assert robots.site_maps() == [site.url + "/sitemap.xml"]
    assert Reply(site, FORBIDDEN).status == 200  # it is there, and must not be fetched


def test_sitemap_lists_public_pages_that_exist(site: DemoSite) -> None:
    places = re.findall("<loc>(.*?)</loc>", Reply(site, "/sitemap.xml").body.decode())
    assert all(place.startswith(site.url) for place in places)
    paths = [place.removeprefix(site.url) for place in places]
    assert {f"/wiki/{slug}" for slug in load_articles()} <= set(paths)
    assert not any(path.startswith("/private/") for path in paths)
    assert all(Reply(site, path).status == 200 for path in paths if not path.startswith("/archive/"))


@pytest.mark.parametrize("old", REDIRECTS)
def test_old_names_redirect(site: DemoSite, old: str) -> None:
    reply = Reply(site, old)
    assert reply.status == 301 and Reply(site, reply.headers["Location"]).status in (200, 301)


def test_one_redirect_leads_to_another(site: DemoSite) -> None:
    path, hops = "/wiki/Glow_lamp", 0
    while (reply := Reply(site, path)).status == 301:
        path, hops = reply.headers["Location"], hops + 1
    assert (path, hops, reply.status) == ("/wiki/incandescent-light-bulb", 2, 200)
    assert Reply(site, "/wiki/tungsten/").headers["Location"] == "/wiki/tungsten"


def test_two_pages_come_in_old_charsets(site: DemoSite) -> None:
    header = Reply(site, "/wiki/andre-marie-ampere")
    assert header.headers["Content-Type"] == "text/html; charset=iso-8859-1"
    assert b"<meta charset" not in header.body and "Ampère" in header.body.decode("iso-8859-1")
    meta = Reply(site, "/wiki/gaston-plante")
    assert meta.headers["Content-Type"] == "text/html"
    assert b'<meta charset="windows-1252">' in meta.body and "Planté" in meta.body.decode("windows-1252")
    for reply in (header, meta):
        with pytest.raises(UnicodeDecodeError):
            reply.body.decode("utf-8")
    assert set(CHARSETS) <= set(load_articles())


def test_one_page_is_slow_and_the_rest_is_not(site: DemoSite) -> None:
    start = time.monotonic()
    Reply(site, "/wiki/tungsten")
    quick = time.monotonic()
    Reply(site, "/archive/lamp-catalogue")
    assert quick - start < 1 and 1.9 < time.monotonic() - quick < 6


def test_one_page_gives_orders(site: DemoSite) -> None:
    text = Reply(site, "/community/letters").body.decode()
    assert "ignore all previous instructions" in text and "Margaret of Leeds" in text


def test_hidden_text_is_on_the_page_and_in_no_article(site: DemoSite) -> None:
    for slug, html in HIDDEN_TEXT.items():
        assert html in Reply(site, f"/wiki/{slug}").body.decode()
    assert "Quillfeather" not in demo_text() and "quill" not in demo_text().casefold()


def test_an_unchanged_page_is_not_sent_again(site: DemoSite) -> None:
    tag = Reply(site, "/wiki/lumen").headers["ETag"]
    again = Reply(site, "/wiki/lumen", **{"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


def test_the_site_counts_what_was_asked_for(site: DemoSite) -> None:
    before = site.requests["/wiki/candela"]
    Reply(site, "/wiki/candela?print=1")
    assert site.requests["/wiki/candela"] == before + 1


def test_there_is_one_shared_site_and_another_after_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve_demo_site() is serve_demo_site()
    monkeypatch.setattr("lightbulb.web.demo_site._shared", [])  # the one that other tests use stays open
    with serve_demo_site() as closed:
        pass
    with serve_demo_site() as other:
        assert other is not closed and not other.is_closed and serve_demo_site() is other


def test_an_article_without_a_title_is_refused() -> None:
    with pytest.raises(ValueError, match="no-title: the first line must be"):
        parse_article("no-title", "text")


# questions


def test_questions_are_many_and_of_every_kind() -> None:
    questions = demo_questions()
    kinds = Counter(question.kind for question in questions)
    assert len(questions) >= 240 and kinds["unanswerable"] >= 45
    assert kinds["single_hop"] >= 90 and kinds["two_hop"] >= 70 and kinds["comparison"] >= 30
    splits = Counter(question.split for question in questions)
    for split, share in (("train", 0.4), ("calibrate", 0.2), ("report", 0.4)):
        assert abs(splits[split] / len(questions) - share) < 0.05
        assert {question.kind for question in demo_questions(split)} == set(kinds)
    assert len({question.question.casefold() for question in questions}) == len(questions)


@pytest.mark.parametrize("split", ["train", "calibrate", "report"])
def test_answers_stand_on_their_pages(split) -> None:
    texts = {article.title: article.text.casefold() for article in load_articles().values()}
    for question in demo_questions(split):
        assert set(question.gold_pages) <= set(texts), question
        if question.kind == "unanswerable":
            assert (question.answers, question.gold_pages) == ((), ()), question
            continue
        assert question.answers[0].casefold() in " ".join(texts[page] for page in question.gold_pages), question
        assert len(question.gold_pages) == {"single_hop": 1}.get(question.kind, 2), question


def test_two_hop_answers_need_the_second_page() -> None:
    articles = {article.title: article for article in load_articles().values()}
    for question in demo_questions():
        if question.kind != "two_hop": continue
        bridge, last = (articles[page] for page in question.gold_pages)
        assert last.slug in bridge.links, question
        assert question.answers[0].casefold() in last.text.casefold(), question
        assert question.answers[0].casefold() not in bridge.text.casefold(), question


def test_splits_share_no_fact_and_no_chain() -> None:
    facts, chains = {}, {}
    for question in demo_questions():
        if question.kind in ("single_hop", "two_hop"):
            fact = (question.gold_pages[-1], question.answers[0].casefold())
            assert facts.setdefault(fact, question.split) == question.split, question
        if question.kind in ("two_hop", "comparison"):
            chain = (question.kind, *question.gold_pages)
            assert chains.setdefault(chain, question.split) == question.split, question


def test_questions_are_fixed() -> None:
    data = (files("lightbulb.web") / "demo_data" / "questions.jsonl").read_bytes()
    assert hashlib.sha256(data).hexdigest() == QUESTIONS_SHA256


def test_no_question_is_served(site: DemoSite, crawl: dict[str, Reply]) -> None:
    pages = [reply.body.decode(errors="replace") for reply in crawl.values()]
    for question in demo_questions():
        assert not any(question.question in page for page in pages), question
    for path in ("/questions.jsonl", "/demo_data/questions.jsonl", "/../questions.jsonl", "/images/../questions.jsonl"):
        assert Reply(site, path).status == 404


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be train, calibrate or report, got 'test'"):
        demo_questions("test")  # type: ignore[arg-type]
