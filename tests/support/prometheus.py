"""Start the real Prometheus on a folder of its own, and ask it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

WITHOUT_PROMETHEUS = "needs prometheus (3.x) on the PATH"


@dataclass(frozen=True)
class Sample:
    """One series' labels and its value at a moment."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """A running server's HTTP API."""

    def __init__(self, address: str) -> None:
        # No certificates are needed, and to load them takes longer than the queries.
        self._http = httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, verify=False, timeout=20)

    def close(self) -> None:
        self._http.close()

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - as the API answers
        answer = self._http.get(path, params=parameters)
        body = answer.json()
        assert body["status"] == "success", f"{path} {parameters}: {body.get('error')}"
        return body["data"]

    def instant(self, expr: str, at: float | None = None) -> list[Sample]:
        """The expression's value at a time, now by default."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        data = self.ask("/query", query=expr, **moment)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in data["result"]]

    def over(self, expr: str, start: float, end: float, step: float = 1) -> list[tuple[Mapping[str, str], list[float]]]:
        """Every series of the expression over a time."""
        data = self.ask("/query_range", query=expr, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:g}")
        return [(series["metric"], [float(value) for _, value in series["values"]]) for series in data["result"]]

    def syntax(self, expr: str) -> dict[str, Any]:
        """The expression's syntax tree, as the server's own parser sees it."""
        tree: dict[str, Any] = self.ask("/parse_query", query=expr)
        return tree

    def await_targets(self, seconds: float = 20) -> None:
        """Wait until every target answered its last scrape; say which did not."""

        def down() -> list[str]:
            targets = self.ask("/targets")["activeTargets"]
            return [f"{each['scrapeUrl']}: {each['lastError']}" for each in targets if each["health"] != "up"]

        wait_until(lambda: not down(), "every target answers its scrapes", seconds)


@contextlib.contextmanager
def running_prometheus(
    folder: Path, jobs: Sequence[Mapping[str, object]], rule_files: Mapping[str, str], scrape_seconds: int = 1
) -> Iterator[Prometheus]:
    """Prometheus with these scrape jobs and rules; ready when this yields."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip(WITHOUT_PROMETHEUS)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rule_files.items():
        (folder / name).write_text(text)
    config = {
        "global": {"scrape_interval": f"{scrape_seconds}s", "scrape_timeout": f"{scrape_seconds}s"},
        "rule_files": sorted(rule_files),
        "scrape_configs": list(jobs),
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    client = Prometheus(address)
    try:
        wait_until(lambda: _ready(process, address, folder / "log"), "Prometheus is ready")
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def _ready(process: subprocess.Popen[bytes], address: str, log: Path) -> bool:
    assert process.poll() is None, f"Prometheus ended: {log.read_text()[-2000:]}"
    try:
        return httpx.get(f"http://{address}/-/ready", trust_env=False, verify=False).status_code == 200
    except httpx.TransportError:
        return False
