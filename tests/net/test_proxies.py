"""Which proxy the environment names for an address."""

from __future__ import annotations

import pytest

from bintrades.errors import ConfigError
from bintrades.net.proxies import proxy_for

STREAMS, REST = "wss://stream.binance.com:9443", "https://api.binance.com"
PLAIN_STREAMS, PLAIN_REST = "ws://stream.test", "http://rest.test:8080"
ALL = (STREAMS, REST, PLAIN_STREAMS, PLAIN_REST)


def chosen(url: str, **environ: str) -> str:
    """Return the proxy for *url*, nothing for none."""
    return str(proxy_for(url, environ) or "")


@pytest.mark.parametrize("url", ALL)
def test_without_a_variable_there_is_no_proxy(url: str) -> None:
    assert chosen(url, NO_PROXY="*", PATH="http://proxy") == ""


@pytest.mark.parametrize("capitals", [False, True])
def test_streams_and_rest_go_through_the_same_proxy(capitals: bool) -> None:
    https, http = ("HTTPS_PROXY", "HTTP_PROXY") if capitals else ("https_proxy", "http_proxy")
    environ = {https: "http://secure:1", http: "http://plain:2"}

    assert {chosen(url, **environ) for url in (STREAMS, REST)} == {f"http://secure:1 ({https})"}
    assert {chosen(url, **environ) for url in (PLAIN_STREAMS, PLAIN_REST)} == {
        f"http://plain:2 ({http})"
    }


@pytest.mark.parametrize("url", ALL)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy"])
def test_one_for_all_serves_where_no_other_is_named(url: str, variable: str) -> None:
    assert chosen(url, **{variable: "socks5://p"}) == f"socks5://p:1080 ({variable})"
    mine = {"HTTPS_PROXY": "http://p", "HTTP_PROXY": "http://p", variable: "http://q"}
    assert chosen(url, **mine).startswith("http://p:80 ")


def test_small_letters_win_and_nothing_in_them_means_no_proxy() -> None:
    assert chosen(REST, HTTPS_PROXY="http://a", https_proxy="http://b") == (
        "http://b:80 (https_proxy)"
    )
    assert chosen(REST, HTTPS_PROXY="http://a", https_proxy="", ALL_PROXY="http://c") == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("proxy", "http://proxy:80"),
        ("proxy:3128", "http://proxy:3128"),
        (" http://proxy:3128/ ", "http://proxy:3128"),
        ("https://proxy", "https://proxy:443"),
        ("socks5h://proxy", "socks5h://proxy:1080"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_what_a_proxy_may_look_like(value: str, shown: str) -> None:
    assert chosen(REST, HTTPS_PROXY=value) == f"{shown} (HTTPS_PROXY)"


def test_user_and_password_are_decoded_and_never_shown() -> None:
    proxy = proxy_for(REST, {"HTTPS_PROXY": "http://me%40home:s%3Acret@proxy:3128"})

    assert proxy is not None
    assert (proxy.user, proxy.password) == ("me@home", "s:cret")
    assert "cret" not in f"{proxy} {proxy!r}"
    assert "home" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize(
    "value",
    [
        "carrier-pigeon://x",
        "socks4://proxy",
        "ftp://proxy",
        "http://",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:70000",
        "http://proxy:port",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("url", ALL)
def test_a_proxy_that_cannot_be_used_is_a_configuration_error(url: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"^ALL_PROXY=.*; allowed: http://, https://, socks5://"):
        chosen(url, ALL_PROXY=value)


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(ConfigError) as raised:
        chosen(REST, ALL_PROXY="socks4://me:secret@proxy")

    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError, match="longer than 255 bytes") as raised:
        chosen(REST, ALL_PROXY=f"socks5://me:{'s' * 256}@proxy")
    assert "sss" not in str(raised.value)


@pytest.mark.parametrize(
    ("excepted", "is_excepted"),
    [
        ("*", True),
        ("api.binance.com", True),
        ("binance.com", True),
        (".binance.com", True),
        ("*.binance.com", True),
        ("BINANCE.COM", True),
        ("localhost, api.binance.com ,x", True),
        ("localhost api.binance.com", True),
        ("api.binance.com:443", True),
        ("api.binance.com:9443", False),
        ("pi.binance.com", False),
        ("nance.com", False),
        ("stream.binance.com", False),
        ("", False),
        (",, .", False),
        ("10.0.0.0/8", False),
    ],
)
def test_hosts_that_need_no_proxy(excepted: str, is_excepted: bool) -> None:
    environ = {"HTTPS_PROXY": "http://proxy", "no_proxy": excepted}

    assert (chosen(REST, **environ) == "") is is_excepted


@pytest.mark.parametrize(
    ("host", "excepted", "is_excepted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:80", True),
        ("10.1.2.3", "10.1.2.3:81", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("11.1.2.3", "1.2.3", False),
        ("[2001:db8::7]", "2001:db8::/32", True),
        ("[2001:db8::7]", "2001:db8:0::7", True),
        ("[2001:db8::7]", "[2001:db8::7]:80", True),
        ("[2001:db8::7]", "[2001:db8::7]:81", False),
        ("[2001:db8::7]", "2001:db9::/32", False),
    ],
)
def test_networks_that_need_no_proxy(host: str, excepted: str, is_excepted: bool) -> None:
    environ = {"HTTP_PROXY": "http://proxy", "NO_PROXY": excepted}

    assert (chosen(f"http://{host}", **environ) == "") is is_excepted
