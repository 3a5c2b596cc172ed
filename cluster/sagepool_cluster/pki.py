"""The cluster's certificates: one authority, a certificate for each of its parts, a year each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sagepool_cluster.config import ClusterConfig

LIFETIME = timedelta(days=365)

# A certificate is good from a little earlier on, for clocks that differ.
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names: a user (and group) for the API server, names for a TLS server."""

    user: str
    group: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[IPv4Address, ...] = ()


def identities(config: ClusterConfig) -> dict[str, Identity]:
    """Return whom the cluster's certificates name, by file name."""
    loopback = IPv4Address("127.0.0.1")
    service = ["kubernetes", "default", "svc", "cluster", "local"]
    return {
        "apiserver": Identity(
            "kube-apiserver",
            names=("localhost", *(".".join(service[:length]) for length in (1, 2, 3, 5))),
            addresses=(loopback, config.kubernetes_service, config.node_address),
        ),
        "admin": Identity("sagepool-admin", "system:masters"),
        "kubelet-client": Identity("kube-apiserver-kubelet-client", "system:masters"),
        "kubelet": Identity(
            f"system:node:{config.name}",
            "system:nodes",
            names=(config.name,),
            addresses=(loopback, config.node_address),
        ),
        "kube-controller-manager": Identity("system:kube-controller-manager"),
        "kube-scheduler": Identity("system:kube-scheduler"),
        "kube-proxy": Identity("system:kube-proxy"),
    }


def write_pki(config: ClusterConfig, now: datetime | None = None) -> Path:
    """Write the authority, the certificates and the service accounts' key; return their folder.

    `<name>.crt` and `<name>.key` for each identity, `ca.crt`, `sa.key` and `sa.pub`. Keys are
    readable by their owner alone. The authority's own key is not kept: it signs only here.
    """
    folder = config.state / "pki"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    start = (now or datetime.now(UTC)) - _CLOCK_SKEW
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _build_authority(f"{config.name}-ca", authority_key, start)
    _write(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    for name, identity in identities(config).items():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(identity, key, authority, authority_key, start)
        _write(folder / f"{name}.key", _private_pem(key))
        _write(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    account_key = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "sa.key", _private_pem(account_key))
    public = account_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(folder / "sa.pub", public)
    return folder


def _name(common: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _build_authority(
    common: str, key: ec.EllipticCurvePrivateKey, start: datetime
) -> x509.Certificate:
    name = _name(common)
    return (
        _builder(name, name, key.public_key(), start)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign(
    identity: Identity,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    start: datetime,
) -> x509.Certificate:
    name = _name(identity.user, identity.group)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(name, authority.subject, key.public_key(), start)
    alternatives: Sequence[x509.GeneralName] = [
        *(x509.DNSName(one) for one in identity.names),
        *(x509.IPAddress(one) for one in identity.addresses),
    ]
    if alternatives:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
