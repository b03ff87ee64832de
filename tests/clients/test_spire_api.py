"""The Rust crate `spire-api`, in its released version, with the agent's admin socket."""

import pytest

from chain import leaf, spiffe_id, verify_with_openssl
from deployment import BUILT, TRUST_DOMAIN

pytestmark = pytest.mark.skipif("rust" not in BUILT, reason="the client in Rust is not built")

# A user that there need not be.
OTHER = 4294967294

# Every call of the crate that is an RPC.
CALLS = ["selectors", "pid", "x509_stream", "x509_bundles", "x509_bundle_stream", "jwt",
         "jwt_bundles", "jwt_bundle_stream"]


def delegates(name):
    return (
        'admin_socket_path = "DIR/admin/admin.sock"\n'
        f'authorized_delegates = ["spiffe://{TRUST_DOMAIN}/{name}"]\n'
    )


def ask(deploy, me, name):
    """Has a client ask for another's identity, where delegates are those of this name."""
    deployment = deploy(agent=delegates(name))
    deployment.create_entry("/delegate", me)
    other, _ = deployment.create_entry("/other", f"unix:uid:{OTHER}")
    deployment.start_agent()
    return other, deployment.client("rust", "delegate", str(OTHER), "billing").rest()


def test_a_delegate_has_the_identities_of_others(deploy, me, tmp_path):
    other, events = ask(deploy, me, "delegate")
    assert [event for event in events if event.name == "failed"] == []
    by = {event.get("by", event.name): event for event in events}
    assert by["selectors"]["svids"][0]["id"] == other == by["x509_stream"]["id"] == by["jwt"]["id"]
    assert by["pid"]["svids"][0]["id"] == f"spiffe://{TRUST_DOMAIN}/delegate"
    authorities = by["x509_bundles"]["bundles"]
    assert authorities == by["x509_bundle_stream"]["bundles"]
    for call in ["selectors", "pid"]:
        svid = by[call]["svids"][0]
        assert spiffe_id(leaf(svid)) == svid["id"]
        verify_with_openssl(tmp_path, svid["chain"], authorities[TRUST_DOMAIN], by[call].at)
    fetched, streamed = [event["bundles"] for event in events if event.name == "jwt_bundles"]
    assert fetched == streamed and len(fetched[TRUST_DOMAIN]) == 1


def test_who_is_no_delegate_has_nothing(deploy, me):
    _, events = ask(deploy, me, "somebody-else")
    assert [event.get("call", event.name) for event in events] == [*CALLS, "closed"]
    for event in events[:-1]:
        assert "caller not configured as an authorized delegate" in event["why"], event
