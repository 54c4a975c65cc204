"""Makes Kombu know the schemes ``qos://`` and ``qoss://``, and those for Sentinel.

Kombu has no entry points for transports, but loads those of its serializers whenever it is imported. This module is
named by one, so a broker URL works without an import of celery_qos. An exception here would break every import of
Kombu, so the module stays this small.
"""
from kombu.transport import TRANSPORT_ALIASES

TRANSPORT_ALIASES.setdefault('qos', 'celery_qos.transport:Transport')
TRANSPORT_ALIASES.setdefault('qoss', 'celery_qos.transport:Transport')
TRANSPORT_ALIASES.setdefault('qos-sentinel', 'celery_qos.sentinel:SentinelTransport')
TRANSPORT_ALIASES.setdefault('qoss-sentinel', 'celery_qos.sentinel:SentinelTransport')

#: What Kombu passes on to ``kombu.serialization.register``: no encoder, no decoder.
serializer = (None, None, 'application/x-celery-qos')
