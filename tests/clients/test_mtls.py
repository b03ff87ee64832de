"""Clients of different languages prove to each other who they are."""

import pytest

from chain import certificate, issuer_key_id, key_id, spiffe_id
from deployment import BUILT, TRUST_DOMAIN, executable

# Each one serves one other, and is served by one other.
PAIRS = list(zip(BUILT, BUILT[1:] + BUILT[:1]))

pairs = pytest.mark.parametrize("server, caller", PAIRS, ids=["-".join(pair) for pair in PAIRS])


class Pair:
    """Two programs with identities of their own, which they have for their executables."""

    def __init__(self, deployment, server, caller):
        self.deployment = deployment
        self.names = (server, caller)
        paths = [f"unix:path:{executable(name)}" for name in self.names]
        self.server_id, _ = deployment.create_entry("/server", paths[0])
        self.caller_id, _ = deployment.create_entry("/caller", paths[1])
        deployment.start_agent()

    def start(self, server_expects, caller_expects):
        server, caller = self.names
        self.server = self.deployment.client(server, "serve", server_expects)
        port = self.server.event("listening")["port"]
        self.caller = self.deployment.client(caller, "dial", str(port), caller_expects)
        self.caller.event("ready")

    def end(self):
        self.caller.rest()
        self.server.rest()


@pairs
def test_each_knows_the_other_through_a_rotation_of_the_authority(server, caller, deploy):
    deployment = deploy(ca_ttl="30s")
    pair = Pair(deployment, server, caller)
    pair.start(pair.caller_id, pair.server_id)
    # Whatever it is told is an occasion to connect.
    watcher = deployment.client(caller, "watch", "nobody")
    bundles, servers, callers = [], [], []
    rotated = lambda leaves: issuer_key_id(leaves[-1]) not in bundles[0]
    while not (servers and rotated(servers) and rotated(callers) and not bundles[0] & bundles[-1]):
        event = watcher.next_event("the end of the first authority")
        if event.name != "x509":
            assert event.name == "jwt_bundles", event
            continue
        bundles.append({key_id(certificate(it)) for it in event["bundles"][TRUST_DOMAIN]})
        for number in range(3):
            text = f"{len(bundles)}.{number}"
            pair.caller.tell(text)
            reply = pair.caller.next_event()
            assert (reply.name, reply.get("text")) == ("reply", text), reply
            peer = pair.server.next_event()
            assert peer.name == "peer", peer
            servers.append(certificate(reply["leaf"]))
            callers.append(certificate(peer["leaf"]))
    assert {spiffe_id(leaf) for leaf in servers} == {pair.server_id}
    assert {spiffe_id(leaf) for leaf in callers} == {pair.caller_id}
    assert len({leaf.serial_number for leaf in servers}) > 2
    pair.end()


@pairs
@pytest.mark.parametrize("mistaken", ["server", "caller"])
def test_a_peer_with_another_identity_is_refused(server, caller, mistaken, deploy):
    pair = Pair(deploy(), server, caller)
    another = f"spiffe://{TRUST_DOMAIN}/another"
    pair.start(
        another if mistaken == "server" else pair.caller_id,
        another if mistaken == "caller" else pair.server_id,
    )
    pair.caller.tell("hello")
    assert pair.caller.next_event().name == "refused"
    assert pair.server.next_event().name == "refused"
    pair.end()
