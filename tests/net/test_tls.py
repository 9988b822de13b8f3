"""Whom a TLS connection trusts."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from bintrades.errors import ConfigError
from bintrades.net.tls import BUNDLE_VARIABLE, Certificates, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def server(authority: trustme.CA, name: str = "localhost") -> Iterator[int]:
    """Accept one TLS connection on a loopback port, with a certificate for *name*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                return  # refused by the client, as it may

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def shake_hands(port: int, context: ssl.SSLContext | None = None) -> None:
    context = context or tls_context()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


def test_a_certificate_of_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    with server(authority) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port)


@pytest.mark.parametrize("variable", [BUNDLE_VARIABLE, "SSL_CERT_FILE"])
def test_an_authority_named_in_the_environment_is_trusted(
    authority: trustme.CA, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))

    with server(authority) as port:
        shake_hands(port)


def test_the_bundle_does_not_take_the_trust_from_the_others(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path / "other.pem"))

    with server(authority) as port:
        shake_hands(port)


def test_a_certificate_for_another_host_is_refused(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path / "ca.pem"))

    with (
        server(authority, "elsewhere.example") as port,
        pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname"),
    ):
        shake_hands(port)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl names the certificates")
def test_a_bundle_may_be_a_folder(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asked = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(tmp_path / "ca.pem")]
    subject = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "ca.pem").rename(tmp_path / f"{subject}.0")
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path))

    with server(authority) as port:
        shake_hands(port)


@pytest.mark.parametrize("variable", [BUNDLE_VARIABLE, "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_bundle_that_cannot_be_read_is_a_configuration_error(
    variable: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv(variable, str(bundle))

    with pytest.raises(ConfigError, match=f"{variable}={bundle}: no certificates .* unset it"):
        tls_context()


def test_every_folder_of_certificates_that_is_none_is_named(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    folders = [tmp_path / name for name in ("missing", "", "ca.pem")]
    monkeypatch.setenv("SSL_CERT_DIR", ":".join(map(str, folders)))

    with pytest.raises(ConfigError) as raised:
        tls_context()

    assert [problem.partition("; name folders")[0] for problem in raised.value.problems] == [
        f"SSL_CERT_DIR={folder}: is not a folder, so no certificates are in it"
        for folder in (tmp_path / "missing", tmp_path / "ca.pem")
    ]
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context()


def test_variables_that_are_empty_are_as_good_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (BUNDLE_VARIABLE, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(variable, "")

    assert tls_context()


@pytest.fixture(params=[BUNDLE_VARIABLE, "SSL_CERT_FILE"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the bundle of a running process: it trusts an authority that nobody uses."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    monkeypatch.setenv(request.param, str(path))
    return path


def test_a_bundle_that_changes_while_running_counts_for_new_connections(
    authority: trustme.CA, bundle: Path
) -> None:
    certificates = Certificates()
    with server(authority) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port, certificates.context())

    authority.cert_pem.write_to_path(str(bundle))
    with server(authority) as port:
        shake_hands(port, certificates.context())

    trustme.CA().cert_pem.write_to_path(str(bundle.with_suffix(".new")))
    bundle.with_suffix(".new").rename(bundle)  # as programs do that replace files
    with server(authority) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port, certificates.context())


def test_a_bundle_that_has_not_changed_is_not_read_again(bundle: Path) -> None:
    certificates = Certificates()

    assert certificates.context() is certificates.context()
    assert bundle.exists()


@pytest.mark.parametrize("accident", ["removed", "corrupt", "emptied"])
def test_where_a_bundle_becomes_unreadable_that_of_before_serves_on(
    authority: trustme.CA, bundle: Path, accident: str, caplog: pytest.LogCaptureFixture
) -> None:
    authority.cert_pem.write_to_path(str(bundle))
    certificates = Certificates()
    if accident == "removed":
        bundle.unlink()
    else:
        bundle.write_text("not a certificate" if accident == "corrupt" else "")

    for _ in range(3):
        with server(authority) as port:
            shake_hands(port, certificates.context())

    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert "those of before serve on" in warning.message

    authority.cert_pem.write_to_path(str(bundle))
    with server(authority) as port:
        shake_hands(port, certificates.context())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl names the certificates")
def test_a_folder_that_changes_while_running_counts_for_new_connections(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path))
    certificates = Certificates()
    certificates.context()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asked = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(tmp_path / "ca.pem")]
    subject = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "ca.pem").rename(tmp_path / f"{subject}.0")

    with server(authority) as port:
        shake_hands(port, certificates.context())
    (tmp_path / f"{subject}.0").unlink()
    with server(authority) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port, certificates.context())
