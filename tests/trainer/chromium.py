"""A headless Chromium, driven over its debugging pipe: one process that opens any number of pages, without a network."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-first-run"),
    *("--remote-debugging-pipe", "about:blank"),
)

_START = """import os, sys
for here, there in zip([os.dup(int(one)) for one in sys.argv[1:3]], (3, 4)):
    os.dup2(here, there)
    os.set_inheritable(there, True)
os.execv(sys.argv[3], sys.argv[3:])"""
"""The browser reads commands from descriptor 3 and writes answers to 4."""

_LOADED = """new Promise((done) => document.readyState === "complete" ? done(location.href)
  : addEventListener("load", () => done(location.href)))"""


class Chromium:
    """A connection to one page of the browser. Source: the Chrome DevTools Protocol, https://chromedevtools.github.io."""

    def __init__(self, to_browser: Any, from_browser: Any) -> None:
        self._to, self._from, self._number, self._session = to_browser, from_browser, 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, path: Path, *, width: int, height: int, dark: bool = False, media: str = "") -> None:
        """Load a file in a window of this size in CSS pixels."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Page.navigate", url=path.as_uri())  # answered when the new page has taken the place of the old one
        assert self.value(_LOADED) == path.as_uri()

    def value(self, script: str) -> Any:
        """Value of an expression in the page, which its policy does not hinder."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """PNG of the window, or of the whole page."""
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        return base64.b64decode(done["data"])

    def pdf(self) -> bytes:
        """The page in print, on A4."""
        done = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(done["data"])

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        while byte := self._from.read(1):
            if byte == b"\0":
                return json.loads(message)
            message += byte
        raise AssertionError("Chromium has ended")


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with its settings in this folder."""
    read_here, write_there = os.pipe()
    read_there, write_here = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _START,
            str(read_there),
            str(write_there),
            BROWSER,
            f"--user-data-dir={profile}",
            *_FLAGS,
        ],
        pass_fds=(read_there, write_there),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_there)
    os.close(write_there)
    try:
        with os.fdopen(write_here, "wb") as to_browser, os.fdopen(read_here, "rb") as from_browser:
            yield Chromium(to_browser, from_browser)
    finally:
        process.terminate()
        process.wait(timeout=30)
