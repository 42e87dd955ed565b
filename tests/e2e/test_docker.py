"""The life of a stack on plain Docker. What only Docker's own provider can show is marked: see docs/INSTALL.md."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from infra import versions
from infra.references import mirrored
from infra.settings import DEFAULTS
from tests.e2e.conftest import REGISTRY, WITH_GRAFANA, has_the_real_docker_provider, living, switch
from tests.support.docker_cli import docker, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Life

pytestmark = [pytest.mark.pulumi, pytest.mark.docker, pytest.mark.timeout(900)]

NAME = "memleak-lab-e2e-docker"
BASE_IMAGE = switch("BASE_IMAGE", DEFAULTS["baseImage"])
WITH_A_SHELL = f"""
FROM {BASE_IMAGE}
COPY --from={{image}} /bin/prometheus /bin/promtool /bin/
USER 65534
ENTRYPOINT ["/bin/prometheus"]
"""
PASSWORD = "correct horse battery staple"
PARTS = {"leaker", "visitors", "prometheus", *(["grafana"] if WITH_GRAFANA else [])}
real_provider = pytest.mark.skipif(
    not has_the_real_docker_provider(), reason="Docker's provider is a stand-in, which compares no containers"
)


def mirror(image: str) -> None:
    """Put a third-party image into the test's own registry, as one that can be removed here and pulled from there."""
    local = image.removeprefix("docker.io/")
    if docker("image", "inspect", local, check=False).returncode and docker("pull", local, check=False).returncode:
        pytest.skip(f"{local} is neither in the daemon nor can it be pulled")
    # The stand-in's health checks go through a shell, which an image of Prometheus alone has not got.
    shell = image == versions.PROMETHEUS_IMAGE and not has_the_real_docker_provider()
    text = (WITH_A_SHELL if shell else "FROM {image}\nLABEL memleak-lab.test=mirrored\n").format(image=local)
    name = mirrored(image, REGISTRY)
    command = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(command, input=text, text=True, capture_output=True, check=True)
    docker("push", "--quiet", name)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    for image in (BASE_IMAGE, versions.PROMETHEUS_IMAGE, *([versions.GRAFANA_IMAGE] if WITH_GRAFANA else [])):
        mirror(image)
    settings = {
        "target": "docker",
        "namespace": NAME,
        "imageName": NAME,
        "mirror": REGISTRY,
        # What the mirror has under these tags was made by this test.
        "digests": "false",
        "buildNetwork": switch("BUILD_NETWORK", ""),
        "baseImage": BASE_IMAGE,
        "grafana": str(WITH_GRAFANA).lower(),
        "capMiB": "300",
    }
    with living(tmp_path_factory.mktemp("docker"), "e2e-docker", settings) as life:
        yield life


def test_up_brings_a_healthy_lab(life: Life) -> None:
    life.up()
    for part in PARTS:
        state = inspect(f"{NAME}-{part}")["State"]
        assert state["Running"], part
        assert state.get("Health", {}).get("Status") == (None if part == "visitors" else "healthy"), part


def test_a_second_up_changes_nothing(life: Life) -> None:
    life.stack.up(expect_no_changes=True)


@real_provider
def test_a_refresh_finds_no_drift(life: Life) -> None:
    life.stack.refresh(expect_no_changes=True)


def test_a_new_speed_replaces_the_leaker_and_those_who_watch_it(life: Life) -> None:
    life.configure(speed="60")
    assert life.up().touched == {f"Container {one}" for one in PARTS - {"visitors"}}


def test_an_image_that_was_pruned_is_pulled_again(life: Life) -> None:
    pulled = mirrored(versions.PROMETHEUS_IMAGE, REGISTRY)
    docker("rm", "--force", f"{NAME}-prometheus")
    docker("image", "rm", "--force", pulled)
    life.configure(speed="30")
    life.up()
    assert inspect(f"{NAME}-prometheus")["State"]["Running"]
    assert inspect(f"{NAME}-prometheus")["Config"]["Image"].startswith(pulled)


def test_a_built_image_that_was_pruned_is_built_by_the_line_to_type(life: Life) -> None:
    urn = life.urn("docker:index/image:Image")
    image = inspect(f"{NAME}-leaker")["Config"]["Image"]
    docker("rm", "--force", f"{NAME}-leaker", f"{NAME}-visitors")
    docker("image", "rm", "--force", image)
    with pytest.raises(Exception, match=r"Docker no longer has the image") as raised:
        life.up()
    assert f"pulumi up --refresh --replace '{urn}'" in str(raised.value)
    life.up(refresh=True, replace=[urn])
    assert inspect(f"{NAME}-leaker")["State"]["Health"]["Status"] == "healthy"


@pytest.mark.skipif(not WITH_GRAFANA, reason="LAB_TEST_GRAFANA is false")
def test_a_password_stands_in_no_file_of_the_state(life: Life) -> None:
    life.configure(grafanaAdminPassword=PASSWORD)
    life.up()
    assert f"GF_SECURITY_ADMIN_PASSWORD={PASSWORD}" in inspect(f"{NAME}-grafana")["Config"]["Env"]
    written = life.state_files()
    assert f"{NAME}-grafana".encode() in written, "these are the files"
    assert PASSWORD.encode() not in written
    life.configure(grafanaAdminPassword=None)
    life.up()
    life.stack.up(expect_no_changes=True)


def test_destroy_leaves_no_container_and_no_network(life: Life) -> None:
    life.stack.destroy()
    mine = ("--quiet", "--filter", "label=app.kubernetes.io/part-of=memleak-lab", "--filter", f"name={NAME}")
    for listing in (["docker", "ps", "--all", *mine], ["docker", "network", "ls", *mine]):
        assert subprocess.run(listing, capture_output=True, text=True, check=True).stdout == ""
