// The page: asks the server every second or two, and shows what it says. All text goes in as text, never as markup.
'use strict';

const EVERY = 1500;                 // ms between two looks
const GIVE_UP = 8000;               // ms until a look counts as unanswered
const OVER = 10, LEAST = 4;         // seconds over which deliveries are averaged: workers tell of theirs every two
const MOVES = 5;                    // seconds for which something counts as moving after it did
const LANES = 8, SQUARES = 48, WORKERS = 8, HISTORY = 80, PAGE = 50;
const ALGORITHMS = {
  pq: 'Strict priority: who comes first in the declared order.',
  rr: 'Turns: one each.',
  wrr: 'Weighted turns: weight 5 gets five for one.',
  dwrr: 'Worker time: equal weights get equal seconds.',
};
const COLUMNS = [
  // what it is sorted by, title, is it a number
  ['tenant', 'Tenant', false], ['waiting', 'Waiting', true], ['wait', 'Oldest waits', true],
  ['in_flight', 'In flight', true], ['p50', 'Wait p50', true], ['p95', 'p95', true], ['p99', 'p99', true],
  ['rate', 'Tasks/s', true], ['share', 'Share / due', true], [null, 'Weight', true], [null, 'State', false],
];

const $ = (id) => document.getElementById(id);
const at = {                        // what is shown, and what was known last
  about: null, queue: '', sort: 'waiting', match: '', top: 50, token: null, held: false, status: null,
  statusAt: 0, history: {}, lanes: [], tenants: [], idleFor: 0, busy: {}, chosen: new Set(), letters: [],
  dead: null, shown: null, moved: new Map(),
};

// -- elements

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'class') node.className = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const opener = (text, onclick) => make('button', {type: 'button', class: 'name', onclick}, text);

function vector(tag, attributes) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function write(node, text) {        // leaves alone what is right already
  if (node.textContent !== text) node.textContent = text;
}

const sum = (items, of) => items.reduce((total, item) => total + (item[of] || 0), 0);

function mark(node, name, on) { node.classList.toggle(name, Boolean(on)); }

const known = new WeakMap();

// Children of `parent`, one for each item by its key: kept where they are there already, so that focus stays.
function each(parent, items, keyOf, create, update) {
  if (!known.has(parent)) known.set(parent, new Map());
  const rows = known.get(parent);
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) if (!wanted.has(key)) { row.remove(); rows.delete(key); }
  items.forEach((item, index) => {
    const key = keyOf(item);
    let row = rows.get(key);
    if (!row) rows.set(key, row = create(item));
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] || null);
    update(row, item, index);
  });
  if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({preventScroll: true});
}

// -- text

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});

function number(value) {
  if (value === null || value === undefined) return '–';
  return (value < 100000 ? whole : short).format(value);
}

function counted(count, one, many = `${one}s`) { return `${number(count)} ${count === 1 ? one : many}`; }

function seconds(value) {
  if (value === null || value === undefined) return '–';
  if (value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}

function rate(value) {
  if (value === null || value === undefined) return '–';
  if (value >= 9.95 || value === 0) return number(Math.round(value));
  return value < 0.005 ? '<0.01' : value.toFixed(value < 0.995 ? 2 : 1);
}

function percent(value) {
  if (value === null || value === undefined) return '–';
  return value > 0 && value < 0.001 ? '<0.1 %' : `${(100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0)} %`;
}
const keyOf = (tenant) => JSON.stringify([tenant.sub_queue, tenant.tenant]);
const when = (iso) => iso ? new Date(iso).toLocaleString([], {dateStyle: 'short', timeStyle: 'medium'}) : '–';

function nameOf(tenant) {
  if (tenant === '') return '(no tenant)';
  return Array.isArray(tenant) ? tenant.join(' / ') : tenant;
}
const titleOf = (each) => (each.sub_queue ? `${each.sub_queue}: ` : '') + nameOf(each.tenant);

// -- asking

class Unanswered extends Error {
  constructor(text, status = 0) { super(text); this.status = status; }
}

async function ask(path, query = {}, body = null, patience = GIVE_UP) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), patience);
  const headers = at.token ? {Authorization: `Bearer ${at.token}`} : {};
  if (body) headers['Content-Type'] = 'application/json';
  let reply;
  try {
    reply = await fetch(`/api/${path}?${new URLSearchParams(query)}`, {
      method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), signal: giveUp.signal, cache: 'no-store',
    });
    const data = await reply.json();
    if (!reply.ok) throw new Unanswered(data.error, reply.status);
    return data;
  } catch (error) {
    if (error instanceof Unanswered) throw error;
    if (error.name === 'AbortError') throw new Unanswered('No answer yet');
    throw new Unanswered('The server of this page does not answer: it was ended, or the network is away');
  } finally {
    clearTimeout(timer);
  }
}

