"""The page of ``celery qos web`` in a real Chromium: what people see and can do, in what light, by what means."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from celery_qos import keys
from celery_qos.embedded import EmbeddedRedis
from celery_qos.store import Store

from ..until import until
from .web import TOKEN, Web, bury, fill, serve

CHROMIUM, DRIVER = shutil.which('chromium') or shutil.which('google-chrome'), shutil.which('chromedriver')

pytestmark = [pytest.mark.once, pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason='no Chromium here: apt-get install chromium chromium-driver')]

HOSTILE = ['<img src=x onerror="window.hacked=1">', '"><script>window.hacked=1</script>', "';window.hacked=1;//",
           'javascript:window.hacked=1', '{{hacked}}', 'a' * 255]

#: Text whose contrast to what is behind it is too small: [text, contrast].
CONTRAST = '''
const parse = (text) => { const n = text.match(/[0-9.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const behind = (node) => { for (; node; node = node.parentElement) {
  const c = parse(getComputedStyle(node).backgroundColor);
  if (c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const text = texts.currentNode.data.trim(), node = texts.currentNode.parentElement;
  if (!text || !node.checkVisibility({opacityProperty: true}) || node.closest('script, noscript, option')) continue;
  const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
  const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (contrast < 4.5) found.push([text.slice(0, 40), contrast.toFixed(2)]);
}
return found;
'''
#: Colours of the picture against the ground of its card; graphics need 3.
GRAPHICS = '''
const light = (hex) => { const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
  .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const style = getComputedStyle(document.documentElement), of = (name) => light(style.getPropertyValue(name).trim());
return ['--t0', '--t1', '--t2', '--t3', '--t4', '--t5', '--t6', '--t7', '--t-rest', '--edge'].map((name) => {
  const [a, b] = [of(name), of('--surface')]; return [name, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })
  .filter(([, contrast]) => contrast < 3);
'''


class Page:
    """A tab of Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver, self.url = driver, ''

    def open(self, url: str, width: int = 1400, **media: str) -> None:
        self.driver.get('about:blank')
        self.driver.get_log('browser')
        self.command('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1,
                     mobile=width < 600)
        self.command('Emulation.setEmulatedMedia', features=[
            {'name': name.replace('_', '-'), 'value': value} for name, value in media.items()])
        self.driver.get(url)
        until(lambda: self.script("return document.body.className === 'live' && !!document.querySelector('.tile')"))

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def text(self, selector: str) -> str:
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def shows(self, selector: str, text: str, timeout: float = 20) -> None:
        until(lambda: text in self.text(selector), timeout, f'{text!r} in {selector}')

    def click(self, selector: str, containing: str = '') -> None:
        def found() -> Any:
            return self.script('return [...document.querySelectorAll(arguments[0])].find((node) => '
                               'node.checkVisibility() && !node.disabled && node.innerText.includes(arguments[1]))',
                               selector, containing)
        until(found, what=f'{selector} with {containing!r}').click()

    def type(self, selector: str, text: str) -> None:
        node = self.script('const node = document.querySelector(arguments[0]); node.value = ""; return node', selector)
        node.send_keys(text)

    def focused(self) -> str:
        return self.script('const a = document.activeElement; return a.id || a.innerText || a.tagName')

    def errors(self) -> list[str]:
        """Of the console; a policy that was violated is one."""
        return [each['message'] for each in self.driver.get_log('browser')
                if each['level'] == 'SEVERE' and 'status of 503' not in each['message']]


@pytest.fixture(scope='module')
def page() -> Iterator[Page]:
    webdriver = pytest.importorskip('selenium.webdriver', reason='no selenium here: pip install selenium')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for each in '--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--lang=en':
        options.add_argument(each)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Page(driver)
    finally:
        driver.quit()


@pytest.fixture
def web(server) -> Iterator[Web]:
    with serve(server.url('qos'), TOKEN) as web:
        yield web


def work(store: Store) -> None:
    """Two workers, hostile tenants, a paused one, a tuple, dead letters."""
    bury(store, HOSTILE[0], 2)
    store.set('celery', 'tenant:lazy', {'paused': True})
    for worker in 'a', 'b':
        store.lease('celery', worker, 4, 60)
    fill(store, *HOSTILE, 'acme', 'lazy', 'umbrella\x1falice', '', tasks=5)


def test_what_it_shows(page, web, store):
    work(store)
    page.open(web.url)
    page.shows('#tenants', HOSTILE[1])
    page.shows('#lanes', 'lazy')
    page.shows('#settings', 'weighted turns')
    page.shows('#dead', HOSTILE[0])
    for name in HOSTILE:
        assert name in page.text('#tenants')
    assert 'umbrella / alice' in page.text('#tenants') and '(no tenant)' in page.text('#tenants')
    assert page.text('#egress-count') == '8 of 8 slots taken'
    assert len(page.script("return document.querySelectorAll('.slot.full')")) == 8
    page.click('#tenants button', HOSTILE[1])
    page.shows('#entry-why', 'wait')
    assert page.script("return window.hacked === undefined && !document.querySelector('main img, main script')")
    # Figures change, nothing moves.
    page.script("document.getElementById('entry').close(); window.moved = 0; "
                "new PerformanceObserver((all) => all.getEntries().forEach((each) => { window.moved += each.value; }))"
                ".observe({type: 'layout-shift', buffered: false})")
    fill(store, 'acme', 'newcomer', tasks=60)
    page.shows('#tile-waiting .value', '162')
    page.shows('#tenants', 'newcomer')
    assert page.script('return window.moved') < 0.02
    assert page.errors() == []


