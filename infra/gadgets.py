"""Which gadget Inspektor Gadget runs, where its image is, and by whose signature it is known."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from infra import versions
from infra.references import REFERENCE, has_host, mirrored, split_tag
from infra.registries import RegistryKind

if TYPE_CHECKING:
    from infra.registries import Registry
    from infra.settings import Settings
    from infra.versions import ThirdParty

_PUBLIC_KEY: Final = re.compile(r"-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\n]+)\n-----END PUBLIC KEY-----\n?")
_SET_KEY: Final = "pulumi config set gadgetPublicKey < cosign.pub"


class GadgetKind(StrEnum):
    """The gadget that Inspektor Gadget runs."""

    TRACE_MALLOC = "trace_malloc"
    MEMLEAK = "memleak"
    NONE = "none"


@dataclass(frozen=True)
class Gadget:
    """Inspektor Gadget's part. ``image`` and ``chart`` are empty with kind none.

    ``public_key`` is the key, as PEM, that this project's own gadget is signed with; empty: it is not signed.
    """

    kind: GadgetKind
    image: str
    chart: str
    public_key: str = ""


NO_GADGET: Final = Gadget(GadgetKind.NONE, "", "")


def read_gadget(settings: Settings, registry: Registry, third_party: ThirdParty, *, in_cluster: bool) -> Gadget:
    """The gadget of the settings; outside of a cluster there is none."""
    kind = GadgetKind(settings.choice("gadget", tuple(GadgetKind)))
    image = settings.text("gadgetImage", REFERENCE, "registry.example.com/memleak:v0.1.0")
    chart = settings.text("gadgetChart") or mirrored(versions.GADGET_CHART, third_party.mirror)
    key = _read_public_key(settings)
    if kind is GadgetKind.NONE or not in_cluster:
        return NO_GADGET
    if image and not (has_host(image) and split_tag(image)[1]):
        # To Inspektor Gadget a bare name is one of its own stock gadgets, and no tag is `latest`.
        settings.add_error(
            f"gadgetImage is {image!r}: it needs a registry's host and a tag or digest:",
            "pulumi config set gadgetImage HOST/PATH/memleak:TAG",
        )
    if key and kind is not GadgetKind.MEMLEAK:
        settings.add_error(
            f"gadgetPublicKey is set and gadget is {kind}, which Inspektor Gadget's own key has signed:",
            "pulumi config rm gadgetPublicKey",
            "pulumi config set gadget memleak    # or this project's gadget",
        )
    if kind is GadgetKind.TRACE_MALLOC:
        return Gadget(kind, image or third_party.image(versions.TRACE_MALLOC_IMAGE), chart)
    if not image and registry.kind is RegistryKind.NONE:
        settings.add_error(
            "gadget is memleak and registry is none: Inspektor Gadget pulls its gadgets from a registry:",
            "pulumi config set gadgetImage HOST/PATH/memleak:TAG",
        )
    return Gadget(kind, image or f"{registry.pods}/memleak:{versions.MEMLEAK_GADGET_TAG}", chart, key)


def _read_public_key(settings: Settings) -> str:
    """The key's text. What cannot be one is not repeated: it may be the private key."""
    written = settings.text("gadgetPublicKey")
    if not written:
        return ""
    found = _PUBLIC_KEY.fullmatch(written.replace("\r\n", "\n"))
    if found:
        try:
            # A SubjectPublicKeyInfo is a sequence.
            if base64.b64decode(found[1].replace("\n", ""), validate=True).startswith(b"\x30"):
                return written.replace("\r\n", "\n").rstrip("\n") + "\n"
        except binascii.Error:
            pass
    if "PRIVATE KEY" in written:
        settings.add_error(
            "gadgetPublicKey is a private key, and stands in the stack's file in plain text:",
            "pulumi config rm gadgetPublicKey    # and make another pair",
            _SET_KEY,
        )
    else:
        settings.add_error("gadgetPublicKey is no public key in PEM:", _SET_KEY)
    return ""
