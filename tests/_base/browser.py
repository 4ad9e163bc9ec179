"""Headless Chromium, where it is installed: a page, a script that uses it, and what the page says afterwards."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = [pytest.mark.page, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


class Elements(HTMLParser):
    """Counts tags and collects scripts and attributes, as a browser's parser would find them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts, self.attributes, self.root = [], [], [], []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.root = self.root or attrs
        self.attributes += attrs
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._script = self._script and tag != "script"

    def handle_data(self, data):
        if self._script:
            self.scripts[-1] += data


_WAIT = """
<script>
const whole = document.documentElement;
addEventListener("securitypolicyviolation", event => { whole.dataset.blocked = event.violatedDirective; });
(function wait() {
  if (whole.dataset.ready !== "true") return setTimeout(wait, 20);
  const $$ = selector => [...document.querySelectorAll(selector)], out = {};
  const press = (node, key) =>
    node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  %s
  whole.dataset.result = JSON.stringify(out);
  if (parent !== window) parent.postMessage({ root: { ...whole.dataset }, dom: whole.outerHTML }, "*");
})();
</script></body>"""

_NARROWEST = 500  # headless Chromium makes no window narrower than this
_FRAME = """<!doctype html><html><body><iframe src="page.html" width="%d" height="900"></iframe><pre></pre><script>
addEventListener("message", ({ data }) => {
  Object.assign(document.documentElement.dataset, data.root);
  document.querySelector("pre").textContent = data.dom;
});
</script></body></html>"""


def use(
    text: str, folder: Path, script: str, width: int = 1400
) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Opens a page from disk, waits for its charts, runs a script that fills `out`.

    Returns `out`, the document afterwards and the attributes of its root. Fails if the page logged anything, raised, or
    asked for what its content security policy forbids.
    """
    file = folder / "page.html"
    file.write_text(text.replace("</body>", _WAIT % script), encoding="utf-8")
    shown = file
    if width < _NARROWEST:
        shown = folder / "frame.html"
        shown.write_text(_FRAME % width, encoding="utf-8")
    dom, log = dump(shown.as_uri(), folder, width)
    root = root_of(dom)
    if shown is not file:
        dom = html.unescape(dom.partition("<pre>")[2].partition("</pre>")[0])
    assert "data-errors" not in root, root["data-errors"]
    assert "data-blocked" not in root, root["data-blocked"]
    assert not [line for line in log.splitlines() if "CONSOLE" in line], log
    return json.loads(root["data-result"]), dom, root


def root_of(dom: str) -> dict[str, str]:
    """The attributes of a document's root, in which a page says how it went."""
    return {name: value or "" for name, value in Elements(dom[:10_000]).root}


def dump(url: str, folder: Path, width: int = 1400, budget: int | None = 30_000) -> tuple[str, str]:
    """(the document once it has settled, what the browser logged). budget: of virtual time, in milliseconds."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
        *([f"--virtual-time-budget={budget}"] if budget else ["--timeout=20000"]), "--dump-dom", url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    return done.stdout, done.stderr
