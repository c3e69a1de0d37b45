// The critical path: the spans that the duration of the run consists of. Making anything else faster gains nothing.
//
// The rule is the field's: go back from the end of the root. Whatever finished last before that moment is what was
// waited for, so the path leads into it; it leaves it at its start, and there the question is asked again. Between its
// children a span itself is on the path. See "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures"
// (Zhang et al., USENIX ATC 2022, section 3), and the critical path that Jaeger's UI marks, from which we take that a
// child that reaches beyond its parent is cut to it.

// Segments {node, from, to} in the order of time. Each root has a path of its own.
function criticalPath(tree) {
  if (tree.path) return tree.path;
  const segments = [];
  const waiting = Array.from(tree.roots, (node) => ({ node, from: tree.trace.start[node], to: endOf(tree.trace, node) }));
  while (waiting.length) {
    const span = waiting.pop();
    let until = span.to;
    for (const child of lastFirst(tree, span)) {
      if (child.to > until) continue; // ran beside the one that was waited for
      if (until > child.to) segments.push({ node: span.node, from: child.to, to: until });
      waiting.push(child);
      until = child.from;
    }
    if (until > span.from) segments.push({ node: span.node, from: span.from, to: until });
  }
  segments.sort((a, b) => a.from - b.from);
  tree.path = segments;
  tree.pathTime = new Float64Array(tree.size);
  tree.pathOf = new Map();
  for (const segment of segments) {
    tree.pathTime[segment.node] += segment.to - segment.from;
    if (tree.pathOf.has(segment.node)) tree.pathOf.get(segment.node).push(segment);
    else tree.pathOf.set(segment.node, [segment]);
  }
  return segments;
}

// The children of a span, cut to its window, that took time in it; what finished last comes first.
function lastFirst(tree, { node, from, to }) {
  const found = [];
  for (const child of childrenOf(tree, node)) {
    const cut = { node: child, from: Math.max(from, tree.trace.start[child]), to: Math.min(to, endOf(tree.trace, child)) };
    if (cut.to > cut.from) found.push(cut);
  }
  return found.sort((a, b) => b.to - a.to || a.from - b.from);
}

// The parts of the path that a row stands for: a span's own, and where it is collapsed, those of all below it.
function pathOfRow(tree, node, collapsed) {
  const segments = criticalPath(tree);
  if (!collapsed) return tree.pathOf.get(node) || [];
  tree.pathBelow ||= new Map();
  if (!tree.pathBelow.has(node)) {
    const within = spansBelow(tree, node);
    tree.pathBelow.set(node, joined(segments.filter((segment) => within.has(segment.node))));
  }
  return tree.pathBelow.get(node);
}

function spansBelow(tree, node) {
  const found = new Set();
  const waiting = isGroup(tree, node) ? [...groupAt(tree, node).members] : [node];
  while (waiting.length) {
    const at = waiting.pop();
    found.add(at);
    for (const child of childrenOf(tree, at)) waiting.push(child);
  }
  return found;
}

function joined(segments) {
  const parts = [];
  for (const { from, to } of segments) {
    const last = parts[parts.length - 1];
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else parts.push({ from, to });
  }
  return parts;
}
