// Searching: in names, services, attributes, events and status messages, in any case of letters.

function searchText(span) {
  const parts = [span.name, span.span_id, serviceOf(span), span.status_message];
  addAttributes(parts, span.attributes);
  for (const event of span.events) {
    parts.push(event.name);
    addAttributes(parts, event.attributes);
  }
  return parts.join('\n').toLowerCase();
}

function addAttributes(parts, attributes) {
  for (const [name, value] of Object.entries(attributes)) parts.push(`${name}=${text(value)}`);
}

// Puts the nodes that match into each trace. The texts are made at the first search: reading does not wait for them.
function searchIn(traces, query) {
  const wanted = query.trim().toLowerCase();
  for (const trace of traces.values()) {
    if (!wanted) {
      trace.matches = null;
      continue;
    }
    trace.texts ||= trace.spans.map(searchText);
    trace.matches = new Set();
    trace.texts.forEach((one, node) => one.includes(wanted) && trace.matches.add(node));
  }
}

// Matches in the order of the rows when everything is expanded, so that "next" goes down the screen.
function matchesInOrder(tree) {
  const places = placesOf(tree);
  return [...tree.trace.matches].sort((a, b) => places[a] - places[b]);
}

// The match after (or before) a node, round at the end.
function nextMatch(tree, node, forward) {
  const matches = matchesInOrder(tree);
  if (!matches.length) return NONE;
  const places = placesOf(tree);
  const here = node === NONE ? -1 : places[node];
  if (forward) return matches.find((match) => places[match] > here) ?? matches[0];
  return matches.filter((match) => places[match] < here).pop() ?? matches[matches.length - 1];
}

// Puts `name` into an element, with the part that was searched for marked.
function markMatch(element, name, query) {
  const at = query ? name.toLowerCase().indexOf(query) : -1;
  if (at < 0) {
    element.textContent = name;
    return;
  }
  const mark = make('mark', {}, name.slice(at, at + query.length));
  element.replaceChildren(name.slice(0, at), mark, name.slice(at + query.length));
}
