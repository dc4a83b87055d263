"""Certificates of a test's own authority."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conftest import need_binary
from tests.servers import find_binary

_NEW_KEY = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(folder: Path, *arguments: str) -> None:
    """Run it in a folder."""
    subprocess.run([find_binary("openssl") or "", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """An authority (ca), and what it signed for the broker (server: localhost) and the user hub (client)."""
    need_binary("openssl", "openssl")
    openssl(folder, *_NEW_KEY, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    for name, subject in (("server", "localhost"), ("client", "hub")):
        openssl(folder, *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        sign(folder, name)


def sign(folder: Path, name: str, days: int = 30, names: str = "DNS:localhost,IP:127.0.0.1") -> None:
    """Have the authority sign the request of this name for so many days from now."""
    (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
    authority = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext")
    request = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", str(days))
    openssl(folder, "x509", "-req", *request, *authority)