const change = (path, body) => ask(path, {}, {queue: at.queue, ...body});

// Asks for one thing unless it is being asked for already; shows the answer if it is still the one that is wanted.
async function look(what, path, query, show, patience) {
  const wanted = JSON.stringify(query);
  if (at.busy[what] === wanted) return;
  at.busy[what] = wanted;
  try {
    const data = await ask(path, query, null, patience);
    if (at.busy[what] === wanted) show(data);
  } finally {
    if (at.busy[what] === wanted) at.busy[what] = null;
  }
}

async function tick() {
  if (document.hidden || (at.held && at.status)) return;
  const queue = at.queue;
  try {
    if (!at.about) start(await ask('about'));
    await look('status', 'status', {queue: at.queue}, showStatus);
    connected(null);
    look('lanes', 'lanes', {queue: at.queue}, showLanes, 120000).catch(unanswered);
    look('tenants', 'tenants', {queue: at.queue, sort: at.sort, match: at.match, top: at.top}, showTenants, 120000)
      .catch(unanswered);
    look('settings', 'settings', {queue: at.queue}, showSettings).catch(unanswered);
  } catch (error) {
    if (!(error instanceof Unanswered)) throw error;
    if (queue === at.queue) connected(error.message);
  }
}

// What is not answered is asked again; what fails here is a bug, and belongs into the console.
function unanswered(error) { if (!(error instanceof Unanswered)) console.error(error); }

async function run() {
  for (;;) {
    await tick().catch(unanswered);
    await new Promise((done) => { setTimeout(done, EVERY); });
  }
}

function connected(trouble) {
  const state = trouble ? 'away' : at.held ? 'held' : 'live';
  document.body.className = state;
  const time = at.status ? new Date(at.statusAt).toLocaleTimeString() : null;
  write($('state-text'), trouble ? 'not connected' : at.held ? `held at ${time}` : 'live');
  $('trouble').hidden = !trouble;
  const known = time ? ` The figures are those of ${time}.` : '';
  write($('trouble'), trouble ? `${trouble.replace(/\.$/, '')}.${known} This page goes on by itself when it is back.` : '');
}

function start(about) {
  at.about = about;
  at.queue = at.queue || about.queues[0];
  document.title = `${about.app} · celery-qos`;
  write($('app'), about.app);
  write($('version'), about.version);
  $('queue').replaceChildren(...about.queues.map((name) =>
    make('option', {value: name, selected: name === at.queue}, name)));
  $('queue-choice').hidden = about.queues.length < 2 && about.queues[0] === 'celery';
  showRights();
}

function showRights() {
  const may = Boolean(at.token);
  $('read-only').hidden = at.about.writable;
  $('unlock').hidden = !at.about.writable;
  write($('unlock'), may ? 'Lock' : 'Unlock');
  for (const id of ['dead-requeue', 'dead-delete']) $(id).hidden = !may;
  mark($('dead-table'), 'locked', !may);
  showLetters();
}

// -- at a glance

// What to write, and below; whether it is an alarm or a notice; whether it has a line, and of what.
const TILES = {
  waiting: {title: 'Waiting', value: (s) => number(s.waiting),
    below: (s) => `${s.waiting === 1 ? 'task' : 'tasks'} of ${counted(s.tenants, 'tenant')}`, line: (s) => s.waiting},
  rate: {title: 'Delivered', value: (s, perSecond) => rate(perSecond), below: () => `tasks a second, in the last ${OVER} s`,
    line: (s, perSecond) => perSecond},
  p95: {title: 'Wait, p95', value: (s) => seconds(s.waits.p95), below: (s) => `half waited ${seconds(s.waits.p50)}`,
    line: (s) => s.waits.p95},
  egress: {title: 'In egress', value: (s) => number(s.egress), below: (s) => `of ${counted(s.slots, 'slot')} taken`,
    alarm: (s) => s.slots === 0 && s.waiting > 0, line: (s) => s.egress},
  idle: {title: 'Idle slots', value: (s) => number(s.idle_slots), below: () => 'while tasks wait; must be 0',
    alarm: () => at.idleFor > 2},
  parked: {title: 'Held back', value: (s) => number(s.parked), below: () => 'by a pause, a cap or a rate',
    notice: (s) => s.parked > 0},
  delayed: {title: 'Delayed', value: (s) => number(s.delayed), below: () => 'tasks until they are due'},
  dead: {title: 'Dead letters', value: (s) => number(s.dead), notice: (s) => s.dead > 0,
    below: (s) => `${number(s.counts.redelivered || 0)} redelivered so far`},
};

