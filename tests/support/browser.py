"""A real browser without a window: Chromium, driven over the W3C's WebDriver protocol by its own chromedriver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from types import TracebackType

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"

# What WebDriver calls an element, in JSON.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

OPTIONS = [
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, for whom Chromium has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1280,1600",
    # The browser's own errands, which are not the page's.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str:
    """The path of a browser; "" where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


def missing_browser() -> str:
    """What is missing for it: "" where nothing is."""
    if not find_browser():
        return f"none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium chromium-driver)"
    return "" if shutil.which(DRIVER) else f"{DRIVER} is not installed (Debian: apt-get install chromium-driver)"


class Browser:
    """One browser. Use it as a context manager: it and its driver end with it.

    Args:
        dark: as a system that prefers dark pages.
    """

    def __init__(self, *, dark: bool = False) -> None:
        self._dark = dark

    def __enter__(self) -> Self:
        # Not a test's own folder, whose path is too long for the sockets that it makes there.
        self._kept = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        folder = Path(self._kept.name)
        log = folder / "chromedriver.log"
        with log.open("w") as output:
            self._driver = subprocess.Popen(
                [DRIVER, "--port=0"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
                start_new_session=True,
            )
        self._client: httpx.Client | None = None
        try:
            port = wait_until(lambda: self._port(log.read_text()), "chromedriver listens")
            self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SECONDS, trust_env=False)
            blink = ["--blink-settings=preferredColorScheme=0"] if self._dark else []
            wanted = {
                "goog:chromeOptions": {
                    "binary": find_browser(),
                    "args": [*OPTIONS, *blink, f"--user-data-dir={folder / 'profile'}"],
                },
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            self._session = ""
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{session['sessionId']}"
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            self._ask("DELETE", "", None)
        self._end()

    def open(self, path: Path) -> None:
        """Open a file, and forget what was logged before."""
        self.console()
        self.requests()
        self._ask("POST", "/url", {"url": path.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """The value that a script in the page returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> Any:  # noqa: ANN401
        """The value of a script as soon as it is true."""
        return wait_until(lambda: self.run(script, *arguments), script)

    def click(self, script: str) -> None:
        """Click, as a person does, on the element that a script returns: it has to be in view and on top."""
        element = self.wait(script)[ELEMENT]
        self._ask("POST", f"/element/{element}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        element = self._ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._ask("POST", f"/element/{element}/value", {"text": text})

    def console(self) -> list[str]:
        """What was said on the console since the last time: warnings and errors, of the page or about it."""
        return [
            f"{line['level']}: {line['message']}"
            for line in self._ask("POST", "/se/log", {"type": "browser"})
            if line["level"] in {"WARNING", "SEVERE"}
        ]

    def requests(self) -> list[str]:
        """The addresses that this page has asked for since the last time, its own among them.

        As the browser's network service has them, without those of the browser's start page.
        """
        page = self.run("return location.href")
        lines = self._ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(line["message"])["message"] for line in lines]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent" and message["params"]["documentURL"] == page
        ]

    @staticmethod
    def _port(log: str) -> int:
        """The port that chromedriver says it has chosen; 0 before it says so."""
        _, found, rest = log.partition("successfully on port ")
        return int(rest.partition(".")[0]) if found and "." in rest else 0

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:  # noqa: ANN401
        assert self._client
        prefix = self._session
        answer = self._client.request(method, prefix + path, json=body)
        value = answer.json()["value"]
        assert answer.status_code == 200, f"{path}: {value}"
        return value

    def _end(self) -> None:
        """End the driver and, where it did not, the browser: they are a process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._driver.pid, signal.SIGKILL)
        self._driver.wait()
        if self._client:
            self._client.close()
        self._kept.cleanup()
