// The whole page: what is open, search, keys, the theme, and the state in the address.

const page = { title: '', note: '', spans: [], traces: new Map(), linkedFrom: null, theme: 'auto', keys: true };

const isNarrow = () => matchMedia('(max-width: 760px)').matches;

function start() {
  const data = readPage();
  page.spans = data.spans;
  page.traces = tracesOf(data.spans);
  byId('title').textContent = visible(data.title);
  byId('note').textContent = visible(data.note);
  byId('note').hidden = !data.note;
  startTheme();
  startHelp();
  document.addEventListener('keydown', pageKey);
  if (page.traces.size === 0) {
    showNothing();
    return;
  }
  document.body.classList.toggle('one-run', page.traces.size === 1);
  startWaterfall();
  startRuns([...page.traces.values()], (trace) => openTrace(trace));
  startSearch();
  byId('to-runs').addEventListener('click', () => showPane('runs', true));
  addEventListener('hashchange', readState);
  document.body.dataset.pane = page.traces.size === 1 ? 'trace' : 'runs';
  readState();
}

function showNothing() {
  document.body.classList.add('nothing');
  const box = byId('nothing');
  box.hidden = false;
  box.replaceChildren(make('strong', {}, 'There are no spans in this file.'), ' Nothing was recorded, or the filters excluded every run.');
  for (const id of ['runs', 'trace']) byId(id).hidden = true;
  byId('search').disabled = true;
}

// A narrow screen shows one pane at a time.
function showPane(name, focus) {
  document.body.dataset.pane = name;
  if (name === 'trace') resized();
  else runs.rows.refresh();
  if (focus && isNarrow()) byId(name === 'runs' ? 'runs-list' : 'waterfall').focus({ preventScroll: true });
}

function openTrace(trace, { keep = true } = {}) {
  if (view.trace !== trace) {
    byId('details').hidden = true;
    document.body.classList.remove('with-details');
    showTrace(trace);
    countMatches();
  }
  showPane('trace', false);
  if (keep) saveState();
}

// Open the target of a link, which may be in another run.
function openSpan(trace, node) {
  openTrace(trace, { keep: false });
  markRun(trace);
  jumpTo(node);
  showDetails(view.tree, node);
}

// --- the state in the address, so that a reader can share it -----------------------------------------------------

let ownHash = '';

function saveState() {
  const parts = new URLSearchParams();
  if (view.trace) parts.set('trace', view.trace.id);
  if (view.cursor !== NONE && !isGroup(view.tree, view.cursor)) parts.set('span', view.trace.spans[view.cursor].span_id);
  if (page.theme !== 'auto') parts.set('theme', page.theme);
  ownHash = `#${parts}`;
  if (ownHash === location.hash) return;
  try {
    history.replaceState(null, '', ownHash);
  } catch {
    location.replace(ownHash); // some browsers forbid it for files
  }
}

function readState() {
  if (location.hash === ownHash && ownHash) return;
  const parts = new URLSearchParams(location.hash.slice(1));
  if (['dark', 'light'].includes(parts.get('theme'))) setTheme(parts.get('theme'));
  const requested = page.traces.get(parts.get('trace'));
  const trace = requested || view.trace || defaultTrace();
  const first = !view.trace;
  if (first && !requested && isNarrow() && page.traces.size > 1) showTrace(trace);
  else openTrace(trace, { keep: false });
  markRun(trace);
  const node = requested ? requested.index.get(parts.get('span')) : undefined;
  if (node !== undefined) select(node, { centre: true, details: true });
}

// The run that is open at first: the newest that failed, else the newest with an error, else the newest.
function defaultTrace() {
  const newest = [...page.traces.values()].sort(SORTS.newest);
  return newest.find((trace) => trace.outcome === 'failed') || newest.find((trace) => trace.errors) || newest[0];
}

// --- search --------------------------------------------------------------------------------------------------------

function startSearch() {
  const input = byId('search');
  let timer = 0;
  input.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(search, page.spans.length > 5000 ? 150 : 40);
  });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    clearTimeout(timer);
    if (input.value.trim().toLowerCase() !== view.query) search();
    goToMatch(!event.shiftKey, false);
  });
  byId('search-next').addEventListener('click', () => goToMatch(true));
  byId('search-previous').addEventListener('click', () => goToMatch(false));
}

function search() {
  view.query = byId('search').value.trim().toLowerCase();
  searchIn(page.traces, view.query);
  runs.rows.refresh();
  redraw();
  countMatches();
}

function countMatches() {
  const matches = view.trace.matches;
  byId('search-key').hidden = Boolean(view.query);
  for (const id of ['search-next', 'search-previous']) byId(id).disabled = !matches || matches.size === 0;
  byId('search-count').textContent = matches ? matchText(matches) : '';
}

