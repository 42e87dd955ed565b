from __future__ import annotations

import re
import subprocess
import sys

import pytest
from catalog_cache import MIB, RANGES

from diagnosis.lab.service_env import service_environ, visitors_environ
from service.config import ConfigError, ServiceConfig, VisitorsConfig
from tests.support.running_service import FREE_PORTS, ROOT, environment


def test_defaults_are_the_labs_story() -> None:
    assert ServiceConfig.from_environ({}) == ServiceConfig(
        speed=1.0,
        chunk_bytes=65_536,
        cap_bytes=2000 * MIB,
        memory_limit_bytes=2560 * MIB,
        host="0.0.0.0",
        http_port=8080,
        metrics_port=9090,
        ledger_port=9091,
    )
    assert VisitorsConfig.from_environ({}) == VisitorsConfig("http://127.0.0.1:8080", 10.0)


def test_every_variable_is_read() -> None:
    config = ServiceConfig.from_environ(
        {
            "LAB_SPEED": "60",
            "LAB_CHUNK_BYTES": "1048576",
            "LAB_CAP_BYTES": "0",
            "LAB_MEMORY_LIMIT_BYTES": "536870912",
            "LAB_HOST": "::1",
            "LAB_HTTP_PORT": "80",
            "LAB_METRICS_PORT": "81",
            "LAB_LEDGER_PORT": "0",
            "HOME": "/nowhere",
        }
    )
    assert config == ServiceConfig(60.0, MIB, 0, 512 * MIB, "::1", 80, 81, 0)
    visitors = VisitorsConfig.from_environ({"LAB_TARGET_URL": "http://leaker:8080/", "LAB_VISITORS_PER_SECOND": "0.5"})
    assert visitors == VisitorsConfig("http://leaker:8080", 0.5)


@pytest.mark.parametrize(
    "config",
    [
        ServiceConfig(),
        ServiceConfig(59.9999999, 4096, 0, 512 * MIB, "::1", 80, 81, 0),
        ServiceConfig.on_free_ports(speed=600, cap_bytes=MIB),
        VisitorsConfig("http://leaker:1", 0.1),
    ],
)
def test_what_a_configuration_writes_is_read_as_the_same_configuration(config: ServiceConfig | VisitorsConfig) -> None:
    assert type(config).from_environ(config.environ()) == config


def test_what_the_diagnosis_writes_is_read_as_it_means_it() -> None:
    environ = service_environ(speed=0.1, chunk_bytes=4096, cap_bytes=0)
    assert ServiceConfig.from_environ(environ) == ServiceConfig.on_free_ports(speed=0.1, chunk_bytes=4096, cap_bytes=0)
    assert VisitorsConfig.from_environ(visitors_environ("127.0.0.1:1")) == VisitorsConfig("http://127.0.0.1:1")


def test_the_leaks_ranges_are_those_of_the_binding() -> None:
    for option, (low, high, _) in RANGES.items():
        for outside in (low - 1, high * 2):
            name = f"LAB_{option.upper()}"
            with pytest.raises(ConfigError, match=f"^{name} is "):
                ServiceConfig.from_environ({name: str(outside)})


def test_each_program_accepts_the_others_variables() -> None:
    ServiceConfig.from_environ({"LAB_TARGET_URL": "http://leaker"})
    VisitorsConfig.from_environ({"LAB_SPEED": "60"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("LAB_SPEED", "0", "from 0.1 to 1000 times"),
        ("LAB_SPEED", "1001", "from 0.1 to 1000 times"),
        ("LAB_SPEED", "nan", "from 0.1 to 1000 times"),
        ("LAB_SPEED", "fast", "from 0.1 to 1000 times"),
        ("LAB_CHUNK_BYTES", "3", "from 4096 to 1048576 bytes"),
        ("LAB_CHUNK_BYTES", "2097152", "from 4096 to 1048576 bytes"),
        ("LAB_CHUNK_BYTES", "5000", "divide the 1048576 bytes"),
        ("LAB_CHUNK_BYTES", "64k", "from 4096 to 1048576 bytes"),
        ("LAB_CAP_BYTES", "-1", "from 0 to 68719476736 bytes"),
        ("LAB_CAP_BYTES", "1e9", "from 0 to 68719476736 bytes"),
        ("LAB_CAP_BYTES", "9" * 5000, "from 0 to 68719476736 bytes"),
        ("LAB_MEMORY_LIMIT_BYTES", "0", "from 67108864 to 1099511627776 bytes"),
        ("LAB_HOST", "localhost", "an IP address"),
        ("LAB_HOST", "", "an IP address"),
        ("LAB_HTTP_PORT", "65536", "from 0 to 65535"),
        ("LAB_METRICS_PORT", "", "from 0 to 65535"),
        ("LAB_LEDGER_PORT", "9_091", "from 0 to 65535"),
        ("LAB_LEDGER_PORT", "8080", "LAB_HTTP_PORT: the three ports must differ"),
    ],
)
def test_a_bad_value_names_variable_value_and_range(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig.from_environ({name: value})
    text = str(caught.value)
    assert text.startswith(f"{name} is {value!r}")
    assert allowed in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAB_TARGET_URL", "leaker:8080"),
        ("LAB_TARGET_URL", "ftp://leaker"),
        ("LAB_TARGET_URL", "http://"),
        ("LAB_TARGET_URL", "http://leaker:port"),
        ("LAB_TARGET_URL", "http://leaker:65536"),
        ("LAB_VISITORS_PER_SECOND", "0"),
        ("LAB_VISITORS_PER_SECOND", "1001"),
    ],
)
def test_a_bad_value_of_the_visitors_names_variable_and_value(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is {re.escape(repr(value))}: it must be "):
        VisitorsConfig.from_environ({name: value})


@pytest.mark.parametrize(
    ("name", "nearest"), [("LAB_SPED", "LAB_SPEED"), ("LAB_CAP", "LAB_CAP_BYTES"), ("LAB_TARGET", "LAB_TARGET_URL")]
)
def test_an_unknown_variable_is_answered_with_the_nearest_known(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is no known variable: did you mean {nearest}\?$"):
        ServiceConfig.from_environ({name: "1"})


@pytest.mark.parametrize(
    ("module", "variables", "line"),
    [
        ("service", {"LAB_SPEED": "0"}, "service: LAB_SPEED is '0': it must be a number from 0.1 to 1000"),
        ("service", {"LAB_SPED": "60"}, "service: LAB_SPED is no known variable: did you mean LAB_SPEED?"),
        ("service.visitors", {"LAB_TARGET_URL": "x"}, "visitors: LAB_TARGET_URL is 'x': it must be http://"),
    ],
)
def test_a_program_with_a_bad_configuration_writes_one_line_and_exits_with_2(
    module: str, variables: dict[str, str], line: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environment(FREE_PORTS | variables),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(line)
    assert ended.stderr.count("\n") == 1
