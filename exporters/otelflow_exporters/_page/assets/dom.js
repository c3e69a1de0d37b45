// Create elements. Text from spans goes into textContent or into attributes that hold text, never into markup.

const byId = (id) => document.getElementById(id);

// Create <tag class="…" …>children</tag>. Only the page's own code names attributes.
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

// Control characters, and characters that change the direction of writing, can make a text look like another one.
const UNSAFE_CHARACTERS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

function visible(text) {
  return String(text).replace(UNSAFE_CHARACTERS, '\ufffd');
}

// Return the text as one line, for names and previews.
function line(text, maxLength = 300) {
  const printable = visible(text.length > maxLength ? `${text.slice(0, maxLength)}…` : text);
  return printable.replace(/[\n\r\t\u2028\u2029]+/g, ' ');
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // an older browser, or a page without access to the clipboard
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
  const copier = make('button', { type: 'button', class: 'icon copy', 'aria-label': `Copy ${what}`, title: 'Copy' }, icon('copy'));
  copier.addEventListener('click', async () => {
    await copy(typeof text === 'function' ? text() : text, what);
    copier.classList.add('done');
    copier.replaceChildren(icon('ok'));
    setTimeout(() => {
      copier.classList.remove('done');
      copier.replaceChildren(icon('copy'));
    }, 1200);
  });
  return copier;
}

// Return a function that schedules `work`, at most once in a frame.
function oncePerFrame(work) {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      work();
    });
  };
}
