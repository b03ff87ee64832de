"""What is in the certificates that a client has, and what openssl thinks of them."""

import base64
import subprocess
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def certificate(encoded):
    return x509.load_der_x509_certificate(base64.b64decode(encoded))


def leaf(svid):
    return certificate(svid["chain"][0])


def spiffe_id(cert):
    """The one URI in a certificate."""
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri


def public_key(cert):
    return cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(cert):
    """Of the certificate's own key."""
    return cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def issuer_key_id(cert):
    """Of the key that has signed the certificate."""
    of = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return of.value.key_identifier


def is_valid_at(cert, at):
    moment = datetime.fromtimestamp(at, timezone.utc)
    return cert.not_valid_before_utc <= moment < cert.not_valid_after_utc


def verify_with_openssl(directory, chain, authorities, at):
    """Has openssl check a chain as strictly as it can, as of the moment when a client had it."""
    def file(name, encoded):
        path = directory / name
        certificates = [certificate(one).public_bytes(Encoding.PEM) for one in encoded]
        path.write_bytes(b"".join(certificates))
        return path

    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose,
                   "-attime", str(int(at)), "-CAfile", file("authorities.pem", authorities),
                   "-no-CApath", "-no-CAstore", "-untrusted", file("chain.pem", chain),
                   file("leaf.pem", chain[:1])]
        done = subprocess.run(command, text=True, capture_output=True)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
