"""Reports in a real browser: a headless Chromium draws them on a phone and a desktop, light and dark, and prints them.

One process serves the whole module. What it measures is in `IN_PAGE`, a library of functions that run in the page.
"""

import functools
import http.server
import io
import re
import threading
import unicodedata

import numpy as np
import pytest
from chromium import BROWSER, chromium
from pdf_text import pages_of
from PIL import Image
from report_samples import PICTURE, entry, evaluation, of_format_2, record, results, undefined

from trainer import report
from trainer.data.labels import FINDINGS
from trainer.report import paired_sections, runs_page
from trainer.report.drawing import COLOURS
from trainer.report.page import page as html_of

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome here")

PHONE, DESKTOP = (390, 844), (1280, 800)
LONG = "A_class_with_a_very_long_name_" * 3
RUN = "densenet121-on-the-whole-data-set-with-dropout-and-seed-"

RUNS = ("phantoms", "notes", "classes")
"""The first screen is looked at: 14 findings of phantoms in format 1, 14 with all that can be said of them, two classes."""

PAGES = (*RUNS, "long", "rare", "bare", "runs", "paired")

IN_PAGE = """(() => {
  const seen = (e) => e.getClientRects().length > 0;
  const all = (what, from = document) => [...from.querySelectorAll(what)].filter(seen);
  const name = (e) => (e.textContent || e.tagName).trim().slice(0, 60);
  const inner = (r) => ({left: r.left + 1, right: r.right - 1, top: r.top + 1.5, bottom: r.bottom - 1.5});
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const has = (r, p) => r.left < p.x && p.x < r.right && r.top < p.y && p.y < r.bottom;

  // Text that leaves its figure, or meets other text of it.
  function badTexts() {
    const bad = [];
    for (const svg of all("svg")) {
      const box = svg.getBoundingClientRect(), texts = all("text", svg), rects = texts.map((e) => e.getBoundingClientRect());
      texts.forEach((text, at) => {
        const r = rects[at];
        if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
          bad.push("outside: " + name(text) + " of " + svg.getAttribute("aria-label").slice(0, 60));
      });
      const inside = rects.map(inner);
      texts.forEach((a, first) => texts.forEach((b, second) => {
        if (first < second && meet(inside[first], inside[second]))
          bad.push("on each other: " + name(a) + " | " + name(b) + " of " + svg.getAttribute("aria-label").slice(0, 60));
      }));
    }
    return bad;
  }

  // 201 points at equal distances along a path, curves as 16 lines each. `getPointAtLength` measures the whole path each time,
  // which takes seconds on a page.
  function along(path) {
    const d = path.getAttribute("d"), lines = [];
    if (/[^MLCz\\d\\s.-]/.test(d)) throw new Error("unknown command in " + d);
    const to = (next) => { lines.push({from: here, to: next, length: Math.hypot(next.x - here.x, next.y - here.y)}); here = next; };
    let here = null, start = null;
    for (const [, mark, rest] of d.matchAll(/([MLCz])([^MLCz]*)/g)) {
      const [x1, y1, x2, y2, x3, y3] = rest.trim().split(/\\s+/).map(Number), from = here;
      const bent = (t, ...at) => at[0] * (1 - t) ** 3 + 3 * at[1] * t * (1 - t) ** 2 + 3 * at[2] * t * t * (1 - t) + at[3] * t ** 3;
      if (mark === "M") here = start = {x: x1, y: y1};
      else if (mark === "L") to({x: x1, y: y1});
      else if (mark === "z") to(start);
      else for (let n = 1; n <= 16; n++) to({x: bent(n / 16, from.x, x1, x2, x3), y: bent(n / 16, from.y, y1, y2, y3)});
    }
    const total = lines.reduce((sum, line) => sum + line.length, 0), points = [];
    for (let n = 0, line = 0, before = 0; n <= 200 && lines.length; n++) {
      while (line < lines.length - 1 && before + lines[line].length < total * n / 200) before += lines[line++].length;
      const {from, to, length} = lines[line], share = length ? Math.min(1, (total * n / 200 - before) / length) : 0;
      points.push({x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share});
    }
    return points;
  }

  // Points of what is drawn of the data, and of lines that are compared with it, as far as they are not cut off.
  function pointsOf(svg, colours) {
    const points = [];
    const isData = (e) => ["stroke", "fill"].some((key) => colours.includes((e.getAttribute(key) || "").toLowerCase()))
      || parseFloat(e.getAttribute("stroke-opacity") || 0) >= 0.3;
    for (const path of all("path", svg)) {
      if (!isData(path) || path.closest("defs")) continue;
      const {a, b, c, d, e, f} = path.getScreenCTM();
      const clip = (path.closest("[clip-path]")?.getAttribute("clip-path") || "").match(/#([^)]+)/);
      const rect = clip && document.getElementById(clip[1])?.querySelector("rect");
      const [x0, y0, w, h] = rect ? ["x", "y", "width", "height"].map((key) => parseFloat(rect.getAttribute(key))) : [];
      for (const p of along(path)) {
        if (rect && (p.x < x0 || p.x > x0 + w || p.y < y0 || p.y > y0 + h)) continue;
        points.push({x: a * p.x + c * p.y + e, y: b * p.x + d * p.y + f});
      }
    }
    for (const mark of all("use", svg)) {
      if (!isData(mark)) continue;
      const r = mark.getBoundingClientRect();
      points.push({x: (r.left + r.right) / 2, y: (r.top + r.bottom) / 2});
    }
    return points;
  }

  function covered(colours) {
    const bad = [];
    for (const svg of all("svg")) {
      const points = pointsOf(svg, colours);
      for (const text of all("text", svg)) {
        const r = inner(text.getBoundingClientRect());
        if (points.some((p) => has(r, p))) bad.push(name(text) + " of " + svg.getAttribute("aria-label").slice(0, 60));
      }
    }
    return bad;
  }

  function layout() {
    const root = document.documentElement, inside = (e) => e.closest(".wide, .skip");
    const cut = all("dt, dd, dd *, h1, h2, p, li, summary, figcaption, caption span").filter((e) => !inside(e) || e.closest("caption"));
    const small = all("svg text").map((e) => parseFloat(e.getAttribute("font-size")) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b));
    return {
      width: root.clientWidth, content: root.scrollWidth, styled: getComputedStyle(document.body).maxWidth,
      wide: all("body *").filter((e) => !inside(e) && e.getBoundingClientRect().right > root.clientWidth + 1).map(name),
      cut: cut.filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map(name),
      smallest: Math.min(100, ...small),
      fetched: performance.getEntriesByType("resource").map((e) => e.name).filter((e) => !e.startsWith("data:")),
    };
  }

  // Tables: whether each is wider than its region, and whether it says so.
  const hints = () => all(".wide").map((e) => [e.scrollWidth > e.clientWidth + 1, all(".hint span", e).length === 1, name(e)]);

  const numbers = () => all(".numbers > div").map((e) => [e.querySelector("b").textContent, e.getBoundingClientRect().bottom]);

  // Contrast of each text with what is behind it. Source: WCAG 2.2.
  function pale() {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const over = (colours) => {
      canvas.clearRect(0, 0, 1, 1);
      for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const bad = [];
    for (const e of all("body *")) {
      if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
      const behind = [];
      for (let at = e; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
      const style = getComputedStyle(e), ink = e.closest("svg") ? style.fill : style.color;
      const [low, high] = [light(over(behind)), light(over([...behind, ink]))].sort((a, b) => a - b);
      if ((high + 0.05) / (low + 0.05) < 4.5) bad.push(name(e) + " " + ink + " on " + behind.join(" "));
    }
    return bad;
  }

  function structure() {
    const bad = [], ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    if (new Set(ids).size !== ids.length) bad.push("an id is there twice");
    if (all("main").length !== 1 || all("header").length !== 1 || all("h1").length !== 1) bad.push("landmarks");
    const labels = all("[role=region], section").map((e) => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby"));
    if (new Set(labels).size !== labels.length || labels.includes(null)) bad.push("regions have no name of their own");
    let level = 0;
    for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
      if (e.tagName[1] - level > 1) bad.push("heading " + name(e));
      level = +e.tagName[1];
    }
    for (const e of document.querySelectorAll("table"))
      if (!e.caption || e.querySelectorAll("thead th[scope=col]").length !== e.querySelectorAll("thead th").length
        || [...e.tBodies[0].rows].some((row) => row.cells[0].getAttribute("scope") !== "row")) bad.push("table " + name(e));
    for (const e of document.querySelectorAll("svg"))
      if (e.getAttribute("role") !== "img" || !e.getAttribute("aria-label")) bad.push("figure without a description");
    for (const e of document.querySelectorAll("img")) if (!e.alt) bad.push("image without a description");
    for (const e of document.querySelectorAll(".wide")) if (e.tabIndex !== 0) bad.push("no keyboard scrolls " + name(e));
    for (const e of all("a, summary")) { e.focus(); if (document.activeElement !== e) bad.push("no focus on " + name(e)); }
    return bad;
  }

  const open = () => { document.querySelectorAll("details").forEach((e) => { e.open = true; }); };
  const rows = () => [...document.querySelectorAll("table")].map((e) => [...e.caption.querySelectorAll("span"), ...e.rows].map((r) => r.textContent).join(" "));
  Object.assign(globalThis, {badTexts, covered, layout, along, hints, numbers, pale, structure, open, rows});
})()"""


