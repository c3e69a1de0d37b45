// The waterfall of the selected run: a tree grid with the keyboard commands of ARIA's authoring practices.

const view = { trace: null, tree: null, rows: null, cursor: NONE, query: '', path: true, list: null };

function startWaterfall() {
  view.list = new VirtualRows(byId('waterfall-body'), makeRow, fillRow);
  view.list.onrange = fitIndent;
  view.list.ondraw = pointAtRow;
  byId('waterfall').addEventListener('keydown', waterfallKey);
  byId('waterfall-body').addEventListener('click', rowClick);
  byId('waterfall-body').addEventListener('dblclick', (event) => event.target.closest('.track') && zoomToSelected());
  byId('collapse-all').addEventListener('click', () => setAll(false));
  byId('expand-all').addEventListener('click', () => setAll(true));
  startZoom(redraw);
  startDivider();
  new ResizeObserver(oncePerFrame(resized)).observe(byId('waterfall'));
  addEventListener('beforeprint', () => printing(true));
  addEventListener('afterprint', () => printing(false));
}

function showTrace(trace) {
  view.trace = trace;
  view.tree = treeOf(trace);
  view.cursor = NONE;
  byId('waterfall').setAttribute('aria-label', `Spans of ${line(trace.name)}`);
  byId('waterfall-body').scrollTop = 0;
  zoomTrace(view.tree);
  drawSummary(view.tree);
  drawFirstError(view.tree);
  drawLegend(view.tree);
  drawMap();
  layOutRows();
}

// Update the rows after a node was expanded or collapsed.
function layOutRows() {
  view.rows = rowsOf(view.tree);
  byId('waterfall').setAttribute('aria-rowcount', view.rows.length + 1);
  view.list.show(view.rows.length);
}

function redraw() {
  if (view.tree) view.list.refresh();
}

function resized() {
  if (!view.tree) return;
  drawAxis();
  drawMap();
  view.list.show(view.rows.length);
}

function printing(on) {
  view.list.isPrinting = on;
  redraw();
}

function rowOf(node) {
  return view.rows.nodes.indexOf(node);
}

function selectedTimes() {
  if (view.cursor === NONE) return null;
  const { tree, cursor } = view;
  if (isGroup(tree, cursor)) return { from: groupAt(tree, cursor).start, to: groupAt(tree, cursor).end };
  return { from: view.trace.start[cursor], to: endOf(view.trace, cursor) };
}

// Select a node, and make its row visible.
function select(node, { centre = false, details = false } = {}) {
  reveal(view.tree, node);
  if (rowOf(node) < 0) layOutRows();
  view.cursor = node;
  view.list.scrollTo(rowOf(node), centre);
  redraw();
  if (details || detailsOpen()) showDetails(view.tree, node);
  saveState();
}

// Select a node, and reset the zoom if the node is outside the time window.
function jumpTo(node) {
  const from = view.trace.start[node];
  if (from > zoom.to || endOf(view.trace, node) < zoom.from) resetZoom();
  select(node, { centre: true, details: !isNarrow() });
  byId('waterfall').focus({ preventScroll: true });
}

function pointAtRow() {
  const grid = byId('waterfall');
  if (view.cursor !== NONE && byId(`row-${view.cursor}`)) grid.setAttribute('aria-activedescendant', `row-${view.cursor}`);
  else grid.removeAttribute('aria-activedescendant');
}

function toggle(node, on = !view.tree.expanded[node]) {
  view.tree.expanded[node] = on ? 1 : 0;
  layOutRows();
}

function setAll(on) {
  expandAll(view.tree, on);
  if (!on && view.cursor !== NONE) {
    while (visibleParent(view.tree, view.cursor) !== NONE) view.cursor = visibleParent(view.tree, view.cursor);
  }
  layOutRows();
  if (view.cursor !== NONE) view.list.scrollTo(rowOf(view.cursor), true);
}

function rowClick(event) {
  const row = event.target.closest('.row');
  if (!row) return;
  const { node } = row;
  if (event.target.closest('.twisty') && !row.parts.twisty.classList.contains('leaf')) {
    toggle(node);
    view.cursor = node;
    redraw();
  } else {
    select(node, { details: true });
  }
  byId('waterfall').focus({ preventScroll: true });
}

function waterfallKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== byId('waterfall')) return;
  const at = view.cursor === NONE ? -1 : rowOf(view.cursor);
  const last = view.rows.length - 1;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + view.list.page, PageUp: at - view.list.page }[event.key];
  const isHandled = to !== undefined || ['ArrowLeft', 'ArrowRight', 'Enter', ' ', '*'].includes(event.key);
  if (!isHandled) return;
  event.preventDefault();
  if (to !== undefined) select(view.rows.nodes[Math.max(0, Math.min(last, to))]);
  else if (at < 0) select(view.rows.nodes[0]);
  else if (event.key === 'ArrowLeft') goLeft(view.cursor);
  else if (event.key === 'ArrowRight') goRight(view.cursor);
  else if (event.key === '*') expandSiblings(view.cursor);
  else openDetails(view.cursor);
}

