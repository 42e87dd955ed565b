from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from scripts.imports import COMPARISON, DIAGNOSIS, FOLDERS, MAY_IMPORT, ROOT, broken_rules, read_imports

if TYPE_CHECKING:
    from pathlib import Path


def test_every_package_imports_only_what_it_may() -> None:
    assert broken_rules() == []


@pytest.mark.parametrize(("package", "order"), [("diagnosis", DIAGNOSIS), ("comparison", COMPARISON)])
def test_the_order_names_every_inner_package(package: str, order: tuple[str, ...]) -> None:
    inner = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert set(order) == inner


def test_a_module_of_diagnosis_is_in_an_inner_package() -> None:
    assert [path.name for path in (ROOT / "diagnosis").glob("*.py")] == ["__init__.py"]


def test_the_packages_are_where_they_are_said_to_be() -> None:
    """A package that is looked for in the wrong folder would break no rule."""
    for package in MAY_IMPORT:
        assert list((ROOT / FOLDERS[package]).glob("*.py")), package
    assert {each.package for each in read_imports(ROOT, "diagnosis")} == {"diagnosis", "heap_trace", "catalog_cache"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's modules, to plant an import in; without one they break no rule."""
    folder = tmp_path_factory.mktemp("project")
    for package in (*MAY_IMPORT, "tests"):
        shutil.copytree(
            ROOT / FOLDERS[package],
            folder / FOLDERS[package],
            ignore=lambda source, names: {
                name for name in names if not (name.endswith(".py") or (ROOT / source / name).is_dir())
            },
        )
    assert broken_rules(folder) == []
    return folder


@pytest.mark.parametrize(
    ("file", "planted", "imported"),
    [
        ("diagnosis/trace/window.py", "from diagnosis.lab.ledger import align", "diagnosis.lab.ledger.align"),
        ("diagnosis/base/units.py", "import diagnosis.cli.main", "diagnosis.cli.main"),
        ("diagnosis/report/report.py", "from diagnosis import lab", "diagnosis.lab"),
        ("diagnosis/report/report.py", "from ..lab import ledger", "diagnosis.lab.ledger"),
        ("diagnosis/target/process.py", "def f():\n    from diagnosis.trace import tracer", "diagnosis.trace.tracer"),
        ("diagnosis/output/tables.py", "if TYPE_CHECKING:\n    from diagnosis.cli import run", "diagnosis.cli.run"),
        ("diagnosis/lab/run.py", "from comparison.guide import service", "comparison.guide.service"),
        ("comparison/tools/bcc.py", "from comparison.loops import loads", "comparison.loops.loads"),
        ("comparison/loops/loads.py", "from comparison.guide import ig", "comparison.guide.ig"),
        ("service/health.py", "from diagnosis.base import units", "diagnosis.base.units"),
        ("infra/pods.py", "from service import config", "service.config"),
        ("grafana/pace.py", "from infra import config", "infra.config"),
        ("native/trace/src/heap_trace/__init__.py", "from diagnosis.base import errors", "diagnosis.base.errors"),
        ("native/leak/src/catalog_cache/__init__.py", "import heap_trace", "heap_trace"),
        ("tests/lab/command.py", "from tests.diagnosis import traced", "tests.diagnosis.traced"),
        ("tests/support/waiting.py", "from tests.trace import tracing", "tests.trace.tracing"),
    ],
)
def test_an_import_of_what_may_not_be_imported_is_found(copy: Path, file: str, planted: str, imported: str) -> None:
    """GIVEN a copy of the project without a fault WHEN one import is added THEN it is named with its place."""
    path = copy / file
    before = path.read_text()
    path.write_text(f"{before}\n{planted}\n")
    last_line = len(path.read_text().splitlines())
    found = broken_rules(copy)
    path.write_text(before)
    (broken,) = found
    assert broken.startswith(f"{file}:{last_line} imports {imported}: ")