function showStatus(status) {
  const past = at.history[at.queue] = at.history[at.queue] || [];
  if (past.length && past[past.length - 1].at >= status.at) { at.statusAt = Date.now(); return; }
  past.push({at: status.at, delivered: status.delivered});
  const now = past[past.length - 1], then = past.find((point) => point.at > now.at - OVER);
  now.rate = now.at > then.at + LEAST && now.delivered >= then.delivered ?
    (now.delivered - then.delivered) / (now.at - then.at) : null;
  noteMove(WHOLE, {delivered: status.delivered});
  at.idleFor = status.idle_slots > 0 ? at.idleFor + 1 : 0;
  at.status = status;
  at.statusAt = Date.now();
  each($('tiles'), Object.entries(TILES), ([name]) => name, ([name, {title, line}]) =>
    make('div', {class: 'tile', id: `tile-${name}`}, make('dt', {}, title),
      make('dd', {}, make('span', {class: 'value'}), make('div', {class: 'under'})), line && sparkline()),
  (tile, [name, {value, below, alarm, notice, line}]) => {
    const [figure, under] = tile.querySelector('dd').children;
    write(figure, value(status, now.rate));
    write(under, below(status));
    mark(tile, 'alarm', alarm && alarm(status));
    mark(tile, 'notice', notice && notice(status));
    if (line) {
      now[name] = line(status, now.rate);
      draw(tile.querySelector('polyline'), past.map((point) => point[name]));
    }
  });
  if (past.length > HISTORY) past.shift();
  // Nothing is taken away from somebody who is choosing, or has gone on to older ones.
  if (status.dead !== at.dead && !at.chosen.size && at.letters.length <= PAGE) showDead();
  showEgress(status);
  showWorkers(status);
  showWaits(status.waits);
  showSubQueues(status);
}

function sparkline() {
  const svg = vector('svg', {viewBox: '0 0 80 20', preserveAspectRatio: 'none', 'aria-hidden': 'true'});
  svg.append(vector('polyline', {}));
  return svg;
}

function draw(polyline, values) {
  const most = Math.max(...values.map((value) => value || 0), 1e-9);
  polyline.setAttribute('points', values.slice(-HISTORY).map((value, index) =>
    `${(80 - (values.length - 1 - index) * 80 / HISTORY).toFixed(1)},${(19 - 17 * (value || 0) / most).toFixed(1)}`).join(' '));
}

// -- the way of a task

// Something moves where a delivery was counted, or a task has left the stream, since the last look. The counts are those
// of the last minutes: they go down when a minute is over.
const WHOLE = ' whole', REST = ' rest';
function noteMove(key, now) {
  const last = at.moved.get(key);
  const moved = last && (now.delivered > last.delivered || now.waiting < last.waiting);
  at.moved.set(key, {...now, at: moved ? Date.now() : last ? last.at : 0});
}
const moves = (key) => Date.now() - (at.moved.get(key)?.at || 0) < 1000 * MOVES;

// Who has a lane keeps it while it is among those that matter: the picture stays calm.
function showLanes(tenants) {
  tenants = tenants.filter((each) => each.waiting || each.in_flight || each.rate);
  const byKey = new Map(tenants.map((each) => [keyOf(each), each]));
  const most = (of) => [...tenants].sort((a, b) => b[of] - a[of]);
  const byWaiting = most('waiting'), byRate = most('rate'), wanted = new Set();
  for (let n = 0; wanted.size < Math.min(LANES, tenants.length); n++) {
    for (const each of [byWaiting[n], byRate[n]]) if (wanted.size < LANES) wanted.add(keyOf(each));
  }
  const lanes = Array.from({length: LANES}, (_, n) => {
    const key = at.lanes[n] && keyOf(at.lanes[n]);
    return wanted.delete(key) ? byKey.get(key) : null;
  });
  for (const key of wanted) lanes[lanes.indexOf(null)] = byKey.get(key);
  at.lanes = lanes;
  const some = lanes.filter(Boolean);
  const rest = Math.max(0, at.status.waiting - sum(some, 'waiting'));
  const others = Math.max(0, at.status.tenants - some.filter((each) => each.waiting).length);
  for (const each of tenants) noteMove(keyOf(each), each);
  const here = new Set([WHOLE, REST, ...byKey.keys()]);
  for (const key of at.moved.keys()) if (!here.has(key)) at.moved.delete(key);
  noteMove(REST, {waiting: rest});
  const longest = Math.log1p(Math.max(rest, 10, ...some.map((each) => each.waiting)));
  const rows = lanes.map((each, n) => ({
    n, each, name: each ? titleOf(each) : '', waiting: each && each.waiting, color: `c${n}`,
    note: each && each.paused ? 'paused' : ''}));
  rows.push({n: LANES, each: others || null, name: others ? `and ${number(others)} more` : '',
    waiting: others ? rest : null, color: 'rest', note: ''});
  if (!some.length) Object.assign(rows[0], {name: 'no tasks', color: 'rest'});
  each($('lanes'), rows, (row) => row.n, () => make('li', {class: 'lane'},
    make('span', {class: 'who'}, make('span', {class: 'key'}), make('em')),
    make('span', {class: 'bar'}, make('span', {class: 'fill'})), make('span', {class: 'count'})), (node, row) => {
    const [who, bar, count] = node.children, [key, note] = who.children;
    write(key, row.name);
    write(note, row.note);
    key.title = row.name;
    bar.firstChild.className = `fill ${row.color}`;
    bar.firstChild.style.width = row.waiting ? `${Math.max(6, 100 * Math.log1p(row.waiting) / longest)}%` : '0';
    write(count, row.each ? number(row.waiting) : '');
    mark(node, 'vacant', !row.each);
  });
  pipes('pipe-in', rows.map((row) => {
    const share = row.n < LANES ? row.each?.share || 0 : row.each ? Math.max(0, 1 - sum(some, 'share')) : 0;
    const flows = row.each && !row.note && moves(WHOLE) && moves(row.n < LANES ? keyOf(row.each) : REST);
    return {from: (row.n + 0.5) / 9, to: 0.5 + (row.n - 4) / 40, color: row.color, flows,
      slow: share < 0.15, width: flows ? 2 + 22 * share : row.each ? 1.5 : 0};
  }));
  showSlots();
}

