"""Third-party images by tag and digest: `make pins` asks a registry, and what it found is what the stack declares."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from infra import commands, versions
from infra.pins import MOST_BYTES, PinError, download_sum, image_digest, main
from tests.infra.cases import MIRROR
from tests.support.ports import free_port
from tests.support.recording import text_of
from tests.support.registry import MANIFEST, Registry, image_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.infra.conftest import Record

TAG = "prom/prometheus:v3.13.0"
DIGESTS = {image: f"sha256:{hashlib.sha256(image.encode()).hexdigest()}" for image in versions.IMAGES}


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that has each of the program's images under its own path, for two processors."""
    tags = {image.partition("/")[2]: image_index("amd64", "arm64", image) for image in versions.IMAGES}
    with Registry(tags, files={"/SHA256SUMS": b"0  a\n"}).serving() as serving:
        yield serving


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pins.json"
    path.write_text('{"downloads": {}, "images": {}}\n')
    return path


def pins(registry: Registry, file: Path, *words: str) -> int:
    url = f"http://{registry.address}/SHA256SUMS"
    return main(["--mirror", registry.address, *words], file=file, downloads=[url])


def test_every_tag_is_resolved_to_the_digest_of_what_its_registry_sends(registry: Registry, file: Path) -> None:
    assert pins(registry, file) == 0
    written = json.loads(file.read_text())
    assert written["images"] == {image: registry.digest(image.partition("/")[2]) for image in versions.IMAGES}
    assert written["downloads"] == {f"http://{registry.address}/SHA256SUMS": hashlib.sha256(b"0  a\n").hexdigest()}


def test_a_registry_that_gives_tokens_to_anybody_is_asked_for_one(registry: Registry) -> None:
    registry.secured = True
    assert image_digest(f"{registry.address}/{TAG}") == registry.digest(TAG)
    assert [path for path in registry.asked if path.startswith("/token?")]


def test_a_tag_that_was_moved_is_noticed(registry: Registry, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pins(registry, file, "--check") == 1, "nothing is known yet"
    assert pins(registry, file) == 0
    assert pins(registry, file, "--check") == 0
    before = file.read_text()
    old = registry.digest(TAG)
    registry.tags[TAG] = image_index("amd64", "arm64", "riscv64")
    capsys.readouterr()
    assert pins(registry, file, "--check") == 1
    changed = [line for line in capsys.readouterr().out.splitlines() if not line.endswith("(same)")]
    assert changed == [f"docker.io/{TAG} {registry.digest(TAG)} (was {old})"]
    assert file.read_text() == before


def test_nothing_is_written_unless_all_is_known(
    registry: Registry, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text()
    del registry.tags[TAG]
    registry.tags["grafana/grafana:13.2.3"] = image_index("amd64", kind=MANIFEST)
    assert pins(registry, file) == 1
    assert file.read_text() == before
    said = capsys.readouterr().err
    assert f"{TAG}: the server's answer is 404" in said
    assert "grafana/grafana:13.2.3: application/vnd.oci.image.manifest.v1+json is no list of images" in said


def test_what_a_registry_says_of_its_bytes_has_to_be_true(registry: Registry) -> None:
    registry.lies = True
    with pytest.raises(PinError, match=r"the registry says 'sha256:[0-9a-f]+', and what it sent is sha256:"):
        image_digest(f"{registry.address}/{TAG}")


def test_a_server_that_is_not_there_or_sends_too_much_is_named(registry: Registry) -> None:
    with pytest.raises(PinError, match=r"^127\.0\.0\.1:\d+/a:v1: 127\.0\.0\.1:\d+ does not answer: "):
        image_digest(f"127.0.0.1:{free_port()}/a:v1")
    registry.files["/SHA256SUMS"] = bytes(MOST_BYTES + 1)
    with pytest.raises(PinError, match="more than 4 MiB"):
        download_sum(f"http://{registry.address}/SHA256SUMS")


def test_the_file_holds_digests_of_what_the_program_names_and_of_nothing_else() -> None:
    assert versions.IMAGE_DIGESTS.keys() <= set(versions.IMAGES), "make pins"
    assert versions.DOWNLOAD_SUMS.keys() <= set(versions.DOWNLOADS), "make pins"
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in versions.IMAGE_DIGESTS.values())
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in versions.DOWNLOAD_SUMS.values())


