"""Where the broker is, from its URL: host, credentials, and whether TLS is asked for."""
from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from kombu.utils.url import parse_url, url_to_parts
from redis import SSLConnection

from .errors import ConfigError

__all__ = ('take_address', 'SCHEMES', 'SENTINEL_SCHEMES', 'TLSConnection')

#: Schemes of a broker URL, and whether they ask for TLS.
SCHEMES = {'qos': False, 'qoss': True, 'redis': False, 'rediss': True}
#: The same of a URL that names a Sentinel.
SENTINEL_SCHEMES = {'qos-sentinel': False, 'qoss-sentinel': True, 'sentinel': False}
#: Seconds that a TLS handshake may take: a server that expects plaintext waits for more of it, and never answers.
HANDSHAKE_TIMEOUT = 5.0

_PARTS = ('transport', 'hostname', 'port', 'userid', 'password', 'virtual_host', 'ssl')
_SOCKET_OPTIONS = ('virtual_host', 'credential_provider')


class TLSConnection(SSLConnection):
    """A connection whose handshake ends, also where no `socket_timeout` is set."""

    def _connect(self) -> Any:
        timeout = self.socket_timeout
        self.socket_timeout = timeout or HANDSHAKE_TIMEOUT
        try:
            sock = super()._connect()
        finally:
            self.socket_timeout = timeout
        sock.settimeout(timeout)
        return sock


def take_address(client: Any, schemes: Mapping[str, bool] = SCHEMES) -> None:
    """Take the URL of a `kombu.Connection` apart, as Kombu does for transports that leave it to Kombu.

    Kombu knows of TLS by the literal scheme ``rediss`` only, and drops the scheme where ``broker_transport`` names the
    transport; TLS that was asked for must never end as plaintext.

    Raises:
        ConfigError: the URL has an option that does not exist, or asks for TLS over a unix socket; or the URLs of
            several Sentinels contradict each other.
    """
    scheme = client.transport_cls
    for url in client.alt or ():
        if url.partition('://')[0] in schemes:
            _check_options(parse_url(url), _PARTS)
    if isinstance(client.hostname, str) and client.hostname.partition('://')[0] in schemes:
        parts = parse_url(client.hostname)
        scheme = parts['transport']
        _check_options(parts, _PARTS)
        client.hostname, client.port = parts['hostname'], parts['port']
        client.userid, client.password = parts['userid'], parts['password']
        client.virtual_host = parts['virtual_host'] or '/'
        client.ssl = parts.get('ssl') or client.ssl
    if schemes is SENTINEL_SCHEMES:
        _share(client)
    given, separator, _ = str(client.hostname or '').partition('://')
    socket = given == 'socket' and schemes is SCHEMES
    if separator and not socket:
        # Kombu would take it for a unix socket, and silently connect to localhost.
        raise ConfigError(_unknown_scheme(given, schemes))
    if socket:
        _check_options(url_to_parts(client.hostname).query, _SOCKET_OPTIONS)
    if schemes.get(scheme) or client.ssl:
        if socket:
            raise ConfigError('broker URL: TLS over a unix socket is not possible')
        client.ssl = _tls_options(client.ssl)
    _keep_transport(client)


def _unknown_scheme(scheme: str, schemes: Mapping[str, bool]) -> str:
    text = f'broker URL: scheme {scheme!r} is not one of {", ".join(schemes)}'
    if scheme in SENTINEL_SCHEMES:
        text += "; for Sentinel, broker_transport is 'celery_qos.sentinel:SentinelTransport'"
    return text


def _share(client: Any) -> None:
    """Sentinels watch one Redis server: what the URL of one of them says about it holds for all."""
    urls = [(url.partition('://')[0], parse_url(url)) for url in client.alt or () if '://' in url]
    if len(urls) < len(client.alt or ()):
        raise ConfigError('broker URL: each Sentinel, between the semicolons, needs a URL of its own')
    for scheme, _ in urls:
        if scheme not in SENTINEL_SCHEMES:
            raise ConfigError(_unknown_scheme(scheme, SENTINEL_SCHEMES))
    if len({SENTINEL_SCHEMES[scheme] for scheme, _ in urls}) > 1:
        raise ConfigError('broker URL: all Sentinels must have the same scheme')
    for option in 'userid', 'password', 'virtual_host', 'ssl':
        said = [parts[option] for _, parts in urls if parts.get(option)]
        if said:
            if any(other != said[0] for other in said):
                raise ConfigError(f'broker URL: the URLs of its Sentinels contradict each other: {option}')
            setattr(client, option, said[0])


def _check_options(given: Iterable[str], known: Iterable[str]) -> None:
    for option in given:
        if option not in known:
            raise ConfigError(f'broker URL: option {option!r} is unknown; a URL takes ssl_* options, that of a unix '
                              f'socket virtual_host; the others belong in broker_transport_options')


def _tls_options(given: Any) -> dict[str, Any]:
    """What Kombu passes on to redis-py; the server's certificate and name are verified where nothing else is said."""
    if not isinstance(given, Mapping):
        if given not in (True, False, None):
            # Kombu would go on in plaintext.
            raise ConfigError(f'broker_use_ssl: {given!r} is neither True nor a mapping of ssl_* options')
        given = {}
    known = [name for name in inspect.signature(SSLConnection.__init__).parameters if name.startswith('ssl')]
    for option in given:
        if option not in known:
            near = get_close_matches(f'ssl_{option.removeprefix("ssl_")}', known, n=1)
            hint = f'did you mean {near[0]!r}?' if near else 'one of ' + ', '.join(map(repr, known))
            raise ConfigError(f'broker_use_ssl: option {option!r} is unknown; {hint}')
    options = {'ssl_cert_reqs': ssl.CERT_REQUIRED, **given}
    # redis-py before 6 does not compare the name in the certificate unless it is told to.
    options.setdefault('ssl_check_hostname', options['ssl_cert_reqs'] not in (ssl.CERT_NONE, 'none', None))
    return options


def _keep_transport(client: Any) -> None:
    """Failover goes by each URL's scheme: ``broker_transport`` would silently fall back to the stock transport."""
    ours = {'redis': 'qos', 'rediss': 'qoss', 'sentinel': 'qos-sentinel'}
    alternates = [_with_scheme(url, ours) for url in client.alt or ()]
    if alternates != list(client.alt or ()):
        client.alt[:] = alternates
        client.cycle = client.failover_strategy(client.alt)
        next(client.cycle)


def _with_scheme(url: str, schemes: dict[str, str]) -> str:
    scheme, separator, rest = url.partition('://')
    return schemes.get(scheme, scheme) + separator + rest
