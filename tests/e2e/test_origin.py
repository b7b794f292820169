"""Web pages that may and may not use the service from a browser."""
import pytest

from conftest import Starlane
from service import Service


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory):
    with Service(Starlane(tmp_path_factory.mktemp("origin")), "--origins",
                 "https://chat.example") as server:
        yield server


def ask(server, method="GET", path="/v1/models", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request(method, path, headers=names, expect=None)


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://chat.example"])
def test_allowed_pages_get_the_headers_they_need(server, origin):
    answer = ask(server, Origin=origin)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags"])
def test_other_pages_are_refused(server, path):
    answer = ask(server, path=path, Origin="https://evil.example")
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert "origin" in answer.text


def test_a_name_that_was_made_to_lead_here_is_refused(server):
    assert ask(server, Host="evil.example").status == 403
    assert ask(server, Host="chat.example").status == 200
    assert ask(server, Host="localhost:1234").status == 200


def test_preflight(server):
    path = "/v1/chat/completions"
    answer = ask(server, "OPTIONS", path, Origin="http://localhost:3000",
                 Access_Control_Request_Method="POST")
    assert (answer.status, answer.body) == (204, b"")
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert ask(server, "OPTIONS", path, Origin="http://evil.example").status == 403
