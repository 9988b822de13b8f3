"""Who is let in: TLS, passwords (SCRAM) and certificates (X.509), all of it said by the URI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus

import pymongo
import pytest
import trustme
from cryptography import x509
from pymongo.errors import OperationFailure

from bintrades.errors import BintradesError, ConfigError
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import sample_bars
from bintrades.testing.mongod import Mongod
from tests.stores.mongodb.test_store import opened, stored_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Document = dict[str, Any]

SOON = "serverSelectionTimeoutMS=2000"
X509 = "authMechanism=MONGODB-X509"


class Keys(NamedTuple):
    """Certificates in files, by which server and collector know each other."""

    authority: Path
    server: Path
    collector: Path
    stranger: Path
    """Of the same name, from an authority that the server does not know."""
    subject: str
    """Of the collector's certificate: the name of its user."""

    @classmethod
    def made_in(cls, folder: Path, *names: str) -> Keys:
        """Return new ones, of a server that has *names*."""
        authority, other = trustme.CA(), trustme.CA()
        server = authority.issue_cert(*names)
        collector = authority.issue_cert("collector@example.org", common_name="collector")
        stranger = other.issue_cert("collector@example.org", common_name="collector")
        subject = x509.load_pem_x509_certificate(collector.cert_chain_pems[0].bytes()).subject
        files = [folder / f"{name}.pem" for name in ("authority", "server", "collector", "other")]
        blobs = [authority.cert_pem]
        blobs += [cert.private_key_and_cert_chain_pem for cert in (server, collector, stranger)]
        for file, blob in zip(files, blobs, strict=True):
            blob.write_to_path(str(file))
        own, served, ours, theirs = files
        return cls(own, served, ours, theirs, subject.rfc4514_string())

    @property
    def tls(self) -> str:
        """What a URI says so that the server's certificate is looked at."""
        return f"tls=true&tlsCAFile={quote_plus(str(self.authority))}&{SOON}"

    @property
    def server_arguments(self) -> list[str]:
        return ["--tlsMode=requireTLS", f"--tlsCertificateKeyFile={self.server}"]


def with_key(file: Path) -> str:
    return f"tlsCertificateKeyFile={quote_plus(str(file))}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.made_in(tmp_path_factory.mktemp("keys"), "127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def server(
    mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> Iterator[Mongod]:
    """Run a server that wants TLS, and a password or a certificate."""
    arguments = [*keys.server_arguments, f"--tlsCAFile={keys.authority}"]
    arguments.append("--tlsAllowConnectionsWithoutCertificates")
    folder = tmp_path_factory.mktemp("server")
    with (
        Mongod(
            mongod_binary, folder, auth=True, authority=keys.authority, arguments=arguments
        ) as server,
        pymongo.MongoClient[Document](server.uri) as root,
    ):
        may = [{"role": "readWrite", "db": "bintrades"}]
        root["$external"].command("createUser", keys.subject, roles=may)
        root.admin.command("createUser", "visitor", pwd="visitor", roles=[])
        yield server


@pytest.fixture(autouse=True)
def no_bars(server: Mongod) -> None:
    with pymongo.MongoClient[Document](server.uri) as root:
        root["bintrades"].drop_collection("bars")


def at(server: Mongod, *options: str, user: str = "") -> str:
    return f"mongodb://{user}{server.address}/?{'&'.join(options)}"


def stores_a_bar(uri: str, server: Mongod) -> bool:
    store = opened(uri)
    store.store_bars(sample_bars(1))
    store.close_store()
    return stored_in(server) == [3]


@pytest.mark.parametrize("is_named", [True, False])
def test_a_certificate_lets_the_user_of_its_subject_in(
    server: Mongod, keys: Keys, is_named: bool
) -> None:
    user = f"{quote_plus(keys.subject)}@" if is_named else ""

    assert stores_a_bar(at(server, keys.tls, with_key(keys.collector), X509, user=user), server)


@pytest.mark.parametrize(
    "mechanism", ["", "&authMechanism=SCRAM-SHA-1", "&authMechanism=SCRAM-SHA-256"]
)
def test_a_password_lets_its_user_in_by_tls(server: Mongod, mechanism: str) -> None:
    assert stores_a_bar(f"{server.uri}&authSource=admin{mechanism}", server)


def refusal(uri: str) -> str:
    with pytest.raises((BintradesError, OperationFailure)) as refused:
        opened(uri)
    assert not isinstance(refused.value, ConfigError)
    return str(refused.value)


def test_a_certificate_of_no_user_is_refused_with_what_to_look_at(
    server: Mongod, keys: Keys
) -> None:
    wrong_user = at(server, keys.tls, with_key(keys.collector), X509, user="CN%3Dnobody@")
    no_certificate = at(server, keys.tls, X509)

    for uri in (wrong_user, no_certificate):
        assert re.search(r"; look at the user.* is the subject of the certificate", refusal(uri))


def test_a_user_without_the_role_hears_which_one_it_needs(server: Mongod, keys: Keys) -> None:
    said = refusal(at(server, keys.tls, user="visitor:visitor@"))

    assert said.endswith("the user of the uri needs the role readWrite on the database bintrades")


def test_without_tls_and_with_a_certificate_that_is_not_known_the_server_hangs_up(
    server: Mongod, keys: Keys
) -> None:
    stranger = at(server, keys.tls, with_key(keys.stranger), X509)

    for uri in (at(server, SOON), stranger):
        assert "one with TLS wants it, and may want a certificate of ours" in refusal(uri)


def test_a_server_of_an_unknown_authority_is_not_trusted(server: Mongod, tmp_path: Path) -> None:
    others = Keys.made_in(tmp_path, "127.0.0.1")

    for uri in (at(server, "tls=true", SOON), at(server, others.tls)):
        assert re.search("CERTIFICATE_VERIFY_FAILED.*; tlsCAFile=FILE in the uri", refusal(uri))


def test_a_server_of_another_name_is_not_trusted(mongod_binary: Path, tmp_path: Path) -> None:
    keys = Keys.made_in(tmp_path, "db.example.org")
    arguments = [*keys.server_arguments, f"--tlsCAFile={keys.authority}"]
    with Mongod(mongod_binary, tmp_path, is_one_of_many=True, arguments=arguments) as server:
        said = refusal(at(server, keys.tls, with_key(keys.collector)))

    assert said.endswith("in the uri, a server must have the name that its certificate has")


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(mongodb_uri: str) -> None:
    form = "&" if "?" in mongodb_uri else "?"

    assert "wants no tls=true in the uri" in refusal(f"{mongodb_uri}{form}tls=true&{SOON}")


def test_files_of_the_uri_that_are_no_keys_are_a_bad_configuration(
    keys: Keys, tmp_path: Path
) -> None:
    no_key = tmp_path / "no_key.pem"
    no_key.write_bytes(keys.authority.read_bytes())
    missing = tmp_path / "missing.pem"

    for file, reason in ((no_key, "rivate key"), (missing, "No such file")):
        with pytest.raises(ConfigError, match=reason) as refused:
            MongoStore().check_store({"uri": f"mongodb://db/?{keys.tls}&{with_key(file)}"})
        assert "-----" not in str(refused.value)
