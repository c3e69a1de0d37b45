// The spans of the page as traces: which spans belong together, their times, and how each trace ended.

const NONE = -1;

function readPage() {
  const page = JSON.parse(byId('otelflow-data').textContent);
  for (const span of page.spans) span.resource = page.resources[span.resource] || {};
  return page;
}

// Times are text with nine digits after the second. As one number of nanoseconds, JavaScript would round them. So a
// time is stored as the second of the epoch, and nanoseconds from there. Neighbours mostly share a second: it is cached.
let cachedText = '';
let cachedSecond = 0;

function epochSecond(time) {
  const text = time.slice(0, 19);
  if (text !== cachedText) {
    cachedText = text;
    cachedSecond = Date.parse(`${text}Z`) / 1000 || 0;
  }
  return cachedSecond;
}

function nanosSince(second, time) {
  return (epochSecond(time) - second) * SECOND + Number(time.slice(20, 29));
}

function tracesOf(spans) {
  const traces = new Map();
  for (const span of spans) {
    let trace = traces.get(span.trace_id);
    if (!trace) traces.set(span.trace_id, (trace = { id: span.trace_id, spans: [], tree: null, matches: null }));
    trace.spans.push(span);
  }
  for (const trace of traces.values()) completeTrace(trace);
  return traces;
}

// Add what the list of runs shows and what a tree needs: spans sorted by start, their times in typed arrays.
function completeTrace(trace) {
  const second = trace.spans.reduce((least, span) => Math.min(least, epochSecond(span.start)), Infinity);
  const starts = trace.spans.map((span) => nanosSince(second, span.start));
  const earliest = starts.reduce((least, start) => Math.min(least, start), Infinity);
  const order = starts.map((_, index) => index).sort((a, b) => starts[a] - starts[b] || a - b);
  trace.epochSecond = second;
  trace.epochNanos = earliest; // from that second to time 0 of this trace
  trace.spans = order.map((index) => trace.spans[index]);
  trace.start = Float64Array.from(order, (index) => starts[index] - earliest);
  trace.end = Float64Array.from(trace.spans, (span, index) =>
    span.duration === null ? NaN : trace.start[index] + Math.round(span.duration * SECOND));
  trace.length = Math.max(1, trace.spans.reduce((last, span, index) => Math.max(last, lastTimeOf(trace, span, index)), 0));
  trace.index = new Map();
  trace.spans.forEach((span, index) => trace.index.has(span.span_id) || trace.index.set(span.span_id, index));
  trace.errors = trace.spans.reduce((sum, span) => sum + (span.status === 'error'), 0);
  trace.services = [...new Set(trace.spans.map(serviceOf))];
  trace.root = rootOf(trace);
  trace.name = trace.spans[trace.root].name;
  trace.outcome = outcomeOf(trace, trace.root);
  trace.service = serviceOf(trace.spans[trace.root]);
}

// The end of a span; the time of its last event if it has not ended.
function lastTimeOf(trace, span, index) {
  if (span.duration !== null) return trace.end[index];
  return span.events.reduce((last, event) => Math.max(last, timeIn(trace, event.time)), trace.start[index]);
}

function timeIn(trace, time) {
  return nanosSince(trace.epochSecond, time) - trace.epochNanos;
}

function momentIn(trace, nanos) {
  return moment(trace.epochSecond, trace.epochNanos + nanos);
}

// The span that gives the run its name: the first without a parent, else the first whose parent is not in the file.
function rootOf(trace) {
  const own = trace.spans.findIndex((span) => !span.parent_id);
  if (own >= 0) return own;
  return Math.max(0, trace.spans.findIndex((span) => !trace.index.has(span.parent_id)));
}

function serviceOf(span) {
  const name = span.resource['service.name'];
  return name === undefined || name === null ? '' : String(name);
}

const OUTCOMES = {
  failed: { text: 'Failed', icon: 'fail' },
  cancelled: { text: 'Cancelled', icon: 'stop' },
  open: { text: 'Not ended', icon: 'open' },
  tolerated: { text: 'Ended, with errors below', icon: 'warn' },
  ok: { text: 'Ended', icon: 'ok' },
};

function outcomeOf(trace, index) {
  const span = trace.spans[index];
  if (span.status === 'error') return 'failed';
  if (span.attributes['otelflow.status'] === 'cancelled') return 'cancelled';
  if (span.duration === null) return 'open';
  return trace.errors > 0 && index === trace.root ? 'tolerated' : 'ok';
}

// Description of the error: from the status, else the exception event, else the error's type.
function errorText(span) {
  if (span.status_message) return span.status_message;
  for (const event of span.events) {
    if (event.name !== 'exception') continue;
    const parts = [event.attributes['exception.type'], event.attributes['exception.message']].filter(Boolean);
    return parts.map(text).join(': ') || 'exception';
  }
  return text(span.attributes['error.type'] ?? 'error');
}

function text(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
