from __future__ import annotations

from typing import TYPE_CHECKING

import kubernetes_validate

if TYPE_CHECKING:
    from tests.infra.conftest import Record


def test_every_object_is_valid(recorded: Record) -> None:
    for one in recorded("kind").objects:
        kubernetes_validate.validate(one.inputs, "1.34", strict=True)
