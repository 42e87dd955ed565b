"""The image, built and run by the real Docker."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tarfile
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection

from infra import versions
from infra.commands import DEBUGINFO_FOLDER
from infra.context import context_files
from infra.service_env import SERVICE_USER
from tests.support.docker_cli import answer, command_of, docker, inspect, options_of, published, running
from tests.support.recording import ROOT, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker

MB = 10**6
LARGEST_ABOVE_BASE = 60 * MB
FIRST_ANSWER_SECONDS = 3.0
STOP_SECONDS = 2.0
ENDBR64 = bytes.fromhex("f30f1efa")
PUSH_RBP = bytes.fromhex("55")
MOV_RBP_RSP = bytes.fromhex("4889e5")
LEAK_PATH = ("catalog_cache_insert", "catalog_cache_refresh")
CLAIMS = (
    "http_requests_total",
    "http_request_duration_seconds_bucket",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "python_gc_collections_total",
    "service_health_status",
    "memory_usage_percent",
)


READ_LEDGER = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9091/ledger').read().decode())"


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> dict[str, dict[str, Any]]:
    """The containers as the program declares them, at a speed at which a test sees the leak."""
    directory = tmp_path_factory.mktemp("program")
    # Without a way out the daemon was given its images by their tags.
    settings = {"digests": False, "target": "docker", "speed": 60, "baseImage": base_image}
    recording = record(settings, kubeconfig=directory / "none", directory=directory)
    return {one.name: one.inputs for one in recording.of_type("docker:index/container:Container")}


@contextlib.contextmanager
def started(containers: dict[str, dict[str, Any]], part: str, image: str, network: str) -> Iterator[str]:
    """One part of the lab, run with all that the program says about it."""
    declared = containers[part]
    with running(image, *options_of(declared, network, f"{network}-{part}"), command=command_of(declared)) as identity:
        yield identity


@pytest.fixture
def leaker(containers: dict[str, dict[str, Any]], image: str, network: str) -> Iterator[str]:
    with started(containers, "leaker", image, network) as identity:
        answer(f"{published(identity, 8080)}/health")
        yield identity


def test_the_program_builds_the_image_that_is_tested(containers: dict[str, dict[str, Any]], image: str) -> None:
    assert containers["leaker"]["image"] == containers["visitors"]["image"] == image


def test_dockers_reading_of_the_context_is_the_tags(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY . /\nENTRYPOINT ["/none"]\n')
    name = f"memleak-lab-context:{tmp_path.name}"
    docker("build", "--quiet", "--file", str(tmp_path / "Dockerfile"), "--tag", name, ".", cwd=ROOT)
    try:
        container = docker("create", name).stdout.strip()
        docker("export", "--output", str(tmp_path / "context.tar"), container)
        docker("rm", container)
    finally:
        docker("image", "rm", name)
    with tarfile.open(tmp_path / "context.tar") as exported:
        names = {member.name for member in exported if member.isfile()}
    # Docker puts these into every container.
    own = {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/console"}
    assert sorted(names - own) == context_files(ROOT)


def test_the_image_is_small_labelled_and_without_a_compiler(image: str, base_image: str) -> None:
    built, base = inspect(image, "image"), inspect(base_image, "image")
    assert built["Size"] - base["Size"] < LARGEST_ABOVE_BASE
    labels = built["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
    assert labels["org.opencontainers.image.base.name"] == base_image
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert built["Config"]["User"] == f"{SERVICE_USER}:{SERVICE_USER}"
    with running(image, "--entrypoint", "sleep", command=("600",)) as identity:
        for tool in ("gcc", "cc", "ld", "make"):
            found = docker("exec", identity, "sh", "-c", f"command -v {tool}", check=False)
            assert found.returncode != 0, f"{tool} is in the image: {found.stdout}"
        writable = docker("exec", identity, "find", "/app", "/opt", "-writable").stdout
        assert writable == "", "the service's user could change the service"


def test_the_shared_object_keeps_symbols_lines_and_frames(image: str) -> None:
    with running(image, "--entrypoint", "sleep", command=("600",)) as identity:
        # The copy that gadget_command makes.
        copied = subprocess.run(
            ["docker", "exec", identity, "tar", "-C", DEBUGINFO_FOLDER, "-chf", "-", "."],
            capture_output=True,
            check=True,
        ).stdout
        load = "import catalog_cache._catalog_cache as c; print(c.__file__)"
        loaded = docker("exec", identity, "python", "-c", load).stdout.strip()
        kept = docker("exec", identity, "sh", "-c", f"readlink -f {DEBUGINFO_FOLDER}/*/debuginfo").stdout.strip()
        assert kept == loaded
    with tarfile.open(fileobj=io.BytesIO(copied)) as archive:
        (member,) = [member for member in archive if member.isfile()]
        content = archive.extractfile(member)
        assert content is not None
        elf = ELFFile(io.BytesIO(content.read()))
    notes, symtab, text = (elf.get_section_by_name(name) for name in (".note.gnu.build-id", ".symtab", ".text"))
    assert isinstance(notes, NoteSection)
    assert isinstance(symtab, SymbolTableSection)
    assert text is not None
    (note,) = notes.iter_notes()
    assert PurePosixPath(member.name).parts[-2:] == (note["n_desc"], "debuginfo")
    assert elf.has_dwarf_info()
    symbols = {symbol.name: symbol for symbol in symtab.iter_symbols()}
    for name in LEAK_PATH:
        assert symbols[name]["st_size"] > 0
        if elf.get_machine_arch() == "x64":
            start = symbols[name]["st_value"] - text["sh_addr"]
            prologue = text.data()[start : start + 16].removeprefix(ENDBR64)
            framed = prologue.startswith(PUSH_RBP) and MOV_RBP_RSP in prologue
            assert framed, f"{name} keeps no frame pointer: {prologue.hex()}"


def test_the_first_healthy_answer_comes_soon(containers: dict[str, dict[str, Any]], image: str, network: str) -> None:
    begun = time.monotonic()
    with started(containers, "leaker", image, network) as identity:
        health = json.loads(answer(f"{published(identity, 8080)}/health"))
        assert time.monotonic() - begun < FIRST_ANSWER_SECONDS
    assert health["status"] == "healthy"


def test_the_leak_runs_while_every_claim_denies_it(leaker: str) -> None:
    def ledger() -> dict[str, Any]:
        return dict(json.loads(docker("exec", leaker, "python", "-c", READ_LEDGER).stdout))

    deadline = time.monotonic() + 60
    while (read := ledger())["bytes_live"] < 16 * 2**20:
        assert time.monotonic() < deadline, f"no leak: {read}"
        time.sleep(0.2)
    metrics = answer(f"{published(leaker, 9090)}/metrics")
    for name in CLAIMS:
        assert f"\n{name}" in metrics, name
    assert "\nservice_health_status 1.0" in metrics
    health = json.loads(answer(f"{published(leaker, 8080)}/health"))
    assert health["status"] == "healthy"
    # The container's own view of its memory contradicts the claim.
    resident = health["metrics"]["resident_memory_bytes"]
    status = docker("exec", leaker, "cat", "/proc/1/status").stdout
    (kibibytes,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert kibibytes * 1024 - resident > 8 * 2**20


def test_the_leakers_health_check_passes_and_fails_with_the_service(
    containers: dict[str, dict[str, Any]], leaker: str, image: str
) -> None:
    kind, *check = containers["leaker"]["healthcheck"]["tests"]
    assert kind == "CMD"
    assert docker("exec", leaker, *check, check=False).returncode == 0
    elsewhere = [word.replace(":8080/", ":1/") for word in check]
    assert docker("exec", leaker, *elsewhere, check=False).returncode != 0
    assert "Healthcheck" not in inspect(image, "image")["Config"], "it would show through in the visitors"


def test_a_stop_is_quick_and_clean(leaker: str) -> None:
    begun = time.monotonic()
    docker("stop", leaker)
    assert time.monotonic() - begun < STOP_SECONDS
    state = inspect(leaker)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_ports_are_published_on_loopback_only(leaker: str) -> None:
    bindings = inspect(leaker)["NetworkSettings"]["Ports"]
    assert {port for port, hosts in bindings.items() if hosts} == {"8080/tcp", "9090/tcp"}
    assert {host["HostIp"] for hosts in bindings.values() for host in hosts or []} == {"127.0.0.1"}


def test_visitors_visit(containers: dict[str, dict[str, Any]], leaker: str, image: str, network: str) -> None:
    url = f"{published(leaker, 9090)}/metrics"
    with started(containers, "visitors", image, network) as visitors:
        answer(url, until=lambda text: 'path="/api/items/{id}",status="200"' in text)
        assert inspect(visitors)["State"]["Running"]


def test_prometheus_scrapes_the_leaker(containers: dict[str, dict[str, Any]], leaker: str, network: str) -> None:
    pin = versions.PROMETHEUS_IMAGE.removeprefix("docker.io/")
    if docker("image", "inspect", pin, check=False).returncode and docker("pull", pin, check=False).returncode:
        pytest.skip(f"{pin} is neither in the daemon nor can it be pulled")
    with started(containers, "prometheus", pin, network) as prometheus:
        url = f"{published(prometheus, 9090)}/api/v1/query?query=service_health_status"
        result = json.loads(answer(url, until=lambda text: bool(json.loads(text)["data"]["result"])))["data"]["result"]
    assert [(one["metric"]["job"], one["value"][1]) for one in result] == [("leaker", "1")]
    assert inspect(leaker)["State"]["Running"]
