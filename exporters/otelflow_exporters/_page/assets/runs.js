// The list of runs. A run is a trace.

const runs = { traces: [], shown: [], at: NONE, rows: null, onchoose: null, longest: 1 };

const SORTS = {
  newest: (a, b) => b.epochSecond - a.epochSecond || b.epochNanos - a.epochNanos,
  oldest: (a, b) => a.epochSecond - b.epochSecond || a.epochNanos - b.epochNanos,
  longest: (a, b) => b.length - a.length,
  shortest: (a, b) => a.length - b.length,
  errors: (a, b) => b.errors - a.errors,
  spans: (a, b) => b.spans.length - a.spans.length,
  name: (a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)),
};

function startRuns(traces, onchoose) {
  runs.traces = traces;
  runs.onchoose = onchoose;
  runs.longest = traces.reduce((most, trace) => Math.max(most, trace.length), 1);
  runs.rows = new VirtualRows(byId('runs-list'), makeRun, fillRun);
  runs.rows.ondraw = pointAtRun;
  byId('runs-filter').addEventListener('input', listRuns);
  byId('runs-sort').addEventListener('change', listRuns);
  byId('runs-failed').addEventListener('change', listRuns);
  byId('runs-list').addEventListener('keydown', runsKey);
  byId('runs-list').addEventListener('click', (event) => {
    const row = event.target.closest('[role=option]');
    if (row) chooseRun(Number(row.dataset.at));
  });
  listRuns();
}

function listRuns() {
  const chosen = runs.shown[runs.at];
  const words = byId('runs-filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const failed = byId('runs-failed').checked;
  runs.shown = runs.traces.filter((trace) => (!failed || trace.errors > 0) && words.every((word) => runText(trace).includes(word)));
  runs.shown.sort(SORTS[byId('runs-sort').value]);
  runs.at = runs.shown.indexOf(chosen);
  byId('runs-count').textContent =
    runs.shown.length === runs.traces.length ? counted(runs.traces.length, 'run') : `${count(runs.shown.length)} of ${counted(runs.traces.length, 'run')}`;
  byId('runs-none').hidden = runs.shown.length > 0;
  byId('runs-list').hidden = runs.shown.length === 0;
  runs.rows.show(runs.shown.length);
}

function runText(trace) {
  trace.runText ||= [trace.name, ...trace.services, trace.id, OUTCOMES[trace.outcome].text, trace.errors ? 'error' : ''].join('\n').toLowerCase();
  return trace.runText;
}

function makeRun() {
  const row = make('div', { role: 'option', class: 'run' });
  row.append(
    make('div', { class: 'run-line' }, makeState(), make('span', { class: 'run-name' }), make('span', { class: 'run-took' })),
    make('div', { class: 'run-line faint' }, make('span', { class: 'run-when' }), make('span', { class: 'run-facts' }), make('span', { class: 'run-errors' }), make('span', { class: 'run-found' })),
    make('div', { class: 'run-bar', 'aria-hidden': 'true' }, make('div')),
  );
  return row;
}

function makeState() {
  const svg = icon('ok', 'Ended');
  svg.setAttribute('class', 'state');
  return svg;
}

function fillRun(row, at) {
  const trace = runs.shown[at];
  const part = (name) => row.querySelector(`.run-${name}`);
  const { icon: state, text: stateText } = OUTCOMES[trace.outcome];
  const when = momentIn(trace, 0);
  row.id = `run-${at}`;
  row.dataset.at = at;
  row.setAttribute('aria-setsize', runs.shown.length);
  row.setAttribute('aria-posinset', at + 1);
  row.setAttribute('aria-selected', at === runs.at);
  row.classList.toggle('failed', trace.outcome === 'failed');
  setIcon(row.querySelector('.state'), state, stateText);
  part('name').textContent = line(trace.name) || '(no name)';
  part('took').textContent = duration(trace.length);
  part('when').textContent = `${when.day} ${when.short}`;
  part('facts').textContent = [counted(trace.spans.length, 'span'), line(trace.service)].filter(Boolean).join(' · ');
  part('errors').textContent = trace.errors ? counted(trace.errors, 'error') : '';
  part('found').textContent = trace.matches && trace.matches.size ? counted(trace.matches.size, 'match', 'matches') : '';
  row.lastChild.firstChild.style.width = `${Math.max(0.5, (100 * trace.length) / runs.longest)}%`;
}

function chooseRun(at) {
  if (at < 0 || at >= runs.shown.length) return;
  markRun(runs.shown[at]);
  runs.onchoose(runs.shown[at]);
}

// Mark the open run in the list.
function markRun(trace) {
  runs.at = runs.shown.indexOf(trace);
  if (runs.at >= 0) runs.rows.scrollTo(runs.at, true);
  runs.rows.refresh();
}

function pointAtRun() {
  const list = byId('runs-list');
  if (runs.rows.element(runs.at)) list.setAttribute('aria-activedescendant', `run-${runs.at}`);
  else list.removeAttribute('aria-activedescendant');
}

function runsKey(event) {
  const { shown, at, rows } = runs;
  const to = {
    ArrowDown: at + 1,
    ArrowUp: Math.max(0, at - 1),
    Home: 0,
    End: shown.length - 1,
    PageDown: at + rows.page,
    PageUp: at - rows.page,
    Enter: at,
  }[event.key];
  if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  chooseRun(Math.max(0, Math.min(shown.length - 1, to)));
  if (event.key === 'Enter') showPane('trace', true);
}
