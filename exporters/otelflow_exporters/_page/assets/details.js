// The details of the selected span, or of a group of equal spans.

const detailsOpen = () => !byId('details').hidden;

function showDetails(tree, node) {
  const panel = byId('details');
  const parts = isGroup(tree, node) ? groupDetails(tree, groupAt(tree, node)) : spanDetails(tree, node);
  panel.replaceChildren(...parts.filter(Boolean));
  panel.hidden = false;
  panel.scrollTop = 0;
  document.body.classList.add('with-details');
}

function closeDetails() {
  const within = byId('details').contains(document.activeElement);
  byId('details').hidden = true;
  document.body.classList.remove('with-details');
  if (within) byId('waterfall').focus({ preventScroll: true });
  saveState();
}

function detailsHead(kicker, name, extra) {
  const close = make('button', { type: 'button', id: 'details-close', class: 'icon', 'aria-label': 'Close details', onclick: closeDetails }, icon('close'));
  return make('header', {}, make('div', {}, make('p', { class: 'kicker' }, kicker), make('h3', {}, visible(name) || '(no name)'), extra), close);
}

function section(title, ...content) {
  return make('section', { class: 'part' }, make('h4', {}, title), ...content);
}

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return make('dl', { class: 'facts' }, ...shown.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))));
}

function spanDetails(tree, node) {
  const { trace } = tree;
  const span = trace.spans[node];
  const outcome = outcomeOf(trace, node);
  const kicker = [line(serviceOf(span)), span.kind === 'unspecified' ? '' : span.kind].filter(Boolean).join(' · ') || 'span';
  const state = outcome === 'ok' && span.status === 'ok' ? 'Ended, status ok' : outcome === 'tolerated' ? 'Ended' : OUTCOMES[outcome].text;
  const pill = make('span', { class: `pill ${outcome === 'tolerated' ? 'ok' : outcome}` }, icon(outcome === 'tolerated' ? 'ok' : OUTCOMES[outcome].icon), state);
  return [
    detailsHead(kicker, span.name, pill),
    errorBox(span),
    section('Time', timeFacts(tree, node)),
    warnings(tree, node),
    ...attributeSections(span),
    span.events.length ? section(`Events (${count(span.events.length)})`, eventList(tree, node)) : null,
    linkSection(trace, span),
    droppedSection(span),
    placeSection(tree, node),
    resourceSection(span),
  ];
}

function errorBox(span) {
  if (span.status !== 'error') return null;
  return make('div', { class: 'error-box' }, icon('fail', 'Error'), longText(errorText(span), 'message'), copyButton(errorText(span), 'error'));
}

function timeFacts(tree, node) {
  const { trace } = tree;
  criticalPath(tree);
  const open = Number.isNaN(trace.end[node]);
  const took = durationOf(trace, node);
  const start = momentIn(trace, trace.start[node]);
  const end = momentIn(trace, endOf(trace, node));
  const onPath = tree.pathTime[node];
  return facts([
    ['Duration', open ? `not ended; ${duration(took)} so far` : duration(took)],
    ['Share of run', percent(took / trace.length)],
    ['Self time', `${duration(selfTime(tree, node))}${took ? ` (${percent(selfTime(tree, node) / took)})` : ''}`],
    ['On critical path', onPath ? `${duration(onPath)} by itself` : 'no time by itself'],
    ['Start', `${start.time} ${start.zone}, ${duration(trace.start[node])} into the run`],
    ['End', open ? 'not ended' : `${end.time}, ${duration(trace.end[node])} into the run`],
    ['Day', start.day],
  ]);
}

// Warnings about data that look wrong, with the probable reason.
function warnings(tree, node) {
  const flags = tree.flags[node];
  const texts = [];
  if (flags & ORPHAN) texts.push(`Its parent ${tree.trace.spans[node].parent_id} is not in this file: it was not sampled, not sent, or is still running.`);
  if (flags & CYCLE) texts.push('Its parents form a cycle: the ids are wrong. It is shown as a root.');
  if (flags & EARLY) texts.push('It starts before its parent: the clocks of two machines may differ.');
  if (flags & LATE) texts.push('It ends after its parent: the parent did not wait for it, or clocks differ.');
  return texts.length ? make('ul', { class: 'doubts' }, ...texts.map((warning) => make('li', {}, icon('warn'), warning))) : null;
}

