"""A certificate for 127.0.0.1 that a test makes for itself."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def _made() -> tuple[bytes, bytes]:
    """(certificate, private key) in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, secret


@cache
def loopback_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's context, a client's that trusts it and nobody else)."""
    pem, secret = _made()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder) / "both.pem"
        both.write_bytes(pem + secret)
        server.load_cert_chain(both)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client


def loopback_pem(folder: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """(certificate, private key, a client's context that trusts it and nobody else), the first two as files."""
    pem, secret = _made()
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(pem)
    key.write_bytes(secret)
    return cert, key, ssl.create_default_context(cadata=pem.decode())
