// Values as they are read: long texts folded, JSON as a tree that opens branch by branch.

const LONG = 600; // characters; a longer text is folded
const MANY = 100; // items; more are shown on demand

// JSON in which numbers keep the digits they were written with, where the engine tells them.
class Digits {
  constructor(source) {
    this.source = source;
  }
}

function readJson(source) {
  const keep = (_, value, context) =>
    typeof value === 'number' && context && context.source && context.source !== String(value) ? new Digits(context.source) : value;
  return JSON.parse(source, keep);
}

function longText(value, className = 'value') {
  const whole = visible(value);
  const box = make('div', { class: className });
  if (whole.length <= LONG) {
    box.textContent = whole;
    return box;
  }
  const shown = make('span', {}, `${whole.slice(0, LONG)}…`);
  const more = button(`Show all ${count(whole.length)} characters`, () => {
    shown.textContent = whole;
    more.remove();
  });
  box.append(shown, more);
  return box;
}

function attributeValue(value) {
  return longText(text(value), typeof value === 'string' ? 'value' : 'value literal');
}

function attributeTable(caption, pairs) {
  const table = make('table', { class: 'attributes' }, make('caption', { class: 'sr' }, caption),
    make('colgroup', {}, make('col', { class: 'attribute-name' }), make('col'), make('col', { class: 'action' })),
    make('thead', { class: 'sr' }, make('tr', {}, make('th', { scope: 'col' }, 'Name'), make('th', { scope: 'col' }, 'Value'), make('th', { scope: 'col' }, 'Copy'))));
  const body = make('tbody');
  for (const [name, value] of pairs) {
    body.append(make('tr', {}, make('th', { scope: 'row' }, visible(name)), make('td', {}, attributeValue(value)),
      make('td', { class: 'action' }, copyButton(text(value), line(name, 60)))));
  }
  table.append(body);
  return table;
}

const isBranch = (value) => value !== null && typeof value === 'object' && !(value instanceof Digits);

function jsonTree(value) {
  const root = make('div', { class: 'json' });
  root.append(jsonNode(null, value, true));
  return root;
}

function jsonNode(name, value, open) {
  const label = name === null ? null : make('span', { class: 'json-key' }, `${visible(name)}: `);
  if (!isBranch(value)) return make('div', { class: 'json-leaf' }, label, jsonLeaf(value));
  const entries = Object.entries(value);
  const list = Array.isArray(value);
  const size = list ? counted(entries.length, 'item') : counted(entries.length, 'key');
  if (!entries.length) return make('div', { class: 'json-leaf' }, label, list ? '[ ]' : '{ }');
  const below = make('div', { class: 'json-below' });
  const branch = make('details', { open }, make('summary', {}, label, make('span', { class: 'json-size' }, list ? `[ ${size} ]` : `{ ${size} }`)), below);
  const fill = () => below.children.length || addEntries(below, entries, 0);
  branch.addEventListener('toggle', fill); // what nobody opens is not made
  if (open) fill();
  return branch;
}

function addEntries(below, entries, from) {
  const until = Math.min(entries.length, from + MANY);
  for (const [name, value] of entries.slice(from, until)) below.append(jsonNode(name, value, false));
  if (until === entries.length) return;
  const more = button(`Show more (${count(entries.length - until)} left)`, () => {
    more.remove();
    addEntries(below, entries, until);
  });
  below.append(more);
}

function jsonLeaf(value) {
  if (value instanceof Digits) return make('span', { class: 'json-number' }, value.source);
  if (typeof value === 'string') return longText(JSON.stringify(value), 'json-text');
  return make('span', { class: typeof value === 'number' ? 'json-number' : 'json-word' }, String(value));
}

// Text that is JSON as a tree; any other as it is.
function jsonOrText(source) {
  try {
    return jsonTree(readJson(source));
  } catch {
    return longText(source, 'value literal');
  }
}