function pipes(id, links) {
  const svg = $(id).firstElementChild;
  svg.setAttribute('viewBox', '0 0 100 900');
  svg.setAttribute('preserveAspectRatio', 'none');
  const paths = links.flatMap((link, n) => [{...link, kind: 'bed', n}, {...link, kind: 'dots', n}]);
  each(svg, paths, (path) => path.kind + path.n,
    () => vector('path', {}), (path, link) => {
      const a = 900 * link.from, b = 900 * link.to;
      path.setAttribute('d', `M0 ${a.toFixed(1)} C50 ${a.toFixed(1)} 50 ${b.toFixed(1)} 100 ${b.toFixed(1)}`);
      path.setAttribute('class', `${link.kind} ${link.color} ${link.slow ? 'slow' : ''}`);
      const shown = link.kind === 'bed' ? link.width > 0 : link.flows;
      path.setAttribute('visibility', shown ? 'visible' : 'hidden');
      if (link.kind === 'bed') path.setAttribute('stroke-width', link.width.toFixed(1));
    });
}

function showEgress(status) {
  write($('algorithm'), status.algorithm);
  write($('algorithm-hint'), ALGORITHMS[status.algorithm] || 'Whose turn it is.');
  const free = Math.max(0, status.slots - status.egress);
  const taken = `${number(status.egress)} of ${counted(status.slots, 'slot')} taken`;
  write($('egress-count'), status.slots ? taken : 'no slots');
  const per = perSquare(status);
  write($('slots-scale'), `A square is ${per > 1 ? `${number(per)} slots` : 'a slot'}. ${number(free)} free.`);
  pipes('pipe-mid', [{from: 0.5, to: 0.5, color: 'rest', width: 10, flows: moves(WHOLE)}]);
  showSlots();
}

const perSquare = (status) => Math.ceil(Math.max(status.slots, status.egress) / SQUARES) || 1;

// Whose tasks the slots hold, as far as the picture has a colour for them.
function showSlots() {
  const status = at.status;
  if (!status) return;
  const per = perSquare(status), squares = Math.ceil(Math.max(status.slots, status.egress) / per);
  const full = Math.ceil(status.egress / per), held = [];
  at.lanes.forEach((each, n) => {
    const count = each ? Math.round(each.in_flight / per) : 0;
    for (let i = 0; i < count && held.length < full; i++) held.push(`c${n}`);
  });
  while (held.length < full) held.push('rest');
  mark($('slots'), 'few', squares <= 24);
  each($('slots'), Array.from({length: squares}, (_, n) => n), (n) => n, () => make('span', {class: 'slot'}), (node, n) => {
    node.className = `slot ${n < full ? `full ${held[n]}` : ''} ${n * per >= status.slots ? 'over' : ''}`;
  });
}

