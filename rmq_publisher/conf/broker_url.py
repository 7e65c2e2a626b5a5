"""Parses broker URLs. No error repeats a URL, so none shows a password."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rmq_publisher.amqp.validation import TopologyError, check_name
from rmq_publisher.conf.validators import SettingError, secret

BAD_URL = "rmq_publisher.E003"

_PORTS = {"amqp": 5672, "amqps": 5671}
_EXAMPLE = "Write it like amqp://user@host:5672/vhost (and the password in RMQ_PASSWORD)"
_SEVERAL = (
    "Set a list of URLs, one for each node: "
    '["amqp://user@host1:5672/vhost", "amqp://user@host2:5672/vhost"]'
)
_ENCODE = (
    "Percent-encode what is special in a user, password or vhost: @ as %40, : as %3A, / as %2F, "
    "? as %3F, # as %23, % as %25; or put the password into RMQ_PASSWORD as it is"
)
# Options that pika, kombu and the official clients accept in a query string.
_SETTINGS_OF_QUERIES = {
    "heartbeat": "RMQ_HEARTBEAT",
    "connection_timeout": "RMQ_CONNECT_TIMEOUT",
    "socket_timeout": "RMQ_CONNECT_TIMEOUT",
    "stack_timeout": "RMQ_CONNECT_TIMEOUT",
    "connect_timeout": "RMQ_CONNECT_TIMEOUT",
    "blocked_connection_timeout": "RMQ_PUBLISH_TIMEOUT",
    "timeout": "RMQ_PUBLISH_TIMEOUT",
    "ssl": "an amqps:// URL and RMQ_TLS",
    "ssl_options": "RMQ_TLS",
    "cacertfile": "RMQ_TLS",
    "certfile": "RMQ_TLS",
    "keyfile": "RMQ_TLS",
    "cafile": "RMQ_TLS",
    "verify": "RMQ_TLS (verification cannot be turned off)",
    "no_verify_ssl": "RMQ_TLS (verification cannot be turned off)",
    "server_name_indication": "RMQ_TLS",
}


@dataclass(frozen=True)
class Node:
    """One node of a broker.

    Attributes:
        host: its name or address, without brackets.
        port: its TCP port.
        vhost: the virtual host.
        tls: whether to speak TLS.
    """

    host: str
    port: int
    vhost: str
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Broker:
    """The contents of a URL, or of a list of URLs.

    Attributes:
        nodes: in the given order; empty for ``memory://``.
        username: None if the URL has none.
        password: None if the URL has none.
    """

    scheme: str
    nodes: tuple[Node, ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse(value: object) -> Broker:
    """Parse a URL or a list of URLs.

    Raises:
        SettingError: it is not valid, or the URLs of a list contradict each other.
    """
    if isinstance(value, str):
        return _parse_one(value)
    if not isinstance(value, list | tuple) or not all(isinstance(url, str) for url in value):
        raise _bad("must be a str or a list of them", _EXAMPLE)
    return _merged([_parse_item(place, url) for place, url in enumerate(value, start=1)])


def _bad(text: str, hint: str) -> SettingError:
    return SettingError(text, f"{hint}.", BAD_URL)


def _parse_item(place: int, url: str) -> Broker:
    try:
        return _parse_one(url)
    except SettingError as bad:
        raise SettingError(f"{bad.text} (URL {place} of the list)", bad.hint, bad.id) from None


def _merged(brokers: Sequence[Broker]) -> Broker:
    """Join the nodes of a cluster; one connection has one login, one vhost and one scheme."""
    first = brokers[0]
    for broker in brokers[1:]:
        for what, same in (
            ("schemes", broker.scheme == first.scheme),
            ("vhosts", _vhosts(broker) == _vhosts(first)),
            ("users", broker.username == first.username),
            ("passwords", broker.password == first.password),
        ):
            if not same:
                raise _bad(
                    f"lists nodes of different {what}",
                    "The URLs of one list are nodes of one cluster and differ in host and port "
                    "only; for another broker add an alias to RMQ_CONNECTIONS",
                )
    nodes = dict.fromkeys(node for broker in brokers for node in broker.nodes)
    return replace(first, nodes=tuple(nodes))


def _vhosts(broker: Broker) -> set[str]:
    return {node.vhost for node in broker.nodes}


def _parse_one(url: str) -> Broker:
    if _names_several_hosts(url):
        raise _bad("names several hosts", _SEVERAL)
    # urlsplit would silently remove tabs and line ends.
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise _bad("contains a space or a control character", _ENCODE)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # `from None`: urllib's message repeats parts of the URL, perhaps of the password.
        raise _bad("is not a valid URL", _ENCODE) from None
    if parts.scheme not in (*_PORTS, "memory") or not url[len(parts.scheme) :].startswith("://"):
        raise _bad("must begin with amqp://, amqps:// or memory://", _EXAMPLE)
    _refuse_extras(parts)
    if parts.scheme == "memory":
        if parts.netloc or parts.path not in ("", "/"):
            raise _bad("has something after memory://", 'Write it as "memory://"')
        return Broker("memory")
    if port == 0:
        raise _bad("names port 0", "Write a port from 1 to 65535, or none for the usual one")
    node = Node(
        host=_host(parts),
        port=port or _PORTS[parts.scheme],
        vhost=_vhost(parts.path),
        tls=parts.scheme == "amqps",
    )
    return Broker(
        parts.scheme,
        (node,),
        # "amqp://:password@host" names no user, and neither does "amqp://host".
        username=_decoded(parts.username) if parts.username else None,
        password=None if parts.password is None else _decoded(parts.password),
    )


def _names_several_hosts(url: str) -> bool:
    """Tell whether a URL lists the nodes of a cluster, in one of the ways that other clients know."""
    if re.search(r"\S[,;\s]+(amqps?|memory)://", url):
        return True
    netloc = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "," in (hosts := netloc.rpartition("@")[2]) or ";" in hosts:
        return True
    # The user and password of a second host; a comma in a password has no user and colon behind it.
    return re.search(r"@[\w.-]+(:\d+)?[,;][^@:]+:[^@]*@", netloc) is not None


def _refuse_extras(parts: SplitResult) -> None:
    if parts.fragment:
        raise _bad("contains a #", _ENCODE)
    if parts.query:
        # Repeat only known names: what follows an unencoded "?" may be part of a password.
        named = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
        for key in named:
            if key.lower() in _SETTINGS_OF_QUERIES:
                setting = _SETTINGS_OF_QUERIES[key.lower()]
                raise _bad(f"has a query string ({key.lower()})", f"Use {setting} instead")
        raise _bad(
            "has a query string, which is not read here",
            "Options have settings of their own (RMQ_HEARTBEAT, RMQ_CONNECT_TIMEOUT, RMQ_TLS); "
            "a ? in a password is written %3F",
        )


def _host(parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise _bad("has no host", _EXAMPLE)
    if "[" in parts.netloc.rpartition("@")[2]:
        return host
    if not re.fullmatch(r"[\w.-]+", host):
        raise _bad("names a host with an invalid character", _ENCODE)
    return host


def _vhost(path: str) -> str:
    if path in ("", "/", "//"):
        return "/"
    # An "@" or a second "/" here usually comes from a password that was not encoded.
    if "/" in path[1:] or "@" in path:
        raise _bad("has an unencoded / or @ after the host", _ENCODE)
    try:
        return check_name("its vhost", _decoded(path[1:]))
    except TopologyError as error:
        raise _bad(f"has an invalid vhost: {error}", "Name a vhost of 1 to 255 bytes") from None


def _decoded(text: str) -> str:
    try:
        return secret(unquote(text, errors="strict"))
    except UnicodeDecodeError:
        raise _bad("has percent-encoding that is not UTF-8", _ENCODE) from None
    except SettingError as bad:
        raise _bad(bad.text, _ENCODE) from None
