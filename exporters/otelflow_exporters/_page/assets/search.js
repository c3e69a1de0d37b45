// Search names, services, attributes, events and status messages. Upper and lower case are equal.

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

// Set the matching nodes of each trace. The first search creates the texts, so that the page opens without that delay.
function searchIn(traces, query) {
  const needle = query.trim().toLowerCase();
  for (const trace of traces.values()) {
    if (!needle) {
      trace.matches = null;
      continue;
    }
    trace.texts ||= trace.spans.map(searchText);
    trace.matches = new Set();
    trace.texts.forEach((spanText, node) => spanText.includes(needle) && trace.matches.add(node));
  }
}

// The matches in the order of the rows when everything is expanded, so that "next" goes down the screen.
function matchesInOrder(tree) {
  const positions = rowPositions(tree);
  return [...tree.trace.matches].sort((a, b) => positions[a] - positions[b]);
}

// The match after (or before) a node. Wraps around at the end.
function nextMatch(tree, node, forward) {
  const matches = matchesInOrder(tree);
  if (!matches.length) return NONE;
  const positions = rowPositions(tree);
  const here = node === NONE ? -1 : positions[node];
  if (forward) return matches.find((match) => positions[match] > here) ?? matches[0];
  return matches.filter((match) => positions[match] < here).pop() ?? matches[matches.length - 1];
}

// Set an element's text to `name`, and mark the part that matches the query.
function markMatch(element, name, query) {
  const at = query ? name.toLowerCase().indexOf(query) : -1;
  if (at < 0) {
    element.textContent = name;
    return;
  }
  const mark = make('mark', {}, name.slice(at, at + query.length));
  element.replaceChildren(name.slice(0, at), mark, name.slice(at + query.length));
}