function showWorkers(status) {
  const all = [...status.workers].sort((a, b) => a.name < b.name ? -1 : 1);
  const rows = all.length > WORKERS + 1 ? all.slice(0, WORKERS) : all;
  const items = rows.map((each) => ({...each, key: each.name}));
  if (!all.length) items.push({key: ' none', none: true});
  if (rows.length < all.length) {
    const rest = all.slice(WORKERS);
    items.push({key: ' more', name: `${rest.length} more workers`, slots: sum(rest, 'slots'),
      delivered: sum(rest, 'delivered'), lease: Math.min(...rest.map((each) => each.lease))});
  }
  each($('workers'), items, (each) => each.key, () => make('li', {}, make('b'), make('span')), (node, each) => {
    node.className = `worker ${each.none ? 'none' : each.lease < 0 ? 'late' : each.delivered ? '' : 'idle'}`;
    // What a worker calls itself in Redis is its machine, its process, and what tells it from others.
    const name = (each.name || 'no workers').replace(/^(.+):(\d+):[0-9a-f]+\.\d+$/, '$1, process $2');
    const held = `${number(each.delivered)} of ${counted(each.slots, 'slot')}`;
    write(node.firstChild, name);
    write(node.lastChild, each.none ? 'nothing is delivered' : each.lease < 0 ? `${held}; no sign of life lately` : held);
    node.title = each.name || '';
  });
  pipes('pipe-out', items.map((each, n) => ({
    from: 0.5 + (n - items.length / 2) / 60, to: (n + 0.5) / 9, color: 'rest', width: each.none ? 0 : 5, slow: true,
    flows: moves(WHOLE) && each.slots > 0 && each.lease >= 0,
  })));
}

// -- tenants

function heads() {
  const sortBy = (sort) => { at.sort = sort; at.tenants = []; sorted(); tick(); };
  $('tenants-head').replaceChildren(...COLUMNS.map(([sort, title, numeric]) => make('th', {
    scope: 'col', class: numeric ? 'number' : '', 'data-sort': sort || undefined,
  }, sort ? make('button', {type: 'button', onclick: () => sortBy(sort)}, title) : title)));
  sorted();
}

function sorted() {
  for (const head of $('tenants-head').children) {
    if (head.dataset.sort === at.sort) head.setAttribute('aria-sort', at.sort === 'tenant' ? 'ascending' : 'descending');
    else head.removeAttribute('aria-sort');
  }
}

// What a full bar may be: one for all tenants that are shown.
const FULL_BARS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];
const hovers = matchMedia('(hover: hover)').matches;

function showTenants({at: time, tenants: found}) {
  // Rows do not move away under a pointer, or from a keyboard's focus.
  const body = $('tenants'), order = new Map(at.tenants.map((each, n) => [keyOf(each), n]));
  const held = (hovers && body.matches(':hover')) || body.contains(document.activeElement);
  if (held) found = [...found].sort((a, b) => (order.get(keyOf(a)) ?? 1e9) - (order.get(keyOf(b)) ?? 1e9));
  at.tenants = found;
  const largest = Math.max(0, ...found.map((each) => Math.max(each.share || 0, each.paused ? 0 : each.entitlement || 0)));
  const full = FULL_BARS.find((part) => largest <= part) || 1;
  each(body, found, keyOf, (tenant) => make('tr', {},
    make('td', {class: 'key'}, opener(titleOf(tenant), () => openTenant(tenant))),
    ...Array.from({length: 7}, () => make('td', {class: 'number'})),
    make('td', {}, make('div', {class: 'share'}, make('span'), make('div', {class: 'meter'}, make('i'), make('b')))),
    make('td', {class: 'number'}), make('td', {})), (row, tenant) => {
    const cells = row.children;
    [number(tenant.waiting), seconds(tenant.wait), number(tenant.in_flight), seconds(tenant.p50), seconds(tenant.p95),
      seconds(tenant.p99), rate(tenant.rate)].forEach((text, n) => write(cells[n + 1], text));
    const [text, meter] = cells[8].firstChild.children, due = tenant.paused ? null : tenant.entitlement;
    write(text, percent(tenant.share));
    const entitled = due === null ? '' : `; ${percent(due)} is due to it now`;
    meter.title = `has had ${percent(tenant.share)} of what was delivered${entitled}`;
    meter.firstChild.style.width = `${100 * (tenant.share || 0) / full}%`;
    meter.lastChild.style.left = `calc(${100 * (due || 0) / full}% - 1px)`;
    meter.lastChild.hidden = due === null;
    write(cells[9], String(+tenant.weight.toPrecision(4)));
    write(cells[10], tenant.paused ? 'paused' : tenant.waiting ? 'waiting' : tenant.in_flight ? 'running' : 'idle');
    cells[10].className = tenant.paused ? 'warn' : '';
  });
  $('tenants-empty').hidden = found.length > 0;
  write($('tenants-empty'), at.match ? `No tenant that has tasks, or had some lately, matches “${at.match}”.` :
    'No tenant has tasks, or had some lately. Each appears here with its first task.');
  const legend = 'Share: the bar is what it had of the deliveries of the last minutes, the line is what is due to it now; ' +
    `a full bar is ${percent(full).replace(" ", "\u00a0")}.`;
  const old = at.status.at - time > 10 ? ` As of ${new Date(1000 * time).toLocaleTimeString()}.` : '';
  const shown = `${number(found.length)} shown; ${counted(at.status.tenants, 'has', 'have')} waiting tasks.`;
  write($('tenants-note'), `${held ? 'The order rests while you are in the table.' : shown} ${legend}${old}`);
}