function attributeSections(span) {
  const pairs = Object.entries(span.attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  const own = pairs.filter(([name]) => name.startsWith(PREFIX));
  const rest = pairs.filter(([name]) => !name.startsWith(PREFIX));
  const sections = [];
  if (rest.length) sections.push(section(`Attributes (${count(rest.length)})`, copyAll(rest), attributeTable('Attributes', rest)));
  if (own.length) sections.push(section(`otelflow (${count(own.length)})`, copyAll(own), attributeTable('Attributes of otelflow', own)));
  return sections.length ? sections : [section('Attributes', make('p', { class: 'faint' }, 'None.'))];
}

function copyAll(pairs) {
  return copyButton(() => JSON.stringify(Object.fromEntries(pairs), null, 2), 'all as JSON');
}

// Links to other spans, and from spans that link to this one. The index for the latter is built on first use.
function linkSection(trace, span) {
  const to = span.links.map((link) => linkItem('Links to', link.trace_id, link.span_id, link.attributes));
  const from = (linkedFrom().get(`${span.trace_id}/${span.span_id}`) || []).map((source) => linkItem('Linked from', source.trace_id, source.span_id, {}));
  return to.length + from.length ? section(`Links (${count(to.length + from.length)})`, make('ul', { class: 'links' }, ...to, ...from)) : null;
}

function linkItem(kind, traceId, spanId, attributes) {
  const other = page.traces.get(traceId);
  const node = other ? other.index.get(spanId) : undefined;
  const pairs = Object.entries(attributes);
  const target = node === undefined
    ? make('span', {}, `trace ${visible(traceId)}, span ${visible(spanId)} (${other ? 'the span is not' : 'not'} in this file)`)
    : button(`${line(other.spans[node].name, 80) || '(no name)'}${other.spans[node] === other.spans[other.root] ? '' : ` in ${line(other.name, 80)}`}`, () => openSpan(other, node), { class: 'link' });
  return make('li', {}, make('span', { class: 'faint' }, kind), target, pairs.length ? attributeTable('Attributes of the link', pairs) : null);
}

function linkedFrom() {
  if (!page.linkedFrom) {
    page.linkedFrom = new Map();
    for (const span of page.spans) {
      for (const link of span.links) {
        const key = `${link.trace_id}/${link.span_id}`;
        if (page.linkedFrom.has(key)) page.linkedFrom.get(key).push(span);
        else page.linkedFrom.set(key, [span]);
      }
    }
  }
  return page.linkedFrom;
}

function droppedSection(span) {
  const dropped = Object.entries(span.dropped || {}).filter(([, number]) => number > 0);
  if (!dropped.length) return null;
  const numbers = dropped.map(([kind, number]) => counted(number, kind.replace(/s$/, ''), kind)).join(', ');
  return make('ul', { class: 'doubts' }, make('li', {}, icon('warn'), `Dropped because of the SDK's limits: ${numbers}.`));
}

function placeSection(tree, node) {
  const { trace } = tree;
  const span = trace.spans[node];
  const parent = tree.parent[node];
  const up = parent === NONE ? null : button(line(trace.spans[parent].name, 80) || '(no name)', () => select(parent, { centre: true, details: true }), { class: 'link' });
  const id = (value, what) => make('span', { class: 'id' }, visible(value), copyButton(value, what));
  return section('Place', facts([
    ['Parent', up || (span.parent_id ? visible(span.parent_id) : 'none: a root')],
    ['Level', count(tree.level[node] + 1)],
    ['Children', tree.descendants[node] ? `${count(childrenOf(tree, node).length)}, ${counted(tree.descendants[node], 'span')} below` : 'none'],
    ['Span id', id(span.span_id, 'span id')],
    ['Trace id', id(span.trace_id, 'trace id')],
    ['Scope', visible(span.scope)],
  ]));
}

function resourceSection(span) {
  const pairs = Object.entries(span.resource).sort(([a], [b]) => (a < b ? -1 : 1));
  if (!pairs.length) return null;
  return section('Resource', make('details', { class: 'more' }, make('summary', {}, counted(pairs.length, 'attribute')), attributeTable('Resource', pairs)));
}

const SHOWN_MEMBERS = 5;

function groupDetails(tree, group) {
  const { trace } = tree;
  const slowest = [...group.members].sort((a, b) => durationOf(trace, b) - durationOf(trace, a)).slice(0, SHOWN_MEMBERS);
  const failed = group.members.filter((node) => trace.spans[node].status === 'error').slice(0, SHOWN_MEMBERS);
  const pill = group.failed ? make('span', { class: 'pill failed' }, icon('fail'), `${count(group.failed)} failed`) : null;
  return [
    detailsHead(`${counted(group.members.length, 'equal span')}`, group.name, pill),
    section('Time', facts([
      ['Median', duration(group.median)],
      ['Slowest', duration(group.slowest)],
      ['Fastest', duration(group.fastest)],
      ['Sum', duration(group.total)],
      ['From first to last', duration(group.end - group.start)],
      ['Failed', `${count(group.failed)} of ${count(group.members.length)}`],
    ])),
    failed.length ? section('First failures', memberList(tree, failed, (node) => line(errorText(trace.spans[node]), 120))) : null,
    section('Slowest', memberList(tree, slowest, () => '')),
  ];
}

function memberList(tree, nodes, textOf) {
  return make('ul', { class: 'members' }, ...nodes.map((node) => {
    const at = `${duration(durationOf(tree.trace, node))}, ${duration(tree.trace.start[node])} into the run`;
    return make('li', {}, button(at, () => select(node, { centre: true, details: true }), { class: 'link' }), textOf(node) ? make('span', { class: 'error-text' }, textOf(node)) : null);
  }));
}