def images(record: Record, **settings: object) -> Mapping[str, str]:
    """The digest, or nothing, by which the program names each third-party image, by repository and tag."""
    recording = record("kind", **settings)
    text = text_of([one.inputs for one in recording.declared]) + text_of(recording.outputs)
    pattern = r"((?:docker\.io|ghcr\.io|mirror\.example\.com)/[\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?"
    found: dict[str, set[str]] = {}
    for name, digest in re.findall(pattern, text):
        found.setdefault(name, set()).add(digest)
    assert all(len(digests) == 1 for digests in found.values()), found
    return {name: digests.pop() for name, digests in found.items()}


@pytest.mark.parametrize("target", ["kubernetes", "docker"])
def test_every_image_is_named_by_its_digest_once_that_is_known(
    target: str, recorded_afresh: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.versions.IMAGE_DIGESTS", DIGESTS)
    known = {name: f"@{digest}" for name, digest in DIGESTS.items()}
    named = images(recorded_afresh, target=target)
    assert len(named) >= 4
    assert named == {name: known[name] for name in named}
    mirrored = images(recorded_afresh, target=target, mirror=MIRROR)
    assert mirrored.items() >= {(f"{MIRROR}/{name.partition('/')[2]}", digest) for name, digest in named.items()}
    if target == "kubernetes":
        # On plain Docker the daemon says which digest it pulled.
        assert set(images(recorded_afresh, digests=False).values()) == {""}


def test_the_base_image_and_the_gadgets_daemon_have_theirs(
    recorded_afresh: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.versions.IMAGE_DIGESTS", DIGESTS)
    recording = recorded_afresh("kind")
    (image,) = recording.of_type("docker:index/image:Image")
    base = image.inputs["build"]["args"]["BASE_IMAGE"]
    assert base == f"python:3.13-slim-trixie@{DIGESTS[versions.BASE_IMAGE]}"
    (release,) = recording.of_type("kubernetes:helm.sh/v3:Release")
    daemon = release.inputs["values"]["image"]
    assert f"{daemon['repository']}:{daemon['tag']}" == f"{versions.GADGET_IMAGE}@{DIGESTS[versions.GADGET_IMAGE]}"
    # A chart in a folder is of a version of its own.
    (release,) = recorded_afresh("kind", gadgetChart="./chart").of_type("kubernetes:helm.sh/v3:Release")
    assert "tag" not in release.inputs["values"]["image"]


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Registry, Path]]:
    """A release with its checksums, and a folder of commands in which sudo only says what it would run."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("ig"))
    names = [f"{program}-linux-{cpu}-v{versions.GADGET_VERSION}.tar.gz" for program in ("ig", "kubectl-gadget")
             for cpu in ("amd64", "arm64")]  # fmt: skip
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    files = {f"/release/{name}": packed.getvalue() for name in names}
    files["/release/SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name in names).encode()
    (tmp_path / "sudo").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with Registry(files=files).serving() as serving:
        monkeypatch.setattr(versions, "GADGET_CHECKSUMS", f"http://{serving.address}/release/SHA256SUMS")
        yield serving, tmp_path


def run_install(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", commands.install_ig()]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=folder, env={"PATH": f"{folder}:/usr/bin:/bin"}
    )


def test_a_client_is_installed_if_its_archive_is_the_releases(archive: tuple[Registry, Path]) -> None:
    registry, folder = archive
    done = run_install(folder)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"tar -C /usr/local/bin -xzf ig-linux-\w+-v[\d.]+\.tar\.gz ig\n", done.stdout)
    for path in registry.files:
        if path.endswith(".gz"):
            registry.files[path] += b"!"
    done = run_install(folder)
    assert done.returncode != 0
    assert done.stdout.count("tar -C") == 0


def test_the_releases_checksums_are_those_that_make_pins_noted(
    archive: tuple[Registry, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, folder = archive
    known = hashlib.sha256(registry.files["/release/SHA256SUMS"]).hexdigest()
    monkeypatch.setattr(versions, "DOWNLOAD_SUMS", {versions.GADGET_CHECKSUMS: known})
    assert run_install(folder).returncode == 0
    registry.files["/release/SHA256SUMS"] += b"\n"
    done = run_install(folder)
    assert done.returncode != 0
    assert done.stdout.count("tar -C") == 0
