"""Pages in headless Chromium: what it measures in them, which fonts lack a letter, and what it asks a network for."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["CHROMIUM", "Frame", "look", "needs_chromium", "printed"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")

FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1300,900",
)  # fmt: skip

MEASURING = r"""<script>document.fonts.ready.then(() => {
  const faults = [], say = (what, e) =>
    faults.push(what + " " + e.tagName + "." + e.className + " " + e.textContent.slice(0, 60));
  for (const d of document.querySelectorAll("details")) d.open = true;
  const visit = e => {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (style.display === "none" || e.matches(".unseen, .skip")) return;
    if (box.width && (box.right > innerWidth + 0.6 || box.left < -0.6)) say("beyond the window:", e);
    if (style.overflowX === "hidden" && e.scrollWidth > e.clientWidth + 1) say("cut off:", e);
    if (e.scrollWidth > e.clientWidth + 1 && style.overflowX === "visible" && !/inline|contents/.test(style.display)
        && !/^(svg|math|tbody|tr|thead)$/i.test(e.tagName)) say("spills out:", e);
    if (style.overflowX === "visible" && !/^(svg|math)$/i.test(e.tagName)) for (const child of e.children) visit(child);
  };
  visit(document.body);
  let formulas = 0;
  for (const m of document.querySelectorAll("math")) {
    const box = m.getBoundingClientRect();
    formulas += 1;
    if (!(box.width > 1 && box.height > 1)) say("an empty formula:", m);
    if (!getComputedStyle(m).fontFamily.includes("Report Math")) say("another font:", m);
  }
  for (const m of document.querySelectorAll("merror, code.latex")) say("not typeset:", m);
  for (const m of document.querySelectorAll("msqrt, mroot")) {
    const inside = [...m.children].reduce((w, c) => w + c.getBoundingClientRect().width, 0);
    if (m.getBoundingClientRect().width < inside + 3) say("a root without its sign:", m);
  }
  const canvas = document.createElement("canvas"), size = 40;
  canvas.width = canvas.height = size * 2;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const drawn = letter => {
    pen.clearRect(0, 0, size * 2, size * 2);
    pen.fillText(letter, size / 2, size * 1.4);
    const pixels = new Uint32Array(pen.getImageData(0, 0, size * 2, size * 2).data.buffer);
    return pixels.reduce((h, p) => (Math.imul(h, 31) + (p >>> 24)) | 0, 7);
  };
  const texts = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (/^(script|style|annotation)$/i.test(parent.tagName)) continue;
    const family = getComputedStyle(parent).fontFamily;
    if (!texts.has(family)) texts.set(family, new Set());
    for (const letter of walker.currentNode.data) texts.get(family).add(letter);
  }
  for (const [family, letters] of GLYPHS ? texts : []) {
    pen.font = size + "px " + family;
    const missing = new Set(["\u0378", "\u{10FFFD}"].map(drawn));
    const unseen = /[\s\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f]/;
    for (const letter of letters) if (!unseen.test(letter) && missing.has(drawn(letter)))
      faults.push("no glyph: U+" + letter.codePointAt(0).toString(16) + " in " + family.slice(0, 40));
  }
  parent.document.querySelector("pre").append(JSON.stringify({name: NAME, window: innerWidth, formulas,
    page: document.documentElement.scrollWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper: getComputedStyle(document.body).backgroundColor, faults: faults.slice(0, 20)}) + "\n");
});</script></body>"""


@dataclass(frozen=True)
class Frame:
    """A page at a width, dark or light; ``glyphs`` says that its letters are looked at."""

    name: str
    page: str
    width: int
    dark: bool = False
    glyphs: bool = False

    def __str__(self) -> str:
        # the page forbids scripts; this copy may run the one that measures, and may ask for what it likes
        copy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", self.page)
        script = MEASURING.replace("NAME", json.dumps(self.name)).replace("GLYPHS", str(self.glyphs).lower())
        scheme = "dark" if self.dark else "light"
        style = f"border:0;width:{self.width}px;height:700px;color-scheme:{scheme}"
        return f'<iframe style="{style}" srcdoc="{html.escape(copy.replace("</body>", script), quote=True)}"></iframe>'


def run(folder: Path, path: Path, *more: str) -> str:
    """Chromium's answer; a fresh profile each time."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    profile = folder / f"profile-{len(list(folder.iterdir()))}"
    command = [str(CHROMIUM), *FLAGS, *root, f"--user-data-dir={profile}", *more, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


def look(folder: Path, frames: list[Frame]) -> tuple[dict[str, dict], list[str]]:
    """What was measured in each frame, by name, and every address that a page asked for."""
    path, log = folder / "frames.html", folder / "net.json"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><pre></pre>{''.join(map(str, frames))}", encoding="utf-8")
    out = run(folder, path, f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom")
    found = [json.loads(line) for line in html.unescape(out.partition("<pre>")[2].partition("</pre>")[0]).splitlines()]
    if not found:
        pytest.skip("the browser does not start here")
    return {result["name"]: result for result in found}, asked(log)


def asked(log: Path) -> list[str]:
    """The addresses that pages asked for; what the browser asks for itself has no origin."""
    data = json.loads(log.read_text(encoding="utf-8"))
    kind = data["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = (event["params"] for event in data["events"] if event["type"] == kind and "params" in event)
    return [job["url"] for job in jobs if job.get("initiator", "not an origin") != "not an origin"]


def printed(folder: Path, page: str) -> bytes:
    """A page as Chromium prints it, a PDF."""
    path, out = folder / "page.html", folder / "page.pdf"
    path.write_text(page, encoding="utf-8")
    run(folder, path, "--no-pdf-header-footer", f"--print-to-pdf={out}")
    if not out.exists():
        pytest.skip("the browser does not print here")
    return out.read_bytes()