def documents(name, found, *, entries=6, **more):
    """A run with this evaluation."""
    classes = found is not None and found["classes"] is not None
    return report.Documents(
        run=record(name),
        entries=[entry(n, accuracy=classes) for n in range(1, entries + 1)],
        results=results(),
        evaluation=found,
        **more,
    )


def phantoms():
    """Format 1, with what it has of uncertain numbers."""
    found = evaluation(comparison=False)
    found["data"]["drawn"], found["references"] = True, []
    found["findings"][3]["auroc"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    found["findings"][-1] = undefined(FINDINGS[-1])
    found["subgroups"][0] |= {"patients": 3, "mean_auroc": {"value": 0.0, "low": 0.0, "high": 0.0}}
    return documents("demo", found, pictures=[_picture("00000001_000.png")] * 3)


def notes():
    found = of_format_2(evaluation(), few=("Hernia", "Fibrosis"), stated=0.05)
    for each in found["findings"][0]["raw"]["bins"] + found["findings"][0]["calibrated"]["bins"]:
        each.update({key: each[key] / 25 for key in ("predicted", "observed", "low", "high")})
    found["data"] |= {"trained_on_known": False, "trained_on_images": 12}
    found["notes"] = [
        f"{name}: {n} of 1,000 resamples skipped, without positives or negatives" for n, name in enumerate(FINDINGS)
    ]
    return documents("nih-sample", found)


def rare():
    """Findings of one image in 2,500, too few for any interval, and values of many digits."""
    found = of_format_2(evaluation(FINDINGS[:5]), few=FINDINGS)
    found["mean_auroc"] |= {"low": None, "high": None}
    for each in found["findings"]:
        each["prevalence"] = 0.0004
        each["net_benefit"] = {"x": [0.0, 0.5, 1.0], "y": [0.0004, None, None], "low": [None] * 3, "high": [None] * 3}
    one = documents("rare", found, entries=3)
    for each in one.entries:
        each["images_per_s"], each["train_loss"] = 12345.6, 1e-7 * each["step"]
    return one


def classes():
    return documents("pneumonia", of_format_2(evaluation(("NORMAL", "PNEUMONIA"), classes=True)), entries=1)


def long():
    """20 classes whose names are long and begin alike, many epochs, and time that is hardly spent on data."""
    found = evaluation(tuple(f"{LONG}{n}" for n in range(20)), classes=True)
    one = documents(
        "a-run-with-quite-a-long-name-that-still-fits-in-53-char", found, entries=200, pictures=[_picture(LONG)]
    )
    for each in one.entries:
        each["data_wait_share"], each["utilisation"] = 0.00003, None
    return one


def bare():
    """A run that was stopped after half an epoch."""
    one = documents("bare", None, entries=1)
    one.entries[0] |= {"epoch": 0.4, "val": None}
    return one


def compared():
    """Runs whose names differ at their end only."""
    runs = [documents(f"{RUN}{n}", of_format_2(evaluation())) for n in range(8)]
    for workers, one in enumerate(runs, start=1):
        one.results["world_size"], one.results["training_s"] = 2**workers, 1000.0 / workers
        one.run["config"]["model"] = one.results["model"] = f"{RUN}{workers % 2}"
    return runs_page.html(runs, report.scaled(runs))


def differences():
    found = [of_format_2(evaluation(comparison=nth > 0)) for nth in range(2)]
    for nth, one in enumerate(found):
        one["model"] = f"{RUN}{nth}, step 96"
    return html_of("2 runs compared", "densenet121", [paired_sections.paired(found)])


def _picture(name):
    out = io.BytesIO()
    Image.effect_noise((404, 200), 60).save(out, format="JPEG")
    return PICTURE.__class__(**{**vars(PICTURE), "jpeg": out.getvalue(), "image": f"{name}.png"})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of all pages."""
    folder = tmp_path_factory.mktemp("pages")
    for make in (phantoms, notes, classes, long, rare, bare):
        (folder / f"{make.__name__}.html").write_text(report.html(make()))
    (folder / "runs.html").write_text(compared())
    (folder / "paired.html").write_text(differences())
    return folder


@pytest.fixture(scope="module")
def browser(place):
    with chromium(place / "profile") as one:
        yield one


@pytest.fixture
def look(browser, place):
    """Opens a page, and returns the browser with the functions of `IN_PAGE` in it."""

    def opened(name, size, **how):
        browser.open(place / f"{name}.html", width=size[0], height=size[1], **how)
        browser.value(IN_PAGE)
        return browser

    return opened


def shown(browser):
    """The window as gray, [H, W]."""
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("L"))


def test_page_is_light_or_dark_as_the_reader_prefers(look):
    """Read in the evening on the way home: dark paper, light words, and still all of it."""
    light_HW = shown(look("phantoms", DESKTOP))
    assert light_HW[:4, :4].mean() > 240
    assert 0.01 < (light_HW < 100).mean() < 0.3
    dark_HW = shown(look("phantoms", PHONE, dark=True))
    assert dark_HW[:4, :4].mean() < 40
    assert 0.01 < (dark_HW > 150).mean() < 0.3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", RUNS)
def test_five_numbers_are_on_the_first_screen(name, size, dark, look):
    """A radiologist sees in ten seconds whether the model is any good."""
    found = look(name, size, dark=dark).value("numbers()")
    assert len(found) == 5
    assert all(bottom <= size[1] for _, bottom in found), found


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_words_in_figures_are_in_their_box_and_on_nothing_else(name, size, look):
    """A number on a curve, a label that is cut, a title over another."""
    page = look(name, size)
    assert page.value("badTexts()") == []
    assert page.value(f"covered({[colour.lower() for colour in COLOURS]})") == []


def test_overlaps_in_figures_are_found(look):
    """The checks above can fail."""
    page = look("phantoms", DESKTOP)
    page.value(
        "document.querySelectorAll('svg text').forEach((e) => e.setAttribute('transform', 'translate(40 60)')); 1"
    )
    assert len(page.value("badTexts()")) > 20
    assert len(page.value(f"covered({[colour.lower() for colour in COLOURS]})")) > 10
    page.value(
        "document.querySelectorAll('svg text').forEach((e) => e.setAttribute('transform', 'translate(-90 90)')); 1"
    )
    assert any(words.startswith("outside") for words in page.value("badTexts()"))


@pytest.mark.parametrize("size", [(360, 740), PHONE, DESKTOP], ids=["small phone", "phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_page_does_not_scroll_sideways(name, size, look):
    """Only tables scroll sideways, within themselves, and say so; words in figures stay large enough to read."""
    page = look(name, size)
    page.value("open(); 1")
    found = page.value("layout()")
    assert found["width"] == found["content"] == size[0], found["wide"]
    assert not found["wide"]
    assert not found["cut"]
    assert found["smallest"] >= 8
    assert found["styled"] == "1248px"  # the page's policy lets its own style in
    assert found["fetched"] == []
    hints = page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(hints()))))")
    for is_wider, says_so, words in hints:
        assert is_wider == says_so, words
    assert size == DESKTOP or name == "bare" or any(is_wider for is_wider, _, _ in hints)


@pytest.mark.parametrize("name", [*RUNS, "long", "runs"])
def test_auroc_is_on_the_screen_of_a_phone(name, look):
    """Without scrolling sideways."""
    page = look(name, PHONE)
    right = page.value(
        "[...document.querySelectorAll('#findings th, #runs th')].find((e) => e.textContent.includes('AUROC')).getBoundingClientRect().right"
    )
    assert 0 < right <= PHONE[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible(name, dark, look):
    """Contrast of each text, order of headings, names of regions, heads of tables, descriptions, focus."""
    page = look(name, DESKTOP, dark=dark)
    page.value("open(); 1")
    assert page.value("pale()") == []
    assert page.value("structure()") == []


def letters(text):
    return "".join(unicodedata.normalize("NFKC", text).split())


@pytest.mark.parametrize("name", RUNS)
def test_page_is_printed_whole(name, look):
    """Reviewers file paper: what is folded on the screen is open there, and no table breaks that fits on a page."""
    page = look(name, DESKTOP)
    tables = [letters(text) for text in page.value("rows()")]
    printed = pages_of(page.pdf())
    assert 2 <= len(printed) <= 20
    assert len(tables) >= 5
    for text in tables:
        assert any(text in one for one in printed), text[:200]
    assert any(letters("Thresholds by other rules") in one for one in printed)
    assert not any(letters("scroll sideways") in one for one in printed)
    for one in printed:  # a heading is never the last on its page
        assert not re.search(r"(Eachfinding|Calibration|Subgroups|Publishedresults|Curves)$", one)


def test_content_security_policy_blocks_injected_resources(place, browser):
    """Escaping keeps names out; should it ever fail, the policy still lets nothing be fetched or run."""
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    slipped = f'<body><img src="{root}/image"><script>document.title = "ran"; fetch("{root}/script")</script>'
    text = (place / "phantoms.html").read_text()
    try:
        for name, policy in (("with", True), ("without", False)):
            page = text if policy else re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
            (place / f"{name}.html").write_text(page.replace("<body>", slipped))
            browser.open(place / f"{name}.html", width=DESKTOP[0], height=DESKTOP[1])
            assert (browser.value("document.title") == "ran") is not policy
            assert bool(asked) is not policy
    finally:
        server.shutdown()
        server.server_close()