def test_colours_widths_and_motion(page, web, store):
    work(store)
    for scheme in 'light', 'dark':
        page.open(web.url, width=390, prefers_color_scheme=scheme, prefers_reduced_motion='reduce')
        page.shows('#tenants', 'acme')
        page.click('#tenants button', 'acme')
        page.shows('#entry-why', 'wait')
        assert page.script(CONTRAST) == []
        assert page.script(GRAPHICS) == []
        assert page.script('return document.documentElement.scrollWidth') == 390
        assert page.script("return document.querySelector('[data-sort=wait]').getBoundingClientRect().right") < 390
        assert page.script("return document.querySelector('.sideways').checkVisibility()")
        assert page.script("return document.getAnimations().filter((each) => each.playState === 'running').length") == 0
    page.open(web.url)
    flowing = ("return [...document.querySelectorAll('path.dots')].filter((dot) => "
               "dot.checkVisibility({visibilityProperty: true})).length")
    page.shows('#lanes', 'acme')
    assert page.script(flowing) == 0, 'nothing was delivered since the page was opened'
    store.note_waits('celery', {(keys.ROOT.encode(), 3): 2, (b':acme', 3): 2}, 1.0)
    # From acme's stream, to egress, and to the two workers.
    until(lambda: page.script(flowing) == 4)
    until(lambda: page.script(flowing) == 0)


def test_by_keyboard(page, web, store):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    work(store)
    page.open(web.url)
    page.shows('#dead', HOSTILE[0])
    page.shows('#tenants', 'acme')
    reached: list[str] = []
    while page.focused() != 'why-subject':
        press(Keys.TAB)
        reached.append(page.focused())
        assert len(reached) < 60, reached
        outline = page.script('return getComputedStyle(document.activeElement).outlineStyle')
        assert outline != 'none', f'{reached[-1]} shows no focus'
    for each in 'hold', 'unlock', 'match', 'top', 'Oldest waits', 'acme':
        assert each in reached, reached
    page.script("document.querySelector('[data-sort=tenant] button').focus()")
    press(Keys.ENTER)
    until(lambda: page.script("return document.querySelector('[data-sort=tenant]').ariaSort") == 'ascending')
    assert page.focused() == 'Tenant'
    page.shows('#tenants tr:first-child', '(no tenant)')
    # Rows that move keep the focus.
    page.script("[...document.querySelectorAll('#tenants button')].find((each) => each.innerText === 'lazy').focus()")
    press(Keys.ENTER)
    until(lambda: page.script("return document.getElementById('entry').open"))
    press(Keys.ESCAPE)
    assert page.focused() == 'lazy'


def test_changes(page, web, store):
    work(store)
    page.open(web.url)
    page.shows('#dead', HOSTILE[0])
    boxes = "return [...document.querySelectorAll('input[type=checkbox]')].some((box) => box.checkVisibility())"
    assert not page.script(boxes)
    page.click('#unlock')
    page.type('#token', 'wrong')
    page.click('#token-form button.main')
    page.shows('#token-error', 'needs the token')
    page.type('#token', TOKEN)
    page.click('#token-form button.main')
    page.shows('#toast', 'Unlocked')
    page.click('#tenants button', 'acme')
    until(lambda: page.script("return !!document.querySelector('#entry input[name=weight]:not([readonly])')"))
    page.type('#entry input[name=weight]', '-3')
    page.click('#entry-save')
    page.shows('#entry-error', 'weight: -3 is not a number above 0')
    page.type('#entry input[name=weight]', '2.5')
    page.click('#entry-save')
    page.shows('#toast', 'Tenant acme: weight 2.5')
    assert web.control.tenant('acme')['weight'] == 2.5
    page.click('#tenants button', 'acme')
    page.click('#entry-pause')
    page.shows('#toast', 'Tenant acme: paused')
    assert web.control.tenant('acme')['paused'] is True
    page.click('#dead button', 'shop.sync')
    page.shows('#letter-body', f'of {HOSTILE[0]}')
    page.click('#letter button')
    page.click('#dead input')
    page.click('#dead-requeue')
    page.click('#ask-yes')
    page.shows('#toast', '1 goes to its tenant again')
    page.click('#dead-all')
    page.click('#dead-delete', '(1)')
    page.click('#ask-yes')
    until(lambda: page.script("return document.getElementById('dead-empty').checkVisibility()"))
    assert len(web.control.dead_letters()) == 0
    assert [each for each in page.errors() if '403' not in each and '400' not in each] == []


def test_ten_thousand_tenants_and_no_redis(page):
    with EmbeddedRedis() as redis:
        store = Store(redis.client())
        fill(store, *(f'tenant-{number:05}' for number in range(10_000)))
        with serve(redis.url('qos')) as web:
            page.open(web.url)
            page.shows('#tile-waiting', '10,000')
            page.shows('#workers', 'no workers')
            page.shows('#lanes', 'and 9,992 more')
            until(lambda: page.script("return document.querySelectorAll('#tenants tr').length") == 50)
            page.type('#match', '09999')
            until(lambda: page.text('#tenants .key') == 'tenant-09999')
            assert not page.script("return document.getElementById('unlock').checkVisibility()")
            redis.kill()
            page.shows('#trouble', 'Redis does not answer')
            assert page.text('#state-text') == 'not connected'
            assert '10,000' in page.text('#tile-waiting'), 'the last figures stay'
            redis.start()
            until(lambda: page.script('return document.body.className') == 'live')
            assert page.script("return document.getElementById('trouble').hidden")
            page.shows('#tile-waiting .value', '0')
