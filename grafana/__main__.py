"""`python -m grafana --output DIR`: the dashboards, provisioning and rules as files, for a Grafana of one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana import DATASOURCE_UID, MEMORY_LIMIT_BYTES, dashboards, provisioning, rules
from grafana.thresholds import MIB

GUIDE = Path(__file__).parents[1] / "docs" / "EBPF_GUIDE.md"


def main(arguments: list[str] | None = None, guide: Path = GUIDE) -> int:
    """Write the files and say where: exit status 0, 1 if the folder cannot be written, 2 for a wrong option."""
    options = _parser().parse_args(arguments)
    limit = options.memory_limit_mib * MIB
    text = guide.read_text(encoding="utf-8") if guide.is_file() else ""
    shown = dashboards(options.truth, options.datasource_uid, speed=options.speed, memory_limit_bytes=limit, guide=text)
    watched = rules(options.truth, speed=options.speed, memory_limit_bytes=limit, job=options.job)
    provisioned = provisioning(options.prometheus_url, options.dashboards_folder, speed=options.speed)
    files = {
        **{f"dashboards/{name}": content for name, content in shown.items()},
        **{f"rules/{name}": content for name, content in watched.items()},
        **{f"provisioning/{name}": content for name, content in provisioned.items()},
    }
    try:
        for name, content in files.items():
            path = options.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            sys.stdout.write(f"{path}\n")
    except OSError as error:
        sys.stderr.write(
            f"grafana: cannot write {error.filename}: {error.strerror}. Name another folder: --output DIR\n"
        )
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grafana",
        description="Write the lab's dashboards, Grafana's provisioning and Prometheus' rules into a folder.",
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder; it is made if it is missing")
    parser.add_argument(
        "--truth", action=argparse.BooleanOptionalAction, default=True, help="what the kernel knows as well (default)"
    )
    parser.add_argument("--speed", type=_speed, default=1.0, help="the lab's speed, 0.1 to 1000 (default 1)")
    parser.add_argument(
        "--memory-limit-mib",
        type=_mebibytes,
        default=MEMORY_LIMIT_BYTES // MIB,
        help="the service's memory limit in MiB (default %(default)s)",
    )
    parser.add_argument("--job", default="leaker", help="the scrape job that reads the service (default %(default)s)")
    parser.add_argument("--datasource-uid", default=DATASOURCE_UID, help="default %(default)s")
    parser.add_argument("--prometheus-url", default="http://localhost:9090", help="default %(default)s")
    parser.add_argument(
        "--dashboards-folder",
        default="/var/lib/grafana/dashboards",
        help="where Grafana will find the dashboards' files (default %(default)s)",
    )
    return parser


def _speed(written: str) -> float:
    speed = float(written)
    if not 0.1 <= speed <= 1000:
        raise argparse.ArgumentTypeError(f"{written}: it must be a number from 0.1 to 1000 times real time")
    return speed


def _mebibytes(written: str) -> int:
    limit = int(written)
    if not 64 <= limit <= 1024 * 1024:
        raise argparse.ArgumentTypeError(f"{written}: it must be a whole number from 64 to {1024 * 1024} MiB")
    return limit


if __name__ == "__main__":
    sys.exit(main())
