// One row of the waterfall: a name in the tree, a duration, and a bar where it was in time.

const SERVICE_COLOURS = 8;
const INDENT = 14; // pixels a level
const DEEP = 16; // levels; deeper trees are indented from the first visible level

const BASE_STEP = 8; // levels

function makeRow() {
  const row = make('div', { role: 'row', class: 'row columns' });
  const name = make('div', { role: 'gridcell', class: 'name' },
    make('span', { class: 'indent' }), make('span', { class: 'twisty', 'aria-hidden': 'true' }, icon('twisty')), makeState(),
    make('span', { class: 'label' }), make('span', { class: 'service' }), make('span', { class: 'badge' }));
  const bar = make('div', { class: 'bar' });
  const track = make('div', { role: 'gridcell', class: 'track' },
    bar, make('div', { class: 'path' }), make('span', { class: 'remark' }), make('span', { class: 'sr' }));
  row.append(name, make('div', { role: 'gridcell', class: 'took' }), track);
  row.parts = {
    indent: name.children[0], twisty: name.children[1], state: name.children[2], label: name.children[3],
    service: name.children[4], badge: name.children[5], took: row.children[1],
    bar, path: track.children[1], remark: track.children[2], spoken: track.children[3], track,
  };
  return row;
}

// Indent the visible rows. In a deep tree, the levels above all visible rows get no indent. This base level moves in
// steps: a layout that shifts with every row is hard to follow.
function fitIndent(first, last) {
  const { rows, tree } = view;
  let [base, step] = [0, INDENT];
  if (tree.deepest > DEEP) {
    const levels = rows.levels.subarray(first, last);
    const lowest = levels.reduce((lowest, level) => Math.min(lowest, level), Infinity);
    const highest = levels.reduce((highest, level) => Math.max(highest, level), 0);
    base = Math.floor((lowest - 1) / BASE_STEP) * BASE_STEP;
    step = Math.max(3, Math.min(INDENT, Math.floor(160 / (Math.ceil(highest / BASE_STEP) * BASE_STEP - base))));
  }
  for (const row of view.list.holder.children) indentRow(row, base, step);
}

function indentRow(row, base, step) {
  const indented = `${(row.level - 1 - base) * step}/${step}`;
  if (row.indented === indented) return;
  row.indented = indented;
  const { style } = row.parts.indent;
  style.width = `${(row.level - 1 - base) * step}px`;
  style.setProperty('--step', `${step}px`);
  style.backgroundImage = step < 8 ? 'none' : ''; // at a smaller indent, guide lines only distract
}

function fillRow(row, at) {
  const { tree, rows } = view;
  const node = rows.nodes[at];
  const group = isGroup(tree, node) ? groupAt(tree, node) : null;
  const span = group ? null : tree.trace.spans[node];
  row.id = `row-${node}`;
  row.node = node;
  row.level = rows.levels[at];
  row.setAttribute('aria-rowindex', at + 2); // the head is the first
  row.setAttribute('aria-level', rows.levels[at]);
  row.setAttribute('aria-selected', node === view.cursor);
  fillTwisty(row, tree, node);
  const facts = group ? groupFacts(tree, group) : spanFacts(tree, node, span);
  row.className = `row columns ${facts.classes}`;
  row.classList.toggle('match', Boolean(tree.trace.matches && tree.trace.matches.has(node)));
  setIcon(row.parts.state, facts.icon, facts.state);
  markMatch(row.parts.label, facts.name, view.query);
  row.parts.service.textContent = facts.service;
  row.parts.badge.textContent = facts.badge;
  row.parts.took.textContent = facts.took;
  fillTrack(row.parts, tree, node, facts);
}

function fillTwisty(row, tree, node) {
  const hasChildren = visibleChildren(tree, node).length > 0;
  row.parts.twisty.classList.toggle('leaf', !hasChildren);
  if (hasChildren) row.setAttribute('aria-expanded', tree.expanded[node] === 1);
  else row.removeAttribute('aria-expanded');
}

function spanFacts(tree, node, span) {
  const { trace, flags } = tree;
  const failed = span.status === 'error';
  const open = span.duration === null;
  const outcome = outcomeOf(trace, node);
  const hidden = tree.expanded[node] ? 0 : tree.failedDescendants[node];
  const parent = tree.parent[node];
  const service = serviceOf(span);
  return {
    classes: [failed && 'failed', tree.leafError[node] && 'leaf-error', open && 'open', node === tree.firstError && 'first-error', hidden && 'hides-errors',
      trace.end[node] === trace.start[node] && 'instant'].filter(Boolean).join(' '),
    icon: failed ? (tree.leafError[node] ? 'fail' : 'passed') : outcome === 'cancelled' ? 'stop' : open ? 'open' : flags[node] & EARLY ? 'warn' : 'none',
    state: failed ? (tree.leafError[node] ? 'Failed' : 'Failed because a span below failed') : OUTCOMES[outcome].text,
    name: line(span.name) || '(no name)',
    service: trace.services.length > 1 && (parent === NONE || serviceOf(trace.spans[parent]) !== service) ? line(service) : '',
    badge: hidden ? `✗ ${counted(hidden, 'error')} below` : !tree.expanded[node] && tree.descendants[node] ? `+${count(tree.descendants[node])}` : '',
    took: open ? '' : duration(durationOf(trace, node)),
    remark: spanRemark(tree, node, span),
    from: trace.start[node],
    to: endOf(trace, node),
    colour: barColour(tree, node),
  };
}

