"""What the tests of real clients are given."""

import os
from itertools import zip_longest

import pytest

from deployment import BUILT, Deployment


@pytest.fixture(params=BUILT)
def name(request):
    """The name of each client in turn."""
    return request.param


@pytest.fixture
def deploy(request):
    """Makes deployments that end with the test; what went on in them is shown if it failed."""
    deployments = []

    def make(**options):
        deployments.append(Deployment(**options))
        return deployments[-1]

    yield make
    for deployment in deployments:
        if request.node.stash.get(FAILED, False):
            print(deployment)
        deployment.close()


@pytest.fixture
def me():
    """A selector that every client of this user has."""
    return f"unix:uid:{os.getuid()}"


def pytest_collection_modifyitems(items):
    """Lets all tests begin at once that wait for a rotation: each worker is dealt two at first."""
    slow = [item for item in items if "rotation" in item.name]
    quick = [item for item in items if item not in slow]
    items[:] = [item for two in zip_longest(slow, quick) for item in two if item]


FAILED = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report
