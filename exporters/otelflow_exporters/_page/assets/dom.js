// Making elements. What a span says goes through textContent or an attribute that holds text, never through markup.

const byId = (id) => document.getElementById(id);

// Makes <tag class="…" …>children</tag>. Attributes are named by the page's own code only.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'onclick') element.addEventListener('click', value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

function icon(name, label) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', `icon-${name}`);
  if (label) {
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', label);
  } else {
    svg.setAttribute('aria-hidden', 'true');
  }
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

function setIcon(svg, name, label) {
  if (svg.dataset.name === name) return;
  svg.dataset.name = name;
  svg.setAttribute('class', `state icon-${name}`);
  svg.firstChild.setAttribute('href', `#i-${name}`);
  if (label) svg.setAttribute('aria-label', label);
}

function button(label, onclick, attributes = {}) {
  return make('button', { type: 'button', class: 'small', onclick, ...attributes }, label);
}

function say(text) {
  byId('live').textContent = text;
}

// Control characters and those that turn the direction of writing would make a text look like another one.
const DECEIVING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

function visible(text) {
  return String(text).replace(DECEIVING, '\ufffd');
}

// One line of it: names and previews.
function line(text, longest = 300) {
  const shown = visible(text.length > longest ? `${text.slice(0, longest)}…` : text);
  return shown.replace(/[\n\r\t\u2028\u2029]+/g, ' ');
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // an older browser, or a page that may not use the clipboard
  }
  say(`${what} copied`);
}

function copyBySelection(text) {
  const area = make('textarea', { class: 'sr', 'aria-hidden': 'true' });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

function copyButton(text, what) {
  const made = make('button', { type: 'button', class: 'icon copy', 'aria-label': `Copy ${what}`, title: 'Copy' }, icon('copy'));
  made.addEventListener('click', async () => {
    await copy(typeof text === 'function' ? text() : text, what);
    made.classList.add('done');
    made.replaceChildren(icon('ok'));
    setTimeout(() => {
      made.classList.remove('done');
      made.replaceChildren(icon('copy'));
    }, 1200);
  });
  return made;
}

// Calls `work` once a frame at most, however often it is asked for.
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}
