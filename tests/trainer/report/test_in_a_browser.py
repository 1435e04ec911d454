"""Reports in a real browser: a headless Chromium draws them on a phone and a desktop, light and dark, and prints them."""

import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image
from report_samples import PICTURE, entry, evaluation, record, results

from trainer import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome here")

LONG = "A_class_with_a_very_long_name_" * 3

MEASURE = """<!doctype html><title>measure</title><body style="margin:0">
<iframe src="%(page)s" style="width:%(width)dpx;height:800px;border:0"></iframe><pre id="out"></pre>
<script>
addEventListener("load", () => {
  const page = frames[0].document, root = page.documentElement;
  const inside = (element) => element.closest(".wide, .skip");
  const wide = [...page.body.querySelectorAll("*")].filter((e) => !inside(e) && e.getBoundingClientRect().right > root.clientWidth + 1);
  const scale = (e) => Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b);
  const small = [...page.querySelectorAll("svg text")].map((e) => parseFloat(e.getAttribute("font-size")) * scale(e));
  out.textContent = JSON.stringify({
    width: root.clientWidth, content: root.scrollWidth, wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    smallest: Math.min(...small), fetched: frames[0].performance.getEntriesByType("resource").map((e) => e.name),
    styled: frames[0].getComputedStyle(page.body).maxWidth,
    scroll: [...page.querySelectorAll(".wide")].some((e) => e.scrollWidth > e.clientWidth),
  });
});
</script>"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a page with everything in it, and with names as long as they come."""
    folder = tmp_path_factory.mktemp("page")
    documents = report.Documents(
        run=record("a-run-with-quite-a-long-name-that-still-fits-in-53-char"),
        entries=[entry(n, accuracy=True) for n in range(1, 7)],
        results=results(),
        evaluation=evaluation(("NORMAL", LONG, "Pleural_Thickening"), classes=True),
        pictures=[PICTURE.__class__(**{**vars(PICTURE), "jpeg": _jpeg(), "image": LONG + ".png"})] * 3,
    )
    (folder / "index.html").write_text(report.html(documents))
    return folder


def _jpeg():
    out = io.BytesIO()
    Image.effect_noise((404, 200), 60).save(out, format="JPEG")
    return out.getvalue()


def browse(place, *flags, page="index.html"):
    """What Chromium says on its standard output of this page, with no way to a network."""
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"),
        *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-first-run"),
        *(f"--user-data-dir={place / 'profile'}", *flags),
    ]
    address = page if "://" in page else (place / page).as_uri()
    done = subprocess.run([BROWSER, *flags, address], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def screenshot(place, name, width, *flags):
    """The page as drawn, gray, [H, W]."""
    browse(place, f"--screenshot={place / name}", f"--window-size={width},1600", *flags)
    image = Image.open(place / name)
    assert image.width == width
    return np.asarray(image.convert("L"))


def test_page_is_rendered_on_a_desktop_in_light_mode(place):
    """What most see first."""
    shown_HW = screenshot(place, "desktop-light.png", 1200, "--blink-settings=preferredColorScheme=1")
    assert shown_HW[:4, :4].mean() > 240
    assert shown_HW.std() > 15
    assert 0.01 < (shown_HW < 100).mean() < 0.3


def test_page_is_rendered_on_a_phone_in_dark_mode(place):
    """Read in the evening on the way home: dark paper, light words, and still all of it."""
    shown_HW = screenshot(place, "phone-dark.png", 360, "--blink-settings=preferredColorScheme=0")
    assert shown_HW[:4, :4].mean() < 40
    assert shown_HW.std() > 15
    assert 0.01 < (shown_HW > 150).mean() < 0.3


def test_a_page_is_printed(place):
    """Reviewers file paper."""
    browse(place, f"--print-to-pdf={place / 'page.pdf'}", "--no-pdf-header-footer")
    content = (place / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20


@pytest.mark.parametrize("width", [360, 1200])
def test_page_does_not_scroll_sideways(place, width):
    """On a phone only tables scroll sideways, within themselves; words in figures stay large enough to read."""
    (place / "measure.html").write_text(MEASURE % {"page": "index.html", "width": width})
    dom = browse(
        place, "--dump-dom", "--allow-file-access-from-files", f"--window-size={width + 40},900", page="measure.html"
    )
    found = json.loads(
        re.search(r'<pre id="out">(.+?)</pre>', dom, re.DOTALL)[1].replace("&lt;", "<").replace("&gt;", ">")
    )
    assert found["width"] == width
    assert found["content"] == width, found["wide"]
    assert not found["wide"]
    assert found["smallest"] >= 8
    assert found["styled"] == "1248px"  # the page's policy lets its own style in
    assert [name for name in found["fetched"] if not name.startswith("data:")] == []
    assert found["scroll"] or width > 360


def test_content_security_policy_blocks_injected_resources(place):
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
    text = (place / "index.html").read_text()
    try:
        for name, policy in (("with", True), ("without", False)):
            page = text if policy else re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
            (place / f"{name}.html").write_text(page.replace("<body>", slipped))
            dom = browse(place, "--dump-dom", page=f"{name}.html")
            assert ("<title>ran</title>" in dom) is not policy
            assert bool(asked) is not policy
    finally:
        server.shutdown()
        server.server_close()
