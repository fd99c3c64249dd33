"""A headless Chromium for tests of pages. It takes DevTools commands over a pipe."""

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

# Every displayed node, also below shadow roots and in frames.
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
    """A page of a browser, as a context manager.

    Args:
        folder: An empty folder for its profile.
        size: Width and height of the page, in pixels.
    """

    def __init__(self, folder: Path, *, size: tuple[int, int] = (1400, 1000)):
        # Chromium reads commands from descriptor 3 and writes responses to descriptor 4. The pipes
        # have higher descriptors, so that `exec` does not overwrite an open end.
        command_end, self._out, self._in, response_end = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())
        )
        command = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu-sandbox",
            "--enable-unsafe-swiftshader",
            "--hide-scrollbars",
        ]
        command += [
            f"--user-data-dir={folder}",
            f"--window-size={size[0]},{size[1]}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{command_end} 4>&{response_end}', "bash", *command],
            pass_fds=(command_end, response_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(response_end)
        self._count, self._received, self._session = 0, b"", {}
        targets = self.call("Target.getTargets")["targetInfos"]
        (page,) = [target for target in targets if target["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
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
        """Return the result of a command of the DevTools protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters} | self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            response = self._read_message()
            if response.get("id") == self._count:
                assert "error" not in response, response
                return response["result"]

    def _read_message(self) -> dict:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._in], [], [], 60)
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser sent no response within 60 s"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression."""
        response = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in response, response["exceptionDetails"]
        return response["result"].get("value")

    def text(self) -> str:
        """Return the text that the page displays."""
        is_text = "node => node.nodeType === Node.TEXT_NODE && node.data.trim()"
        texts = self.evaluate(f"{NODES}.filter({is_text}).map(node => node.data.trim())")
        return " ".join(texts)

    def all(self, selector: str, expression: str) -> list:
        """Return the values of a JavaScript expression for the displayed nodes of a CSS selector.

        Args:
            selector: The CSS selector.
            expression: An expression of `node`, such as `node.clientWidth`.
        """
        is_element = "node.nodeType === Node.ELEMENT_NODE"
        matches = f"node => {is_element} && node.matches({json.dumps(selector)})"
        return self.evaluate(f"{NODES}.filter({matches}).map(node => {expression})")

    def open(self, url: str, *words: str) -> None:
        """Open a page, and wait until it displays all `words`."""
        # A URL that differs only in its fragment would not load the page again.
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

        def missing() -> list[str]:
            text = self.text()
            return [word for word in words if word not in text]

        self.until(lambda: not missing(), lambda: f"{missing()} is missing in {self.text()[:3000]}")

    def until(
        self, is_true: Callable[[], bool], describe: Callable[[], object], *, seconds: float = 30
    ) -> None:
        """Wait until a condition is true.

        Args:
            is_true: The condition.
            describe: Returns the text of the error if the condition stays false.
            seconds: The longest wait.
        """
        deadline = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < deadline, describe()
            time.sleep(0.2)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the page, as PNG."""
        screenshot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(screenshot["data"]))
