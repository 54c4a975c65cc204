"""Where the broker is, from its URL: host, credentials, and whether TLS is asked for."""
from __future__ import annotations

import ssl
from typing import Any

from kombu.utils.url import parse_url

from .errors import ConfigError

__all__ = ('take_address', 'SCHEMES')

#: Schemes of a broker URL, and whether they ask for TLS.
SCHEMES = {'qos': False, 'qoss': True, 'redis': False, 'rediss': True}

_PARTS = ('transport', 'hostname', 'port', 'userid', 'password', 'virtual_host', 'ssl')


def take_address(client: Any) -> None:
    """Take the URL of a `kombu.Connection` apart, as Kombu does for transports that leave it to Kombu.

    Kombu knows of TLS by the literal scheme ``rediss`` only, and drops the scheme where ``broker_transport`` names the
    transport; TLS that was asked for must never end as plaintext.

    Raises:
        ConfigError: the URL has an option that does not exist, or asks for TLS over a unix socket.
    """
    scheme = client.transport_cls
    if isinstance(client.hostname, str) and client.hostname.partition('://')[0] in SCHEMES:
        parts = parse_url(client.hostname)
        scheme = parts['transport']
        for option in parts:
            if option not in _PARTS:
                raise ConfigError(f'broker URL: option {option!r} is unknown; an URL takes ssl_* options only, the '
                                  f'others belong into broker_transport_options')
        client.hostname, client.port = parts['hostname'], parts['port']
        client.userid, client.password = parts['userid'], parts['password']
        client.virtual_host = parts['virtual_host'] or '/'
        client.ssl = parts.get('ssl') or client.ssl
    if SCHEMES.get(scheme) or client.ssl is True:
        if '://' in (client.hostname or ''):
            raise ConfigError(f'broker URL: TLS over a unix socket is not possible: {scheme}+socket://')
        options = client.ssl if isinstance(client.ssl, dict) else {}
        client.ssl = {'ssl_cert_reqs': ssl.CERT_REQUIRED, **options}
    _keep_transport(client)


def _keep_transport(client: Any) -> None:
    """Failover goes by each URL's scheme: with ``broker_transport`` it would silently fall back to the stock transport."""
    ours = {'redis': 'qos', 'rediss': 'qoss'}
    alternates = [_with_scheme(url, ours) for url in client.alt or ()]
    if alternates != list(client.alt or ()):
        client.alt[:] = alternates
        client.cycle = client.failover_strategy(client.alt)
        next(client.cycle)


def _with_scheme(url: str, schemes: dict[str, str]) -> str:
    scheme, separator, rest = url.partition('://')
    return schemes.get(scheme, scheme) + separator + rest
