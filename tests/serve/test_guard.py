"""Who may look: this machine by its own names, or whoever shows the token."""

import pytest

from serve.test_app import HERE, client

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321", "127.0.0.1"])
def test_this_machine_needs_no_token(grow, host):
    assert client(grow(1)).get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:8321", "127.0.0.1.evil.example", "0.0.0.0", "192.168.0.7", ""],
)
def test_without_a_token_names_of_others_are_refused(grow, host):
    answer = client(grow(1)).get("/api/state", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("this server answers to localhost and 127.0.0.1 only")


@pytest.mark.parametrize("address", ["/", "/api/state", "/openapi.json", "/docs", "/nothing"])
def test_with_a_token_nothing_is_told_without_it(grow, address):
    ask = client(grow(1), TOKEN)
    for headers, start in [
        ({}, "this server asks for a token"),
        ({"Authorization": "Bearer wrong"}, "this is not the token"),
        ({"Authorization": f"Basic {TOKEN}"}, "this is not the token"),
        ({"Authorization": "Bearer \xe9"}, "this is not the token"),
        ({"Cookie": "a=b; ipfl-x=y; ;;="}, "this server asks for a token"),
    ]:
        answer = ask.get(address, headers={key: value.encode("latin-1") for key, value in headers.items()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["detail"].startswith(start)
    assert ask.get(f"{address}?token=").status_code == 401
    assert ask.get(f"{address}?token=%ff").status_code == 401
    assert ask.get(f"{address}?token={TOKEN}&token=x").status_code == 401


def test_the_token_as_a_header_under_any_name(grow):
    ask = client(grow(1), TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "market.example"}
    assert ask.get("/api/state", headers=headers).status_code == 200


def test_the_token_in_the_address_becomes_a_cookie(grow):
    ask = client(grow(1), TOKEN)
    answer = ask.get(f"/api/edges?token={TOKEN}&round_index=0")
    assert (answer.status_code, answer.headers["location"]) == (303, "./edges?round_index=0")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert ask.get("/api/state").status_code == 200  # the client keeps cookies
    assert ask.get("/").status_code == 200
    other = client(grow(1), TOKEN + "-another")
    other.cookies = ask.cookies
    assert other.get("/api/state").status_code == 401


def test_the_redirect_leads_to_this_server_only(grow):
    ask = client(grow(1), TOKEN)
    assert ask.get(f"/?token={TOKEN}").headers["location"] == "./"
    for path in ("//evil.example", "//evil.example/x", "/%5Cevil.example", "/%0d%0aX-A:b"):
        location = ask.get(f"{HERE}{path}?token={TOKEN}").headers["location"]
        assert location.startswith("./")
        assert "\n" not in location
    secure = client(grow(1), TOKEN, base_url="https://market.example").get(f"/?token={TOKEN}")
    assert "Secure" in secure.headers["set-cookie"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_shows(grow, method):
    answer = client(grow(1)).request(method, "/api/state")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json() == {"detail": "this server only shows: ask with GET or HEAD"}


@pytest.mark.parametrize(
    "address", ["/", "/docs", "/api/state", "/api/rounds/9", "/nothing", "/api/rounds/x"]
)
def test_headers_stand_on_every_answer_and_head_is_get_without_a_body(grow, address):
    ask = client(grow(1))
    answers = [
        ask.get(address),
        ask.head(address),
        ask.post(address),
        ask.get(address, headers={"Host": "evil.example"}),
    ]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    found, head = answers[:2]
    assert (head.status_code, head.content) == (found.status_code, b"")
    assert head.headers["content-length"] == found.headers["content-length"]
