// Show values: long texts are folded, JSON is a tree that opens branch by branch.

const MAX_CHARACTERS = 600; // characters; a longer text is folded
const MAX_ITEMS = 100; // items; the user can show more

// A number of JSON with the digits of its source text, in browsers that provide it.
class ExactNumber {
  constructor(source) {
    this.source = source;
  }
}

function readJson(source) {
  const keepDigits = (_, value, context) =>
    typeof value === 'number' && context && context.source && context.source !== String(value) ? new ExactNumber(context.source) : value;
  return JSON.parse(source, keepDigits);
}

function longText(value, className = 'value') {
  const fullText = visible(value);
  const box = make('div', { class: className });
  if (fullText.length <= MAX_CHARACTERS) {
    box.textContent = fullText;
    return box;
  }
  const preview = make('span', {}, `${fullText.slice(0, MAX_CHARACTERS)}…`);
  const more = button(`Show all ${count(fullText.length)} characters`, () => {
    preview.textContent = fullText;
    more.remove();
  });
  box.append(preview, more);
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

const isBranch = (value) => value !== null && typeof value === 'object' && !(value instanceof ExactNumber);

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
  const content = make('div', { class: 'json-below' });
  const branch = make('details', { open }, make('summary', {}, label, make('span', { class: 'json-size' }, list ? `[ ${size} ]` : `{ ${size} }`)), content);
  const fill = () => content.children.length || addEntries(content, entries, 0);
  branch.addEventListener('toggle', fill); // elements are created when the branch is opened
  if (open) fill();
  return branch;
}

function addEntries(content, entries, from) {
  const until = Math.min(entries.length, from + MAX_ITEMS);
  for (const [name, value] of entries.slice(from, until)) content.append(jsonNode(name, value, false));
  if (until === entries.length) return;
  const more = button(`Show more (${count(entries.length - until)} left)`, () => {
    more.remove();
    addEntries(content, entries, until);
  });
  content.append(more);
}

function jsonLeaf(value) {
  if (value instanceof ExactNumber) return make('span', { class: 'json-number' }, value.source);
  if (typeof value === 'string') return longText(JSON.stringify(value), 'json-text');
  return make('span', { class: typeof value === 'number' ? 'json-number' : 'json-word' }, String(value));
}

// Show text as a tree if it is JSON, else as text.
function jsonOrText(source) {
  try {
    return jsonTree(readJson(source));
  } catch {
    return longText(source, 'value literal');
  }
}