function spanRemark(tree, node, span) {
  if (tree.leafError[node]) return line(errorText(span));
  const remarks = [];
  if (span.duration === null) remarks.push('not ended');
  if (span.attributes['otelflow.status'] === 'cancelled') remarks.push('cancelled');
  if (span.attributes['otelflow.task.orphan'] === true) remarks.push('in no flow');
  if (tree.flags[node] & ORPHAN) remarks.push('parent not in this file');
  if (tree.flags[node] & CYCLE) remarks.push('parents form a cycle');
  if (tree.flags[node] & EARLY) remarks.push('starts before its parent');
  return remarks.join(' · ');
}

function groupFacts(tree, group) {
  const { trace } = tree;
  return {
    classes: `group${group.failed ? ' failed' : ''}`,
    icon: group.failed ? 'passed' : 'group',
    state: group.failed ? `${count(group.failed)} of them failed` : 'Group of equal spans',
    name: line(group.name) || '(no name)',
    service: '',
    badge: `×${count(group.members.length)}`,
    took: duration(group.end - group.start),
    remark: [group.failed ? `${count(group.failed)} failed` : '', `median ${duration(group.median)}`, `slowest ${duration(group.slowest)}`].filter(Boolean).join(' · '),
    from: group.start,
    to: group.end,
    colour: barColour(tree, group.members[0]),
  };
}

function barColour(tree, node) {
  const { services } = tree.trace;
  if (services.length < 2) return '--bar';
  return `--service-${services.indexOf(serviceOf(tree.trace.spans[node])) % SERVICE_COLOURS}`;
}

function fillTrack(parts, tree, node, facts) {
  const left = share(facts.from);
  const right = share(facts.to);
  place(parts.bar, left, right);
  parts.bar.hidden = right < 0 || left > 1;
  parts.bar.style.setProperty('--colour', `var(${facts.colour})`);
  fillPath(parts.path, tree, node);
  parts.remark.textContent = parts.bar.hidden ? '' : facts.remark; // without its bar in sight, the remark would be misread
  placeRemark(parts.remark, Math.max(0, left), Math.min(1, right));
  parts.spoken.textContent = `starts at ${duration(facts.from)}${parts.path.hidden ? '' : ', on the critical path'}`;
}

// Cut the bar to the visible part: browsers draw a bar that is a million pixels wide wrong, or not at all.
function place(element, left, right) {
  const from = Math.max(-0.01, Math.min(1.01, left));
  const to = Math.max(-0.01, Math.min(1.01, right));
  element.style.left = `${from * 100}%`;
  element.style.width = `${(to - from) * 100}%`;
}

// Place the remark after the bar if there is room, else before it, else inside.
function placeRemark(remark, left, right) {
  const behind = 1 - right >= 0.3 || 1 - right >= left;
  const within = Math.max(left, 1 - right) < 0.15;
  remark.classList.toggle('within', within);
  remark.classList.toggle('before', !behind && !within);
  remark.style.left = within ? `${left * 100}%` : behind ? `${right * 100}%` : '0';
  remark.style.right = within ? `${(1 - right) * 100}%` : behind ? '0' : `${(1 - left) * 100}%`;
}

function fillPath(element, tree, node) {
  const parts = view.path ? pathOfRow(tree, node, !tree.expanded[node]) : [];
  const visibleParts = parts.filter((part) => part.to >= zoom.from && part.from <= zoom.to);
  element.hidden = visibleParts.length === 0;
  const pieces = joinNearParts(visibleParts);
  while (element.children.length > pieces.length) element.lastElementChild.remove();
  while (element.children.length < pieces.length) element.append(make('i'));
  pieces.forEach((piece, at) => place(element.children[at], share(piece.from), share(piece.to)));
}

// Join parts that are less than a pixel apart: a row may have thousands of parts on the path.
function joinNearParts(parts) {
  const pixel = (zoom.to - zoom.from) / 1500;
  const pieces = [];
  for (const { from, to } of parts) {
    const last = pieces[pieces.length - 1];
    if (last && from - last.to <= pixel) last.to = to;
    else pieces.push({ from, to });
  }
  return pieces;
}