function matchText(matches) {
  const positions = matches.size ? matchesInOrder(view.tree) : [];
  const at = positions.indexOf(view.cursor);
  const all = [...page.traces.values()].reduce((sum, trace) => sum + trace.matches.size, 0);
  const others = all - matches.size;
  const here = at < 0 ? count(matches.size) : `${count(at + 1)}/${count(matches.size)}`;
  return others ? `${here} (+${count(others)} in other runs)` : matches.size ? here : 'none';
}

function goToMatch(forward, focus = true) {
  if (!view.trace.matches || !view.trace.matches.size) return;
  const node = nextMatch(view.tree, view.cursor, forward);
  if (focus) jumpTo(node);
  else select(node, { centre: true, details: !isNarrow() });
  countMatches();
}

// --- keys --------------------------------------------------------------------------------------------------------

const KEYS = [
  ['↑ ↓ Home End', 'Move through the spans'],
  ['← →', 'Collapse, expand; then to the parent, to the first child'],
  ['*', 'Expand the selected span and its siblings'],
  ['Enter', 'Details of the selected span'],
  ['Esc', 'Close what is open'],
  ['e', 'Go to the first error'],
  ['/', 'Search'],
  ['n N', 'Next match, previous match'],
  ['+ − 0', 'Zoom in, out, reset'],
  ['f', 'Zoom to the selected span'],
  ['c x', 'Collapse all, expand all'],
  ['?', 'This help'],
];

function pageKey(event) {
  if (event.key === 'Escape') {
    escape(event);
    return;
  }
  const typing = event.target.closest('input:not([type=checkbox]), select, textarea');
  if (!page.keys || typing || event.ctrlKey || event.metaKey || event.altKey || byId('help').open) return;
  if (event.key === '?') openHelp();
  else if (!view.tree) return;
  else if (!runKey(event.key)) return;
  event.preventDefault();
}

function runKey(key) {
  const actions = {
    '/': () => byId('search').focus(),
    n: () => goToMatch(true),
    N: () => goToMatch(false),
    e: () => (view.tree.firstError === NONE ? say('This run has no errors') : jumpTo(view.tree.firstError)),
    '+': () => zoomBy(0.5),
    '=': () => zoomBy(0.5),
    '-': () => zoomBy(2),
    0: resetZoom,
    f: zoomToSelected,
    c: () => setAll(false),
    x: () => setAll(true),
  };
  if (!Object.hasOwn(actions, key)) return false;
  actions[key]();
  return true;
}

// Close one thing at a time, the topmost first. The browser closes an open dialog itself.
function escape(event) {
  if (byId('help').open || !view.tree) return;
  if (event.target === byId('search')) {
    byId('search').value = '';
    search();
    byId('waterfall').focus({ preventScroll: true });
  } else if (detailsOpen()) {
    closeDetails();
  } else if (isZoomed()) {
    resetZoom();
  } else {
    return;
  }
  event.preventDefault();
}

function startHelp() {
  const keys = make('input', { type: 'checkbox', checked: true });
  keys.addEventListener('change', () => (page.keys = keys.checked));
  const close = make('button', { type: 'button', class: 'icon', 'aria-label': 'Close help', onclick: () => byId('help').close() }, icon('close'));
  const rows = KEYS.map(([names, meaning]) => make('div', {}, make('dt', {}, ...names.split(' ').map((name) => make('kbd', {}, name))), make('dd', {}, meaning)));
  byId('help').append(
    make('header', {}, make('h2', { id: 'help-title' }, 'Keys'), close),
    make('dl', {}, ...rows),
    make('p', {}, 'With the pointer: drag over the axis or the map above it to zoom. Ctrl and the wheel zoom, Shift and the wheel move. Double-click a bar to zoom to it.'),
    make('label', { class: 'check' }, keys, 'Keys of one letter'),
  );
  byId('help-open').addEventListener('click', openHelp);
}

function openHelp() {
  byId('help').showModal();
}

// --- theme -------------------------------------------------------------------------------------------------------

const THEMES = { auto: 'as the system', light: 'light', dark: 'dark' };

function startTheme() {
  byId('theme').addEventListener('click', () => {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(page.theme) + 1) % names.length]);
    say(`Theme: ${THEMES[page.theme]}`);
    saveState();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour);
}

function setTheme(name) {
  page.theme = name;
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId('theme').setAttribute('aria-label', `Theme: ${THEMES[name]}`);
  byId('theme').title = `Theme: ${THEMES[name]}`;
  recolour();
}

function recolour() {
  clearColours();
  drawMap();
}

start();