// -- waits, settings, sub-queues

const BOUNDS = ['1 ms', '3 ms', '10 ms', '30 ms', '0.1 s', '0.3 s', '1 s', '3 s', '10 s', '30 s', '100 s', '5 min', '17 min',
  '1 h', '3 h', 'more'];
const FULL = {
  reject: 'its publisher gets QueueFull', 'dead-letter': 'the task is put aside', 'drop-oldest': 'its oldest task goes',
};

function showWaits(waits) {
  const most = Math.max(1, ...waits.counts), total = waits.counts.reduce((all, count) => all + count, 0);
  each($('waits'), waits.counts.map((count, n) => ({count, n})), (each) => each.n, ({n}) => make('div', {class: 'column'},
    make('i'), make('span', {}, n % 2 && n < 15 ? '' : BOUNDS[n])), (node, {count, n}) => {
    node.firstChild.style.height = `${100 * count / most}%`;
    node.title = `${n === 15 ? 'more' : `up to ${BOUNDS[n]}`}: ${counted(count, 'task')}`;
  });
  const [p50, p95, p99] = [waits.p50, waits.p95, waits.p99].map(seconds);
  const note = `Of ${counted(total, 'task')} of the last minutes: half waited ${p50} at most, 95 % ${p95}, 99 % ${p99}.`;
  write($('waits-note'), total ? note : 'No task was delivered in the last minutes.');
}

function unlimited(value) {
  if (value === null || value === undefined) return 'no limit';
  return typeof value === 'number' ? number(value) : String(value);
}

function facts(list, rows) {
  each(list, rows, (row) => row[0], (row) => make('div', {}, make('dt', {}, row[0]), make('dd')),
    (node, row) => write(node.lastChild, row[1]));
}

function showSettings({queue, egress, default_tenant: tenant}) {
  facts($('settings'), [
    ['Algorithm', `${queue.algorithm}: ${(ALGORITHMS[queue.algorithm] || '').replace(/\.$/, '').toLowerCase()}`],
    ['Tasks that may wait', unlimited(queue.capacity)],
    ['Deliveries that may fail', number(queue.max_deliveries)],
    ['Dead letters kept', number(queue.max_dead_letters)],
    ['Egress: tasks at most', egress.capacity === null ? 'the sum of the slots' : number(egress.capacity)],
    ['Egress: streams', number(egress.streams)],
    ['Sweeping loops', number(egress.workers)],
    ['A tenant: weight', String(tenant.weight)],
    ['A tenant: tasks in flight', unlimited(tenant.max_in_flight)],
    ['A tenant: tasks that may start',
      typeof tenant.rate === 'number' ? `${rate(tenant.rate)} a second` : unlimited(tenant.rate)],
    ['A tenant: tasks that may wait', unlimited(tenant.capacity)],
    ['A tenant that is full', FULL[tenant.on_full] || String(tenant.on_full)],
  ]);
}

function showSubQueues(status) {
  $('sub-queues-box').hidden = !status.sub_queues.length;
  each($('sub-queues'), status.sub_queues, (each) => each.name, (each) => make('tr', {},
    make('td', {class: 'key'}, opener(each.name, () => openSubQueue(each.name))),
    ...Array.from({length: 4}, () => make('td', {class: 'number'})), make('td'), make('td')), (row, each) => {
    [number(each.waiting), unlimited(each.capacity), number(each.in_flight), String(+each.weight.toPrecision(4)),
      each.algorithm, each.paused ? 'paused' : 'open'].forEach((text, n) => write(row.children[n + 1], text));
    row.children[6].className = each.paused ? 'warn' : '';
  });
}

// -- a tenant, or a sub-queue

const FIELDS = {
  weight: ['Weight', 'number'], egress_weight: ['Weight', 'number'], max_in_flight: ['Tasks in flight at most', 'number'],
  rate: ['Tasks that may start, such as 100/m', 'text'], capacity: ['Tasks that may wait', 'number'],
};

function openTenant({tenant}) {
  open({
    title: `Tenant ${nameOf(tenant)}`, options: ['weight', 'max_in_flight', 'rate', 'capacity'],
    read: () => ask('tenant', {queue: at.queue, tenant: JSON.stringify(tenant)}),
    save: (options) => change('tenant', {tenant, options}),
  });
}

function openSubQueue(name) {
  open({
    title: `Sub-queue ${name}`, options: ['egress_weight', 'max_in_flight', 'rate', 'capacity'],
    read: async () => ({options: (await ask('settings', {queue: at.queue})).sub_queues[name],
      why: 'Applies to all of its tenants together, and at once to tasks that wait.'}),
    save: (options) => change('sub-queue', {name, options}),
  });
}

