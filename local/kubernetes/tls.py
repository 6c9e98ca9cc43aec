"""How to call: a certificate authority of our own, a server certificate, and a bearer token and kubeconfig a user."""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 397
_RENEW_DAYS = 30


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step; only its owner may read it."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def token(folder: Path, user: str = "") -> str:
    """Return the bearer token of a user (the administrator, if none is named), made the first time."""
    path = folder / (f"{user}.token" if user else "token")
    if not path.exists() or not path.read_text().strip():
        write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issue(folder: Path, hosts: tuple[str, ...]) -> None:
    # With key usage and key identifiers, as ssl.VERIFY_X509_STRICT wants (the default from Python 3.13 on).
    # The authority's key is forgotten: nothing else is ever signed with it.
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = "local-kubernetes-ca"
    authority = (
        _certificate(name, authority_key, name, _DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    hosts = ("localhost", *hosts)
    names: list[x509.GeneralName] = [*map(x509.DNSName, hosts), x509.IPAddress(IPv4Address("127.0.0.1"))]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    leaf = (
        _certificate("local-kubernetes", key, name, _DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / "tls.pem", leaf.public_bytes(serialization.Encoding.PEM) + private)
    write_private(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))


def _still_good(folder: Path) -> bool:
    if not (folder / "tls.pem").exists() or not (folder / "ca.crt").exists():
        return False
    try:
        leaf = x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes())
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        leaf.verify_directly_issued_by(authority)
    except Exception:
        return False  # half written, or of two different runs: made anew
    return leaf.not_valid_after_utc - datetime.now(UTC) > timedelta(days=_RENEW_DAYS)


def server_context(folder: Path, *hosts: str) -> ssl.SSLContext:
    """Return the TLS settings of a server on this machine that has further names, or none.

    Certificates are kept from one start to the next while they are good.
    """
    if not _still_good(folder):
        _issue(folder, hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "tls.pem")
    return context


def write_kubeconfig(folder: Path, port: int, namespace: str, user: str = "") -> Path:
    """Write a user's kubeconfig (the administrator's, if none is named) with everything in it; return its path."""
    authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "local", "cluster": server}],
        "users": [{"name": "local", "user": {"token": token(folder, user)}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": namespace}}],
    }
    path = folder / (f"{user}.kubeconfig" if user else "kubeconfig")
    # JSON is YAML, and needs no library to write.
    write_private(path, json.dumps(config, indent=2).encode())
    return path
