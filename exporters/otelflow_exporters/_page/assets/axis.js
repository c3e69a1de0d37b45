// The time axis: the visible part of the run, its ticks, the map of the whole run above it, and zooming.

const MIN_WINDOW = 10; // nanoseconds; in a shorter window there is nothing to see

const zoom = { from: 0, to: 1, length: 1, tree: null, onchange: null };

function startZoom(onchange) {
  zoom.onchange = onchange;
  byId('zoom-in').addEventListener('click', () => zoomBy(0.5));
  byId('zoom-out').addEventListener('click', () => zoomBy(2));
  byId('zoom-reset').addEventListener('click', resetZoom);
  dragRange(byId('axis'), (share) => zoom.from + share * (zoom.to - zoom.from));
  dragRange(byId('map'), (share) => share * zoom.length);
  byId('waterfall').addEventListener('wheel', onWheel, { passive: false });
  byId('map').addEventListener('wheel', onWheel, { passive: false });
}

function zoomTrace(tree) {
  zoom.tree = tree;
  zoom.length = tree.trace.length;
  zoom.from = 0;
  zoom.to = zoom.length;
  drawAxis();
}

function isZoomed() {
  return zoom.from > 0 || zoom.to < zoom.length;
}

function zoomTo(from, to) {
  const span = Math.min(zoom.length, Math.max(MIN_WINDOW, to - from));
  const start = Math.max(0, Math.min(zoom.length - span, from));
  zoom.from = start;
  zoom.to = start + span;
  drawAxis();
  zoom.onchange();
}

function zoomBy(factor, around = zoomCentre()) {
  zoomTo(around - (around - zoom.from) * factor, around + (zoom.to - around) * factor);
}

// The centre of a zoom: the selected span if it is in the window, else the middle of the window.
function zoomCentre() {
  const box = selectedTimes();
  const middle = box ? (Math.max(box.from, zoom.from) + Math.min(box.to, zoom.to)) / 2 : NaN;
  return middle >= zoom.from && middle <= zoom.to ? middle : (zoom.from + zoom.to) / 2;
}

function resetZoom() {
  zoomTo(0, zoom.length);
}

function zoomToSelected() {
  const box = selectedTimes();
  if (!box) return;
  const margin = Math.max(MIN_WINDOW, box.to - box.from) * 0.05;
  zoomTo(box.from - margin, box.to + margin);
}

function share(at) {
  return (at - zoom.from) / (zoom.to - zoom.from);
}

function onWheel(event) {
  const box = byId('axis').getBoundingClientRect();
  const span = zoom.to - zoom.from;
  if (event.ctrlKey) { // browsers also set it for a pinch on a touch pad
    event.preventDefault();
    const at = zoom.from + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * span;
    zoomBy(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), at);
    return;
  }
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (!sideways || !isZoomed()) return;
  event.preventDefault();
  zoomTo(zoom.from + (sideways / box.width) * span, zoom.to + (sideways / box.width) * span);
}

// Zoom to a range that the user drags with the pointer. `timeAt` returns the time at a share of the element's width.
function dragRange(element, timeAt) {
  const choice = element.querySelector('.choice');
  let from = null;
  const shareAt = (event) => {
    const box = element.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const end = () => {
    from = null;
    choice.hidden = true;
  };
  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    from = shareAt(event);
    element.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  element.addEventListener('pointermove', (event) => {
    if (from === null) return;
    const at = shareAt(event);
    choice.hidden = false;
    choice.style.left = `${Math.min(from, at) * 100}%`;
    choice.style.width = `${Math.abs(at - from) * 100}%`;
  });
  element.addEventListener('pointerup', (event) => {
    if (from === null) return;
    const [low, high] = [from, shareAt(event)].sort((a, b) => a - b);
    if (high - low > 0.005) zoomTo(timeAt(low), timeAt(high)); // a shorter movement is a click
    end();
  });
  element.addEventListener('pointercancel', end);
  element.addEventListener('dblclick', resetZoom);
}

function drawAxis() {
  const span = zoom.to - zoom.from;
  const width = byId('axis').clientWidth || 600;
  const step = tickStep(span, Math.max(2, Math.floor(width / (isNarrow() ? 84 : 110))));
  const labels = [];
  const lines = [];
  for (let at = Math.ceil(zoom.from / step) * step; at <= zoom.to; at += step) {
    const left = `${share(at) * 100}%`;
    const label = make('span', { class: share(at) > 0.93 ? 'tick last' : 'tick' }, tickLabel(at, step, zoom.to));
    const mark = make('i');
    label.style.left = left;
    mark.style.left = left;
    labels.push(label);
    lines.push(mark);
  }
  byId('axis').querySelector('.ticks').replaceChildren(...labels);
  byId('waterfall').querySelector('.lines').replaceChildren(...lines);
  byId('zoom-reset').disabled = !isZoomed();
  drawWindow();
}

function drawWindow() {
  const box = byId('map').querySelector('.window');
  box.hidden = !isZoomed();
  box.style.left = `${(zoom.from / zoom.length) * 100}%`;
  box.style.width = `${((zoom.to - zoom.from) / zoom.length) * 100}%`;
}

// Draw all spans of the run, one line for each if there is room, in the colours of their bars. Failures are drawn last.
function drawMap() {
  const canvas = byId('map').querySelector('canvas');
  const { clientWidth: width, clientHeight: height } = byId('map');
  if (!zoom.tree || !width) return;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  const { trace, size } = zoom.tree;
  const positions = rowPositions(zoom.tree);
  const thick = Math.max(1, Math.min(5, (height - 6) / positions.length - 1));
  const step = Math.min(thick + 1, (height - 6) / positions.length);
  for (const failed of [false, true]) {
    for (let node = 0; node < size; node++) {
      if ((trace.spans[node].status === 'error') !== failed) continue;
      pen.fillStyle = themeColour(failed ? '--error-bar' : barColour(zoom.tree, node));
      const left = (trace.start[node] / trace.length) * width;
      const long = (durationOf(trace, node) / trace.length) * width;
      pen.fillRect(left, 3 + positions[node] * step, Math.max(1, long), thick);
    }
  }
}

// A canvas cannot use custom properties, so the colour is read from the computed style of an element.
const colourCache = new Map();

function themeColour(name) {
  if (!colourCache.has(name)) {
    const probe = byId('map');
    probe.style.color = `var(${name})`;
    colourCache.set(name, getComputedStyle(probe).color);
    probe.style.color = '';
  }
  return colourCache.get(name);
}

function clearColours() {
  colourCache.clear();
}
