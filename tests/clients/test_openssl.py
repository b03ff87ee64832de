"""openssl, which knows nothing of SPIFFE, with what the agent's command line writes."""

import os
import subprocess

import pytest

from deployment import BINARIES, executable

AGENT = BINARIES / "steeple-agent"


@pytest.fixture
def openssl(deploy, me):
    """A deployment in which the agent's own program has an identity, written to files."""
    deployment = deploy()
    deployment.openssl_id, _ = deployment.create_entry(
        "/openssl", f"unix:path:{os.path.realpath(AGENT)}", me
    )
    return deployment


def fetch(deployment):
    """Writes what the agent's program gets: svid.0.pem, svid.0.key and bundle.0.pem."""
    command = [AGENT, "api", "fetch", "x509", "--socket", deployment.socket, "--write",
               deployment.dir]
    subprocess.run(command, check=True, capture_output=True)


def run(directory, *arguments, **options):
    return subprocess.run(
        ["openssl", *arguments], cwd=directory, text=True, capture_output=True, **options
    )


def test_verifies_the_chain_that_was_written(openssl):
    openssl.start_agent()
    fetch(openssl)
    verify = ["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-untrusted", "svid.0.pem"]
    done = run(openssl.dir, *verify, "-CAfile", "bundle.0.pem", "svid.0.pem")
    assert done.stdout == "svid.0.pem: OK\n", done.stderr
    # With no bundle it is nobody.
    assert run(openssl.dir, *verify, "-no-CAfile", "svid.0.pem").returncode != 0
    names = run(openssl.dir, "x509", "-in", "svid.0.pem", "-noout", "-ext", "subjectAltName")
    assert names.stdout.splitlines()[1:] == [f"    URI:{openssl.openssl_id}"]
    of_key = run(openssl.dir, "pkey", "-in", "svid.0.key", "-pubout").stdout
    of_svid = run(openssl.dir, "x509", "-in", "svid.0.pem", "-noout", "-pubkey").stdout
    assert of_key == of_svid != ""


def test_is_served_by_each_client(name, openssl):
    server_id, _ = openssl.create_entry("/server", f"unix:path:{executable(name)}")
    openssl.start_agent()
    fetch(openssl)
    server = openssl.client(name, "serve", openssl.openssl_id)
    port = server.event("listening")["port"]
    done = run(openssl.dir, "s_client", "-connect", f"127.0.0.1:{port}", "-quiet",
               "-verify_return_error", "-cert", "svid.0.pem", "-key", "svid.0.key", "-no-CApath",
               "-no-CAstore", "-CAfile", "bundle.0.pem", input="hello\n")
    assert done.stdout == "hello\n", done.stderr
    server.event("peer")
    server.rest()
