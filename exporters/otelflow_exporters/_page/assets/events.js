// The events of a span in their order. Exceptions and otelflow's own events have a layout of their own.

const PREFIX = 'otelflow.';

function eventList(tree, node) {
  const { trace } = tree;
  const events = trace.spans[node].events.map((event) => ({ ...event, at: timeIn(trace, event.time) - trace.start[node] }));
  events.sort((a, b) => a.at - b.at);
  const list = make('ol', { class: 'events' });
  addEvents(list, events, 0);
  return list;
}

function addEvents(list, events, from) {
  const until = Math.min(events.length, from + MAX_ITEMS);
  list.append(...events.slice(from, until).map(eventItem));
  if (until === events.length) return;
  const more = make('li', {}, button(`Show more (${count(events.length - until)} left)`, () => {
    more.remove();
    addEvents(list, events, until);
  }));
  list.append(more);
}

function eventItem(event) {
  const kinds = { 'otelflow.message': messageEvent, 'otelflow.artifact': artifactEvent, 'otelflow.result': resultEvent, exception: exceptionEvent };
  const [kind, body, shown] = (kinds[event.name] || otherEvent)(event.attributes);
  const rest = Object.entries(event.attributes).filter(([name]) => !shown.includes(name));
  const offset = make('span', { class: 'offset' }, event.at < 0 ? `−${duration(-event.at)}` : `+${duration(event.at)}`);
  const item = make('li', { class: `event ${kind}` }, offset, make('div', { class: 'event-body' }, ...body(event)));
  if (rest.length) item.lastChild.append(foldedAttributes(rest, kind === 'other'));
  return item;
}

function foldedAttributes(pairs, open) {
  const preview = pairs.map(([name]) => line(name, 40)).slice(0, 3).join(', ') + (pairs.length > 3 ? ', …' : '');
  return make('details', { open, class: 'more' }, make('summary', {}, `${counted(pairs.length, 'attribute')}: ${preview}`), attributeTable('Attributes of the event', pairs));
}

const SEVERITIES = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'];

function messageEvent(attributes) {
  const severity = text(attributes['otelflow.message.severity'] ?? 'INFO');
  const level = SEVERITIES.includes(severity) ? severity.toLowerCase() : 'info';
  const body = () => [
    make('span', { class: `severity ${level}` }, line(severity, 20)),
    longText(text(attributes['otelflow.message.text'] ?? ''), 'message'),
  ];
  return ['message', body, ['otelflow.message.text', 'otelflow.message.severity']];
}

const ARTIFACT = ['key', 'type', 'description', 'data', 'size', 'sha256', 'uri'];

function artifactEvent(attributes) {
  const field = (name) => attributes[`otelflow.artifact.${name}`];
  const body = () => {
    const facts = [field('type'), field('size') === undefined ? undefined : `${text(field('size'))} bytes`].filter((fact) => fact !== undefined);
    const parts = [heading('Artifact', field('key'), facts.map(text).join(' · '))];
    if (field('description') !== undefined) parts.push(longText(text(field('description')), 'message'));
    if (field('data') !== undefined) parts.push(folded('Data', jsonOrText(text(field('data'))), () => text(field('data'))));
    for (const name of ['uri', 'sha256']) if (field(name) !== undefined) parts.push(longText(`${name}: ${text(field(name))}`, 'value literal faint'));
    return parts;
  };
  return ['artifact', body, ARTIFACT.map((name) => `otelflow.artifact.${name}`)];
}

function resultEvent(attributes) {
  const body = () => [heading('Result', attributes['otelflow.result.key'], ''), longText(text(attributes['otelflow.result.description'] ?? ''), 'message')];
  return ['result', body, ['otelflow.result.key', 'otelflow.result.description']];
}

function exceptionEvent(attributes) {
  const stacktrace = attributes['exception.stacktrace'];
  const body = () => {
    const parts = [
      make('p', { class: 'event-heading' }, make('span', { class: 'tag' }, 'Exception'), make('strong', {}, line(text(attributes['exception.type'] ?? 'exception')))),
      longText(text(attributes['exception.message'] ?? ''), 'message'),
    ];
    if (stacktrace !== undefined) parts.push(folded('Stack trace', make('pre', { tabindex: '0', 'aria-label': 'Stack trace' }, visible(text(stacktrace))), () => text(stacktrace)));
    return parts;
  };
  return ['exception', body, ['exception.type', 'exception.message', 'exception.stacktrace']];
}

function otherEvent() {
  return ['other', (event) => [make('p', { class: 'event-heading' }, make('strong', {}, line(event.name) || '(no name)'))], []];
}

function heading(kind, key, facts) {
  return make('p', { class: 'event-heading' }, make('span', { class: 'tag' }, kind), make('strong', {}, line(text(key ?? '(no key)'))), facts ? make('span', { class: 'faint' }, line(facts)) : null);
}

function folded(title, content, copied) {
  return make('details', { class: 'more' }, make('summary', {}, title), copyButton(copied, title.toLowerCase()), content);
}
