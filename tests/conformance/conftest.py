import os

import pytest

from conformance.node_packages import NodePackages, NodePackagesMissingError, node_packages


@pytest.fixture(scope="session")
def packages() -> NodePackages:
    """The protocol's own test programs.

    Without a network the tests that need them are skipped, unless BAYESFLOW_REQUIRE_NODE is set.
    """
    try:
        return node_packages()
    except NodePackagesMissingError as error:
        if os.environ.get("BAYESFLOW_REQUIRE_NODE"):
            pytest.fail(str(error))
        pytest.skip(str(error))
