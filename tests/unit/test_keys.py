"""`celery_qos/keys.py` spells the same keys as `lua/lib/names.lua` and `lua/lib/keys.lua`."""
from __future__ import annotations

import re
from importlib.resources import files

import pytest

from celery_qos import keys
from celery_qos.store import SCHEMA_VERSION

LUA = files('celery_qos') / 'lua'
KEYS_LUA = ''.join((LUA / 'lib' / name).read_text() for name in ('names.lua', 'keys.lua'))
#: What the Lua files have of `keys`: key names, and the constants that are set.
USED = {name for folder in (LUA, LUA / 'lib', LUA / 'policy') for file in folder.iterdir() if file.name.endswith('.lua')
        for name in re.findall(r'keys\.([A-Z_]+)', file.read_text())}
CONSTANTS = set(re.findall(r'^  ([A-Z_]+) =', KEYS_LUA, re.MULTILINE))
#: The first part of keys that end with something else.
PREFIXES = {'READY', 'FINISH', 'PUBLISHED', 'TENANT'}
#: Names such as SETTINGS, which the functions of the Python file bear in small letters.
NAMES = sorted(USED - CONSTANTS - PREFIXES)

#: Keys of a node, of a stream or of a consumer.
FUNCTIONS = {'ready': keys.ready, 'finish': keys.finish, 'owing': keys.owing, 'aside': keys.aside,
             'waits': keys.waits, 'egress': keys.egress, 'running': keys.running, 'tenant_stream': keys.tenant_stream}


def spelled_by_lua(redis, ns: str, expression: str) -> str:
    return redis.eval(f'{KEYS_LUA}\nreturn keys.{expression}', 1, ns).decode()


def test_both_name_the_same_keys():
    others = {'GROUP', 'PART', 'ROOT', 'namespace', 'tenant_id', 'published'}
    assert {name.lower() for name in NAMES} == set(keys.__all__) - others - set(FUNCTIONS) | {'egress'}


@pytest.mark.parametrize('queue', ['celery', 'a b', 'ä', '{x}'])
@pytest.mark.parametrize('name', NAMES)
def test_both_spell_them_alike(redis, name, queue):
    ns = keys.namespace(queue, prefix='p:')
    assert spelled_by_lua(redis, ns, name) == getattr(keys, name.lower())(ns)


@pytest.mark.parametrize('name, argument', [
    *[(name, node) for name in ('ready', 'finish', 'owing') for node in (keys.ROOT, '', 'high', ':a', 'high:a\x1fb')],
    ('egress', 0), ('egress', 1), ('egress', 12), ('waits', 29_000_000), ('running', 'w')])
def test_both_spell_those_of_something_alike(redis, name, argument):
    ns = keys.namespace('q')
    value = argument if isinstance(argument, int) else f"'{argument}'"
    assert spelled_by_lua(redis, ns, f'{name}({value})') == FUNCTIONS[name](ns, argument)


@pytest.mark.parametrize('kind', ['ready', 'finish', 'owing'])
@pytest.mark.parametrize('node', [keys.ROOT, '', 'high'])
def test_both_spell_what_is_set_aside_alike(redis, kind, node):
    ns = keys.namespace('q')
    assert spelled_by_lua(redis, ns, f"aside('{kind}', '{node}')") == keys.aside(ns, kind, node)


@pytest.mark.parametrize('tenant', ['', 'a', 'a b', ':', '{', 'ä', 'a\x1fb'])
@pytest.mark.parametrize('sub_queue', ['', 'high'])
@pytest.mark.parametrize('priority', [0, 9])
def test_both_spell_tenant_streams_alike(redis, tenant, sub_queue, priority):
    ns, tenant_id = keys.namespace('q'), keys.tenant_id(tenant, sub_queue)
    in_lua = redis.eval(f'{KEYS_LUA}\nreturn keys.tenant_stream(ARGV[1], ARGV[2])', 1, ns, tenant_id, priority).decode()
    assert in_lua == keys.tenant_stream(ns, tenant, priority, sub_queue)


@pytest.mark.parametrize('tenant', ['', 'a', ':', 'a:b', 'a\x1fb'])
@pytest.mark.parametrize('sub_queue', ['', 'high'])
def test_lua_takes_ids_apart_as_python_makes_them(redis, tenant, sub_queue):
    tenant_id = keys.tenant_id(tenant, sub_queue)
    assert redis.eval(f'{KEYS_LUA}\nreturn {{keys.split(ARGV[1])}}', 1, 'ns', tenant_id) == [
        sub_queue.encode(), tenant.encode()]


@pytest.mark.parametrize('prefix, key', [
    ("READY .. ':'", keys.ready), ("FINISH .. ':'", keys.finish),
    ("PUBLISHED .. ':1'", lambda ns: keys.published(ns, 1)),
    ("TENANT .. ':5::' .. 'a'", lambda ns: keys.tenant_stream(ns, 'a', 5))])
def test_the_fast_path_spells_them_alike(redis, prefix, key):
    ns = keys.namespace('q')
    assert spelled_by_lua(redis, ns, prefix) == key(ns)


def test_both_name_the_group_and_the_schema_alike(redis):
    assert spelled_by_lua(redis, 'ns', 'GROUP') == keys.GROUP
    assert spelled_by_lua(redis, 'ns', 'SCHEMA') == SCHEMA_VERSION


def test_no_two_keys_are_the_same():
    ns = keys.namespace('q')
    spelled = [getattr(keys, name.lower())(ns) for name in NAMES]
    spelled += [keys.tenant_stream(ns, tenant, priority, sub_queue) for tenant in ('', '0:', ':', 'a')
                for priority in (0, 1) for sub_queue in ('', 'a')]
    nodes = keys.ROOT, '', 'a', ':', ':a', 'a:b'
    spelled += [kind(ns, node) for kind in (keys.ready, keys.finish, keys.owing) for node in nodes]
    spelled += [keys.egress(ns, 1), keys.published(ns, 0), keys.published(ns, 1)]
    spelled += [keys.aside(ns, kind, node) for kind in ('ready', 'finish', 'owing') for node in nodes]
    spelled += [keys.running(ns, 'w'), keys.waits(ns, 1)]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.parametrize('prefix', ['', 'shop:', 'ä'])
@pytest.mark.parametrize('queue', ['celery', 'ä', 'a b', 'a}b', '{a}'])
def test_a_shards_keys_share_one_cluster_slot(queue, prefix):
    """Redis hashes what is between the first brace and the first closing one after it."""
    ns = keys.namespace(queue, prefix)
    spelled = [keys.egress(ns), keys.settings(ns), keys.tenant_stream(ns, 'a', 5), keys.tenant_stream(ns, '{b}', 5)]
    tags = {key[key.index('{') + 1:key.index('}')] for key in spelled}
    assert len(tags) == 1 and tags != {''}


def test_queues_shards_and_prefixes_have_keys_of_their_own():
    spaces = [keys.namespace('a'), keys.namespace('b'), keys.namespace('a', 'p'), keys.namespace('a', shard=1)]
    assert len(set(spaces)) == 4
