"""The laboratory of tests/netlab for tests: imported here, skipped where it cannot be."""
import contextlib
import pathlib
import sys

import pytest

NETLAB = pathlib.Path(__file__).resolve().parent.parent / "netlab"
sys.path.insert(0, str(NETLAB))

import netlab  # pylint: disable=wrong-import-position
import netlab_spec  # pylint: disable=wrong-import-position

FIVE = NETLAB / "five.yaml"


@contextlib.contextmanager
def laboratory(declaration):
    """`with laboratory({...}) as lab`; a test that cannot have it is skipped with the reason."""
    reason = netlab.missing(netlab_spec.Spec(declaration))
    if reason:
        pytest.skip(reason)
    with netlab.Lab(declaration) as lab:
        yield lab