async function open(subject) {
  at.shown = {...subject, were: {}, paused: false};
  write($('entry-title'), subject.title);
  write($('entry-why'), 'One moment…');
  write($('entry-error'), '');
  $('entry-fields').replaceChildren();
  for (const id of ['entry-save', 'entry-pause']) $(id).hidden = true;
  $('entry-lock').hidden = Boolean(at.token);
  write($('entry-lock'), at.about.writable ? 'To change it, press Unlock at the top of the page.' :
    'This page is read-only: it was started without a token.');
  if (!$('entry').open) $('entry').showModal();
  try {
    const {options, why} = await subject.read();
    if (at.shown.title !== subject.title) return;
    write($('entry-why'), why);
    if (typeof options.rate === 'number') options.rate = `${+options.rate.toPrecision(6)}/s`;
    at.shown.were = options;
    at.shown.paused = options.paused;
    $('entry-fields').replaceChildren(...subject.options.map((name) => make('label', {}, FIELDS[name][0], make('input', {
      name, value: options[name] ?? '', readonly: !at.token, autocomplete: 'off',
      inputmode: FIELDS[name][1] === 'number' ? 'decimal' : undefined,
      placeholder: name.includes('weight') ? '' : 'no limit',
    }))));
    write($('entry-pause'), options.paused ? 'Resume' : 'Pause');
    for (const id of ['entry-save', 'entry-pause']) $(id).hidden = !at.token;
  } catch (error) {
    write($('entry-why'), '');
    write($('entry-error'), error.message);
  }
}

function changes() {
  const options = {};
  for (const input of $('entry-fields').querySelectorAll('input')) {
    const text = input.value.trim(), was = at.shown.were[input.name];
    if (text === String(was ?? '')) continue;
    if (text === '') options[input.name] = input.name.includes('weight') ? null : 'unlimited';
    else options[input.name] = FIELDS[input.name][1] === 'number' && !Number.isNaN(+text) ? +text : text;
  }
  return options;
}

async function save(options) {
  if (!Object.keys(options).length) { $('entry').close(); return; }
  try {
    await at.shown.save(options);
    $('entry').close();
    say(`${at.shown.title}: ${Object.entries(options).map(([name, value]) => {
      if (name === 'paused') return value ? 'paused' : 'resumed';
      return `${name.replaceAll('_', ' ')} ${value ?? 'as configured'}`;
    }).join(', ')}`);
    tick();
  } catch (error) {
    write($('entry-error'), error.message);
  }
}

// -- dead letters

async function showDead(older = false) {
  const last = at.letters[at.letters.length - 1];
  try {
    const found = await ask('dead', {queue: at.queue, before: older && last ? last.letter_id : ''});
    at.dead = found.total;
    at.letters = older ? [...at.letters, ...found.letters] : found.letters;
    at.chosen = new Set([...at.chosen].filter((id) => at.letters.some((letter) => letter.letter_id === id)));
    $('dead-more').hidden = !found.more;
    const shown = `${number(at.letters.length)} of ${number(found.total)} shown, the newest first.`;
    write($('dead-note'), found.total ? shown : '');
    showLetters();
  } catch (error) {
    write($('dead-note'), error.message);
  }
}

function showLetters() {
  $('dead-empty').hidden = at.letters.length > 0;
  $('dead-box').hidden = !at.letters.length;
  each($('dead'), at.letters, (letter) => letter.letter_id, (letter) => {
    const title = letter.name || '(no task)';
    return make('tr', {},
      make('td', {class: 'pick'}, make('input', {type: 'checkbox', 'aria-label': `Choose ${title} ${letter.task_id}`,
        onchange: (event) => choose(letter.letter_id, event.target.checked)})),
      make('td', {class: 'key'}, opener(title, () => openLetter(letter))),
      make('td', {class: 'key'}, (letter.sub_queue ? `${letter.sub_queue}: ` : '') + nameOf(letter.tenant)),
      make('td', {class: 'key'}, letter.reason), make('td', {class: 'number'}, number(letter.deliveries)),
      make('td', {}, when(letter.died)));
  }, (row, letter) => {
    const box = row.querySelector('input');
    box.checked = at.chosen.has(letter.letter_id);
    box.disabled = !at.token;
  });
  $('dead-all').checked = at.letters.length > 0 && at.chosen.size === at.letters.length;
  $('dead-all').disabled = !at.token;
  for (const [id, text] of [['dead-requeue', 'Deliver again'], ['dead-delete', 'Delete']]) {
    $(id).disabled = !at.chosen.size;
    write($(id), at.chosen.size ? `${text} (${at.chosen.size})` : text);
  }
}

function choose(id, on) {
  if (on) at.chosen.add(id); else at.chosen.delete(id);
  showLetters();
}

