"""Each SPIFFE client, in its released version, through what happens to a workload in its life."""

import base64
import json
import os
import signal

import pytest

from chain import certificate, is_valid_at, issuer_key_id, key_id, leaf, public_key
from chain import spiffe_id, verify_with_openssl
from deployment import TRUST_DOMAIN

NOBODY = 65534
AUDIENCE = "billing"

# An authority lives this long, an SVID a sixth of it: the shortest that a server takes.
SHORT = "30s"


def ids(event):
    return [svid["id"] for svid in event["svids"]]


def header(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def check_x509(event, directory):
    """What is true of every update, whenever it comes."""
    authorities = event["bundles"][TRUST_DOMAIN]
    for svid in event["svids"]:
        assert spiffe_id(leaf(svid)) == svid["id"]
        assert is_valid_at(leaf(svid), event.at)
        verify_with_openssl(directory, svid["chain"], authorities, event.at)


def check_jwt(event, expected):
    assert (event["id"], event["locally"], event["by_agent"]) == (expected,) * 3


def test_watches_through_a_rotation_of_svid_and_authorities(name, deploy, me, tmp_path):
    deployment = deploy(ca_ttl=SHORT)
    web, _ = deployment.create_entry("/web", me)
    deployment.start_agent()
    client = deployment.client(name, "watch", AUDIENCE)

    svids, bundles, key_sets, signers = [], [], [], []
    first = lambda values: values[0] if values else set()
    rotated = lambda sets, signers: (
        len(sets) > 1 and signers and signers[-1] not in first(sets) and not first(sets) & sets[-1]
    )
    while not (rotated(bundles, [issuer_key_id(svid) for svid in svids])
               and rotated(key_sets, signers)):
        event = client.next_event("the end of the first authorities")
        if event.name == "x509":
            check_x509(event, tmp_path)
            assert ids(event) == [web]
            svids.append(leaf(event["svids"][0]))
            bundles.append({key_id(certificate(it)) for it in event["bundles"][TRUST_DOMAIN]})
            # Every update is an occasion to ask for a token.
            client.tell("token")
        elif event.name == "jwt_bundles":
            key_sets.append(set(event["bundles"][TRUST_DOMAIN]))
        else:
            assert event.name == "jwt", event
            check_jwt(event, web)
            signers.append(header(event["token"])["kid"])

    # A key is used for one certificate, and no certificate follows one that was better.
    keys = {public_key(svid) for svid in svids}
    assert len(keys) == len({svid.serial_number for svid in svids}) > 3
    ends = [svid.not_valid_after_utc for svid in svids]
    assert ends == sorted(ends)
    # Whoever signs was published before.
    assert {issuer_key_id(svid) for svid in svids[1:]} - bundles[0] <= set().union(*bundles[:-1])
    events = client.rest()
    assert {event.name for event in events} <= {"x509", "jwt_bundles", "jwt", "closed"}


@pytest.mark.parametrize("uid", [None, NOBODY], ids=["self", "nobody"])
def test_fetches_what_its_user_is_entitled_to(name, deploy, uid, tmp_path):
    if uid is not None and os.getuid() != 0:
        pytest.skip("only root can become another user")
    deployment = deploy()
    deployment.create_entry("/someone-else", f"unix:uid:{NOBODY - 1}")
    wanted = os.getuid() if uid is None else uid
    mine = [deployment.create_entry(path, f"unix:uid:{wanted}")[0] for path in ("/one", "/two")]
    deployment.start_agent()
    events = deployment.client(name, "fetch", AUDIENCE, uid=uid).rest()

    [x509] = [event for event in events if event.name == "x509"]
    assert sorted(ids(x509)) == mine
    check_x509(x509, tmp_path)
    [x509_bundles] = [event for event in events if event.name == "x509_bundles"]
    assert x509_bundles["bundles"] == x509["bundles"]
    [key_ids] = [event["bundles"] for event in events if event.name == "jwt_bundles"]
    tokens = [event for event in events if event.name == "jwt"]
    assert [token["id"] for token in tokens] == ids(x509)
    for token in tokens:
        check_jwt(token, token["id"])
        assert header(token["token"])["kid"] in key_ids[TRUST_DOMAIN]
    # The one thing that fails is to have a token accepted for another audience.
    failures = [(event["call"], event["code"]) for event in events if event.name == "failed"]
    assert failures == [("validate", "INVALID_ARGUMENT")] * len(tokens)


def test_is_refused_what_it_is_not_entitled_to(name, deploy):
    deployment = deploy()
    deployment.create_entry("/someone-else", f"unix:uid:{os.getuid() + 1}")
    deployment.start_agent()
    events = deployment.client(name, "fetch", AUDIENCE).rest()
    calls = ("x509", "x509_bundles", "jwt_bundles", "jwt")
    denied = [{"event": "failed", "call": call, "code": "PERMISSION_DENIED"} for call in calls]
    assert events[:-1] == denied


def test_loses_what_is_deleted_and_gets_it_back(name, deploy, me):
    deployment = deploy()
    one, one_entry = deployment.create_entry("/one", me)
    two, two_entry = deployment.create_entry("/two", me)
    deployment.start_agent()
    client = deployment.client(name, "watch", AUDIENCE)
    x509, _ = client.both("x509", "jwt_bundles")
    assert sorted(ids(x509)) == [one, two]

    deployment.delete_entry(two_entry)
    assert ids(client.event("x509")) == [one]

    deployment.delete_entry(one_entry)
    assert client.next_event().get("code") == "PERMISSION_DENIED"
    client.tell("token")
    assert client.event("failed")["code"] == "PERMISSION_DENIED"

    deployment.create_entry("/one", me)
    assert ids(client.event("x509")) == [one]
    client.tell("token")
    check_jwt(client.event("jwt"), one)
    names = [event.name for event in client.rest()]
    assert "ended" not in names and names.count("x509") == 3


def test_gets_the_bundles_that_its_entry_names_and_no_longer_than_it_does(name, deploy, me):
    deployment = deploy()
    # What is in it does not matter here, so it is that of the own trust domain.
    foreign = deployment.dir / "foreign.json"
    foreign.write_text(deployment.admin("bundle", "show", "--format", "spiffe"))
    load = ["bundle", "set", "--format", "spiffe", "--path", foreign, "--id"]
    for domain in ("named.example", "not-named.example"):
        deployment.admin(*load, domain)
    deployment.create_entry("/web", me, federates_with=["named.example"])
    deployment.start_agent()
    client = deployment.client(name, "watch", AUDIENCE)

    for event in client.both("x509", "jwt_bundles"):
        both = event["bundles"]
        assert sorted(both) == sorted([TRUST_DOMAIN, "named.example"])
        assert both["named.example"] == both[TRUST_DOMAIN] != []
    deployment.admin("bundle", "delete", "--id", "named.example", "--mode", "dissociate")
    for event in client.both("x509", "jwt_bundles"):
        assert list(event["bundles"]) == [TRUST_DOMAIN]
    assert {event.name for event in client.rest()} == {"x509", "jwt_bundles", "closed"}


def test_outlives_an_agent_that_stops_or_dies(name, deploy, me):
    deployment = deploy()
    web, _ = deployment.create_entry("/web", me)
    deployment.start_agent()
    client = deployment.client(name, "watch", AUDIENCE)
    x509, _ = client.both("x509", "jwt_bundles")
    seen = [leaf(x509["svids"][0])]

    for how, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        ended, took = deployment.stop_agent(how)
        assert ended == status and took < 10
        lost = client.event("lost")
        # What a connection that broke is called is the client's own affair.
        assert lost["code"] == "UNAVAILABLE" or how == signal.SIGKILL, lost
        assert lost["retries"]
        deployment.start_agent_again()
        x509 = client.event("x509")
        assert ids(x509) == [web]
        seen.append(leaf(x509["svids"][0]))
    # An agent that starts knows nothing of the keys that the last one had.
    assert len({public_key(svid) for svid in seen}) == 3
    names = {event.name for event in client.rest()}
    assert "ended" not in names
