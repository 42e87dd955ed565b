"""Which gadget runs, and by whose signature it is known."""

from __future__ import annotations

import pytest

from infra import versions
from infra.config import LabConfig
from infra.kubeconfig import Kubeconfig
from infra.settings import ConfigError, Settings

PUBLIC_KEY = versions.GADGET_PUBLIC_KEY
KIND = Kubeconfig("kind-lab", {"kind-lab": "https://127.0.0.1:34567"})


def refusal(settings: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as raised:
        LabConfig.read(Settings(settings), KIND)
    return str(raised.value)


@pytest.mark.parametrize(
    ("settings", "error", "command"),
    [
        (
            {"gadgetImage": "memleak:v1"},
            "gadgetImage is 'memleak:v1': it needs a registry's host and a tag",
            "pulumi config set gadgetImage HOST/PATH/memleak:TAG",
        ),
        (
            {"gadgetImage": "localhost:5001/memleak"},
            "it needs a registry's host and a tag",
            "pulumi config set gadgetImage",
        ),
        (
            {"gadgetPublicKey": PUBLIC_KEY},
            "gadgetPublicKey is set and gadget is trace_malloc",
            "pulumi config rm gadgetPublicKey",
        ),
        (
            {"gadgetPublicKey": "cosign.pub", "gadget": "memleak"},
            "gadgetPublicKey is no public key in PEM",
            "pulumi config set gadgetPublicKey < cosign.pub",
        ),
        (
            {"gadgetPublicKey": PUBLIC_KEY.replace("MFkw", "AAAA"), "gadget": "memleak"},
            "gadgetPublicKey is no public key in PEM",
            "pulumi config set gadgetPublicKey < cosign.pub",
        ),
        (
            {"gadgetPublicKey": PUBLIC_KEY.replace("PUBLIC", "ENCRYPTED SIGSTORE PRIVATE"), "gadget": "memleak"},
            "gadgetPublicKey is a private key, and stands in the stack's file in plain text",
            "pulumi config rm gadgetPublicKey ",
        ),
    ],
)
def test_a_gadget_that_cannot_be_known_is_refused_with_the_line_to_type(
    settings: dict[str, str], error: str, command: str
) -> None:
    text = refusal(settings)
    assert error in text
    assert command in text


def test_what_may_be_a_private_key_is_not_repeated() -> None:
    for text in (PUBLIC_KEY.replace("PUBLIC", "PRIVATE"), "MFkwEwYHKoZIzj0"):
        assert "MFkwEwYHKoZIzj0" not in refusal({"gadget": "memleak", "gadgetPublicKey": text})