async function openLetter(letter) {
  write($('letter-title'), letter.name || '(no task)');
  facts($('letter-facts'), [
    ['Reason', letter.reason], ['Tenant', nameOf(letter.tenant)], ['Sub-queue', letter.sub_queue || '–'],
    ['Failed deliveries', number(letter.deliveries)], ['Published', when(letter.enqueued)], ['Died', when(letter.died)],
    ['Task’s id', letter.task_id || '–'], ['Id', letter.letter_id]]);
  write($('letter-headers'), '');
  const how = at.about.writable ? 'press Unlock at the top of the page to see them' :
    'they are shown where the page is started with a token';
  write($('letter-body'), at.token ? 'One moment…' : `The arguments of a task may be confidential: ${how}.`);
  $('letter').showModal();
  if (!at.token) return;
  try {
    const all = await ask('dead/letter', {queue: at.queue, id: letter.letter_id});
    write($('letter-body'), all.body ?? `base64: ${all.body_base64}`);
    write($('letter-headers'), JSON.stringify({...all.headers, ...all.other}, null, 2));
  } catch (error) {
    write($('letter-body'), error.message);
  }
}

function confirmed(title, text, yes, danger) {
  write($('ask-title'), title);
  write($('ask-text'), text);
  write($('ask-yes'), yes);
  $('ask-yes').className = danger ? 'danger' : 'main';
  $('ask').returnValue = 'no';
  $('ask').showModal();
  return new Promise((done) => {
    $('ask').addEventListener('close', () => done($('ask').returnValue === 'yes'), {once: true});
  });
}

async function exhume(path, verb, title, text, yes, danger) {
  const ids = [...at.chosen], letters = `${ids.length} dead letter${ids.length === 1 ? '' : 's'}`;
  if (!await confirmed(title.replace('%', letters), text, yes, danger)) return;
  try {
    const {done} = await change(`dead/${path}`, {ids});
    at.chosen.clear();
    const gone = ids.length - done;
    say(`${done} ${done === 1 ? verb[0] : verb[1]}${gone ? `; ${counted(gone, 'was', 'were')} gone already` : ''}`);
  } catch (error) {
    say(error.message);
  }
  showDead();
}

// -- the rest

let toastTimer;
function say(text) {
  write($('toast'), text);
  mark($('toast'), 'shown', true);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => mark($('toast'), 'shown', false), 6000);
}

function listen() {
  heads();
  let typing;
  $('match').addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => { at.match = $('match').value.trim(); tick(); }, 300);
  });
  $('top').addEventListener('change', () => { at.top = +$('top').value; tick(); });
  $('queue').addEventListener('change', () => {
    Object.assign(at, {queue: $('queue').value, lanes: [], tenants: [], letters: [], chosen: new Set(), dead: null,
      idleFor: 0, busy: {}, moved: new Map()});
    showLetters();
    tick();
  });
  $('hold').addEventListener('click', () => {
    at.held = !at.held;
    $('hold').setAttribute('aria-pressed', String(at.held));
    connected(null);
    tick();
  });
  document.addEventListener('visibilitychange', tick);
  $('why-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    write($('why-answer'), 'Looking…');
    try {
      const subject = $('why-subject').value.trim();
      write($('why-answer'), (await ask('why', {queue: at.queue, subject}, null, 120000)).sentence);
    } catch (error) {
      write($('why-answer'), error.message);
    }
  });
  $('entry-form').addEventListener('submit', (event) => { event.preventDefault(); if (at.token) save(changes()); });
  $('entry-close').addEventListener('click', () => $('entry').close());
  $('entry-pause').addEventListener('click', () => save({paused: !at.shown.paused}));
  $('unlock').addEventListener('click', () => {
    if (at.token) { at.token = null; at.chosen.clear(); showRights(); return; }
    write($('token-error'), '');
    $('token').value = '';
    $('token-dialog').showModal();
  });
  $('token-close').addEventListener('click', () => $('token-dialog').close());
  $('token-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    at.token = $('token').value.trim();
    try {
      await ask('unlock');
      $('token').value = '';
      $('token-dialog').close();
      say('Unlocked');
    } catch (error) {
      at.token = null;
      write($('token-error'), error.message);
    }
    showRights();
  });
  $('dead-refresh').addEventListener('click', () => showDead());
  $('dead-more').addEventListener('click', () => showDead(true));
  $('dead-all').addEventListener('change', (event) => {
    at.chosen = new Set(event.target.checked ? at.letters.map((letter) => letter.letter_id) : []);
    showLetters();
  });
  $('dead-requeue').addEventListener('click', () => exhume('requeue', ['goes to its tenant again', 'go to their tenants again'], 'Deliver % again?',
    'They wait in their tenants’ streams as if they had just been published.', 'Deliver again', false));
  $('dead-delete').addEventListener('click', () => exhume('delete', ['deleted', 'deleted'], 'Delete %?',
    'The tasks are gone for good.', 'Delete', true));
}

listen();
run();
