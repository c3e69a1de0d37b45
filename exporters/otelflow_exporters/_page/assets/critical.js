// The critical path: the parts of spans that determine the duration of the run. Making other parts faster gains nothing.
//
// The usual rule: go back from the end of the root. The parent waited for the child that finished last before that
// moment, so the path enters this child, and leaves it at its start. There the rule applies again. Between its children
// the span itself is on the path. See "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures"
// (Zhang et al., USENIX ATC 2022, section 3), and the critical path in Jaeger's UI: as there, a child that ends after its
// parent is cut at the parent's end.

// Segments {node, from, to} in the order of time. Each root has its own path.
function criticalPath(tree) {
  if (tree.path) return tree.path;
  const segments = [];
  const stack = Array.from(tree.roots, (node) => ({ node, from: tree.trace.start[node], to: endOf(tree.trace, node) }));
  while (stack.length) {
    const span = stack.pop();
    let until = span.to;
    for (const child of childrenLastFirst(tree, span)) {
      if (child.to > until) continue; // ran in parallel with the child that the parent waited for
      if (until > child.to) segments.push({ node: span.node, from: child.to, to: until });
      stack.push(child);
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

// The children of a span, cut to its window, without those outside it; the last to finish comes first.
function childrenLastFirst(tree, { node, from, to }) {
  const children = [];
  for (const child of childrenOf(tree, node)) {
    const cut = { node: child, from: Math.max(from, tree.trace.start[child]), to: Math.min(to, endOf(tree.trace, child)) };
    if (cut.to > cut.from) children.push(cut);
  }
  return children.sort((a, b) => b.to - a.to || a.from - b.from);
}

// The parts of the path on a row: the span's own; if the row is collapsed, also those of its descendants.
function pathOfRow(tree, node, collapsed) {
  const segments = criticalPath(tree);
  if (!collapsed) return tree.pathOf.get(node) || [];
  tree.pathOfSubtree ||= new Map();
  if (!tree.pathOfSubtree.has(node)) {
    const subtree = subtreeOf(tree, node);
    tree.pathOfSubtree.set(node, joinSegments(segments.filter((segment) => subtree.has(segment.node))));
  }
  return tree.pathOfSubtree.get(node);
}

function subtreeOf(tree, node) {
  const nodes = new Set();
  const stack = isGroup(tree, node) ? [...groupAt(tree, node).members] : [node];
  while (stack.length) {
    const at = stack.pop();
    nodes.add(at);
    for (const child of childrenOf(tree, at)) stack.push(child);
  }
  return nodes;
}

function joinSegments(segments) {
  const parts = [];
  for (const { from, to } of segments) {
    const last = parts[parts.length - 1];
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else parts.push({ from, to });
  }
  return parts;
}
