"""A headless Chromium that tests look at pages with, spoken to over a pipe by the DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

# Every node that is displayed, those below shadow roots and in frames as well.
NODES = """(() => {
  const nodes = [];
  const walk = node => {
    if (['STYLE', 'SCRIPT', 'NOSCRIPT', 'TEMPLATE'].includes(node.tagName)) return;
    if (node.nodeType === Node.ELEMENT_NODE && getComputedStyle(node).display === 'none') return;
    nodes.push(node);
    if (node.tagName === 'IFRAME' && node.contentDocument?.body) walk(node.contentDocument.body);
    if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
    node.childNodes.forEach(walk);
  };
  if (document.body) walk(document.body);
  return nodes;
})()"""


class Browser:
    """One page of a browser; a context manager.

    Args:
        folder: An empty folder for its profile.
        size: Width and height of the page, in pixels.
    """

    def __init__(self, folder: Path, *, size: tuple[int, int] = (1400, 1000)):
        # It reads commands from descriptor 3 and answers on 4: ours are higher, so that neither stands in the other's way.
        to_it, self._out, self._in, from_it = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())
        )
        words = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu-sandbox",
            "--enable-unsafe-swiftshader",
            "--hide-scrollbars",
        ]
        words += [
            f"--user-data-dir={folder}",
            f"--window-size={size[0]},{size[1]}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_it} 4>&{from_it}', "bash", *words],
            pass_fds=(to_it, from_it),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it)
        os.close(from_it)
        self._count, self._held, self._session = 0, b"", {}
        (page,) = [
            one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        ]
        self._session = {
            "sessionId": self.call(
                "Target.attachToTarget", targetId=page["targetId"], flatten=True
            )["sessionId"]
        }
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=False,
        )

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **parameters) -> dict:
        """Return the answer to a command of the DevTools protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters} | self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self) -> dict:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._in], [], [], 60)
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._held += part
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """Return the words that the page shows."""
        words = f"{NODES}.filter(node => node.nodeType === Node.TEXT_NODE && node.data.trim()).map(node => node.data.trim())"
        return " ".join(self.evaluate(words))

    def all(self, selector: str, expression: str) -> list:
        """Return a JavaScript expression of every displayed `node` that a CSS selector fits, such as `node.clientWidth`."""
        fitting = f"{NODES}.filter(node => node.nodeType === Node.ELEMENT_NODE && node.matches({json.dumps(selector)}))"
        return self.evaluate(f"{fitting}.map(node => {expression})")

    def open(self, url: str, *words: str) -> None:
        """Go to a page, and wait until it shows all of some words."""
        self.call(
            "Page.navigate", url="about:blank"
        )  # another fragment alone would not load it again
        self.call("Page.navigate", url=url)

        def missing() -> list[str]:
            shown = self.text()
            return [word for word in words if word not in shown]

        self.until(
            lambda: not missing(), lambda: f"{missing()} is not shown; {self.text()[:3000]} is"
        )

    def until(
        self, holds: Callable[[], bool], told: Callable[[], object], *, seconds: float = 30
    ) -> None:
        """Wait until something holds.

        Args:
            holds: What is asked again and again.
            told: What stands in the error when it does not hold in time.
            seconds: How long.
        """
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, told()
            time.sleep(0.2)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the page, as PNG."""
        path.write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        )
