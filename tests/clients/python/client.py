#!/usr/bin/env python3
"""A workload that uses py-spiffe. What it is told and what it prints is said in ../README.md."""

import base64
import json
import socket
import sys
import threading

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from spiffe import JwtBundleSet, JwtSvid, SpiffeId, WorkloadApiClient, X509Source
from spiffe.workloadapi import workload_api_client
from spiffe.workloadapi.x509_context import X509Context
from spiffetls import dial
from spiffetls.context import create_ssl_context
from spiffetls.tlsconfig.authorize import authorize_id

printing = threading.Lock()


def say(event, **fields):
    with printing:
        print(json.dumps({"event": event, **fields}), flush=True)


def code_of(error):
    """The gRPC status in an error of py-spiffe, which has it as a cause or in its text."""
    cause = error
    while cause is not None:
        if callable(getattr(cause, "code", None)):
            return cause.code().name
        cause = cause.__cause__ or cause.__context__
    return str(error)


def der(certificate):
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def x509_bundles(bundle_set):
    return {
        bundle.trust_domain.name: [der(authority) for authority in bundle.x509_authorities]
        for bundle in bundle_set.bundles
    }


def jwt_bundles(bundle_set: JwtBundleSet):
    return {
        bundle.trust_domain.name: sorted(bundle.jwt_authorities) for bundle in bundle_set.bundles
    }


def x509_svids(svids):
    return [
        {"id": str(svid.spiffe_id), "chain": list(map(der, svid.cert_chain))}
        for svid in svids
    ]


def validated(token, audience, bundle_set):
    """The token, checked by py-spiffe itself with the bundles that it has."""
    domain = JwtSvid.parse_insecure(token, {audience}).spiffe_id.trust_domain
    return JwtSvid.parse_and_validate(
        token, bundle_set.get_bundle_for_trust_domain(domain), {audience}
    )


def fetch(audience):
    def call(name, function, *arguments, **named):
        try:
            return function(*arguments, **named)
        except Exception as error:
            say("failed", call=name, code=code_of(error))
            return None

    client = WorkloadApiClient(default_timeout=20)
    context = call("x509", client.fetch_x509_context)
    if context:
        say("x509", svids=x509_svids(context.x509_svids),
            bundles=x509_bundles(context.x509_bundle_set))
    bundles = call("x509_bundles", client.fetch_x509_bundles)
    if bundles:
        say("x509_bundles", bundles=x509_bundles(bundles))
    keys = call("jwt_bundles", client.fetch_jwt_bundles)
    if keys:
        say("jwt_bundles", bundles=jwt_bundles(keys))
    for svid in call("jwt", client.fetch_jwt_svids, audience={audience}) or []:
        local = validated(svid.token, audience, keys)
        remote = client.validate_jwt_svid(svid.token, audience)
        say("jwt", id=str(svid.spiffe_id), token=svid.token,
            locally=str(local.spiffe_id), by_agent=str(remote.spiffe_id))
        call("validate", client.validate_jwt_svid, svid.token, audience + "-of-another")
    client.close()
    say("closed")


def report_retries():
    """py-spiffe says nothing of a stream that ended if it tries again; this does."""
    should_retry = workload_api_client.RetryHandler.should_retry
    after_end = WorkloadApiClient._reconnect_after_stream_end

    def after_error(self, code):
        again = should_retry(self, code)
        say("lost", code=code.name, retries=again)
        return again

    def after_clean_end(cancelled, *arguments):
        if not cancelled.is_cancelled():
            say("lost", code="OK", retries=True)
        return after_end(cancelled, *arguments)

    workload_api_client.RetryHandler.should_retry = after_error
    WorkloadApiClient._reconnect_after_stream_end = staticmethod(after_clean_end)


def watch(audience):
    report_retries()
    client = WorkloadApiClient(default_timeout=20)

    def on_x509(context: X509Context):
        say("x509", svids=x509_svids(context.x509_svids),
            bundles=x509_bundles(context.x509_bundle_set))

    def on_jwt(bundle_set: JwtBundleSet):
        say("jwt_bundles", bundles=jwt_bundles(bundle_set))

    def on_end(error):
        say("ended", error=str(error))

    handlers = [
        client.stream_x509_contexts(on_x509, on_end),
        client.stream_jwt_bundles(on_jwt, on_end),
    ]
    # Each line is a wish for a token, to be checked with bundles that are as new as it is.
    for _ in sys.stdin:
        try:
            token = client.fetch_jwt_svid(audience={audience}).token
            svid = validated(token, audience, client.fetch_jwt_bundles())
            say("jwt", id=str(svid.spiffe_id), token=token, locally=str(svid.spiffe_id),
                by_agent=str(client.validate_jwt_svid(token, audience).spiffe_id))
        except Exception as error:
            say("failed", call="jwt", code=code_of(error))
    for handler in handlers:
        handler.cancel()
    client.close()
    say("closed")


def leaf_of(connection):
    return der(connection.get_peer_certificate().to_cryptography())


def serve(peer):
    source = X509Source(timeout_in_seconds=20)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            # `listen` of spiffe-tls 0.4.0 goes on with its first SVID for ever, as pyOpenSSL lets
            # nobody change a context that is in use. So each connection has a new one.
            accepted, _ = listener.accept()
            context = create_ssl_context(
                SSL.TLS_SERVER_METHOD, source, authorize_id(SpiffeId(peer))
            )
            connection = SSL.Connection(context, accepted)
            connection.set_accept_state()
            try:
                connection.do_handshake()
                say("peer", leaf=leaf_of(connection))
                connection.sendall(connection.recv(1024))
                connection.shutdown()
            except SSL.Error as error:
                say("refused", error=repr(error))
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    say("listening", port=listener.getsockname()[1])
    sys.stdin.read()
    source.close()
    say("closed")


def call(port, peer):
    source = X509Source(timeout_in_seconds=20)
    say("ready")
    for line in sys.stdin:
        try:
            connection = dial(f"127.0.0.1:{port}", source,
                              authorize_fn=authorize_id(SpiffeId(peer)))
            connection.sendall(line.encode())
            say("reply", text=connection.recv(1024).decode().strip(), leaf=leaf_of(connection))
            connection.close()
        except Exception as error:
            say("refused", error=repr(error))
    source.close()
    say("closed")


if __name__ == "__main__":
    {"fetch": fetch, "watch": watch, "serve": serve, "dial": call}[sys.argv[1]](*sys.argv[2:])