function goLeft(node) {
  const parent = visibleParent(view.tree, node);
  if (view.tree.expanded[node] && visibleChildren(view.tree, node).length) toggle(node, false);
  else if (parent !== NONE) select(parent);
}

function goRight(node) {
  const children = visibleChildren(view.tree, node);
  if (!children.length) return;
  if (view.tree.expanded[node]) select(children[0]);
  else toggle(node, true);
}

function expandSiblings(node) {
  for (const sibling of visibleChildren(view.tree, visibleParent(view.tree, node))) view.tree.expanded[sibling] = 1;
  layOutRows();
}

function openDetails(node) {
  showDetails(view.tree, node);
  byId('details').focus();
}

function drawSummary(tree) {
  const { trace } = tree;
  const when = momentIn(trace, 0);
  const outcome = OUTCOMES[trace.outcome];
  const facts = [
    ['Duration', trace.outcome === 'open' ? `${duration(trace.length)} so far` : duration(trace.length)],
    ['Started', `${when.day} ${when.time.slice(0, 12)} ${when.zone}`],
    ['Spans', count(tree.size)],
    ['Errors', count(trace.errors)],
  ];
  if (trace.services.length > 1) facts.push(['Services', count(trace.services.length)]);
  if (tree.roots.length > 1) facts.push(['Roots', count(tree.roots.length)]);
  const list = make('dl', {}, ...facts.map(([name, value]) =>
    make('div', { class: name === 'Errors' && trace.errors ? 'errors' : '' }, make('dt', {}, name), make('dd', {}, value))));
  const pill = make('span', { class: `pill ${trace.outcome}` }, icon(outcome.icon), outcome.text);
  const service = trace.service ? make('span', { class: 'service' }, line(trace.service)) : null;
  byId('summary').replaceChildren(make('div', { class: 'heading' }, make('h2', {}, line(trace.name) || '(no name)'), pill, service), list);
}

// Show the first error above the waterfall: readers look for it first.
function drawFirstError(tree) {
  const box = byId('first-error');
  box.hidden = tree.firstError === NONE;
  if (box.hidden) return;
  const span = tree.trace.spans[tree.firstError];
  const message = make('p', {}, icon('fail'), make('strong', {}, line(span.name) || '(no name)'), make('span', { class: 'error-text' }, line(errorText(span))));
  const jump = make('button', { type: 'button', id: 'jump', class: 'small', 'aria-label': 'Go to first error', onclick: () => jumpTo(tree.firstError) },
    'Go', make('span', { class: 'wide' }, 'to first error'), make('kbd', { 'aria-hidden': 'true' }, 'e'));
  box.replaceChildren(message, jump);
}

function drawLegend(tree) {
  const path = make('input', { type: 'checkbox', id: 'path', checked: view.path });
  path.addEventListener('change', () => {
    view.path = path.checked;
    redraw();
  });
  const items = [
    make('label', { class: 'check', title: 'Found by going back from the end: a span waits for its child that finished last. Only making these parts faster makes the run shorter.' },
      path, make('i', { class: 'key path-key' }), 'Critical path: only making these parts faster makes the run shorter'),
  ];
  if (tree.trace.errors) items.push(make('span', {}, make('i', { class: 'key error-key' }), 'Failed'));
  if (tree.trace.spans.some((span) => span.duration === null)) items.push(make('span', {}, make('i', { class: 'key open-key' }), 'Not ended'));
  const { services } = tree.trace;
  if (services.length > 1) {
    services.slice(0, SERVICE_COLOURS).forEach((service, at) => {
      const key = make('i', { class: 'key' });
      key.style.background = `var(--service-${at})`;
      items.push(make('span', {}, key, line(service, 40) || '(no service)'));
    });
    if (services.length > SERVICE_COLOURS) items.push(make('span', {}, `and ${services.length - SERVICE_COLOURS} more services, in the same colours`));
  }
  byId('legend').replaceChildren(...items);
}

// Move the line between names and times with the pointer, or with the arrow keys when it has the focus.
function startDivider() {
  const divider = byId('divider');
  const set = (percent) => {
    const width = Math.round(Math.max(15, Math.min(70, percent)));
    byId('waterfall').style.setProperty('--names', `${width}%`);
    byId('overview').style.setProperty('--names', `${width}%`);
    divider.setAttribute('aria-valuenow', width);
    resized();
  };
  divider.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (by) set(Number(divider.getAttribute('aria-valuenow')) + by);
  });
  divider.addEventListener('pointerdown', (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  divider.addEventListener('pointermove', (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = byId('waterfall').getBoundingClientRect();
    set(((event.clientX - box.left) / box.width) * 100);
  });
}
