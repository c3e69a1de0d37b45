// The tree of a trace. Nodes are numbers: a span's index in the trace; higher numbers are groups of equal siblings.
// No function here is recursive: a chain of spans may be deeper than the engine's stack.

const MAX_SIBLINGS = 10; // more siblings of one name become one row

const ORPHAN = 1; // its parent is not in the data
const CYCLE = 2; // its parents lead back to itself; the cycle is cut here
const EARLY = 4; // starts before its parent
const LATE = 8; // ends after its parent

function treeOf(trace) {
  if (!trace.tree) {
    const tree = { trace, size: trace.spans.length };
    findParents(tree);
    cutCycles(tree);
    listChildren(tree);
    markTimes(tree);
    groupSiblings(tree);
    countDescendants(tree);
    tree.expanded = new Uint8Array(tree.size + tree.groups.length);
    tree.expanded.fill(1, 0, tree.size);
    tree.firstError = firstFailingLeaf(tree);
    trace.tree = tree;
  }
  return trace.tree;
}

function findParents(tree) {
  const { spans, index } = tree.trace;
  tree.flags = new Uint8Array(tree.size);
  tree.parent = new Int32Array(tree.size).fill(NONE);
  for (let node = 0; node < tree.size; node++) {
    const id = spans[node].parent_id;
    if (!id) continue;
    const parent = index.get(id);
    if (parent === undefined) tree.flags[node] |= ORPHAN;
    else if (parent === node) tree.flags[node] |= CYCLE;
    else tree.parent[node] = parent;
  }
}

// Walk up from each node until a root or a node of an earlier walk. A walk that meets itself has found a cycle. Cut it
// above its earliest span: the smallest number, because nodes are in the order of their start.
function cutCycles(tree) {
  const walk = new Int32Array(tree.size); // 0: not seen; otherwise the walk that saw it
  for (let node = 0; node < tree.size; node++) {
    let at = node;
    while (at !== NONE && walk[at] === 0) {
      walk[at] = node + 1;
      at = tree.parent[at];
    }
    if (at === NONE || walk[at] !== node + 1) continue;
    let first = at;
    for (let other = tree.parent[at]; other !== at; other = tree.parent[other]) first = Math.min(first, other);
    tree.parent[first] = NONE;
    tree.flags[first] |= CYCLE;
  }
}

// Put the children of all nodes into one array: those of a node from offset[node] to offset[node + 1]. Roots are apart.
function listChildren(tree) {
  const { size, parent } = tree;
  tree.offset = new Int32Array(size + 1);
  for (let node = 0; node < size; node++) if (parent[node] !== NONE) tree.offset[parent[node] + 1]++;
  for (let node = 0; node < size; node++) tree.offset[node + 1] += tree.offset[node];
  const next = tree.offset.slice();
  tree.child = new Int32Array(size);
  const roots = [];
  for (let node = 0; node < size; node++) {
    if (parent[node] === NONE) roots.push(node);
    else tree.child[next[parent[node]]++] = node;
  }
  tree.roots = Int32Array.from(roots);
}

function childrenOf(tree, node) {
  return node === NONE ? tree.roots : tree.child.subarray(tree.offset[node], tree.offset[node + 1]);
}

function markTimes(tree) {
  const { start, end } = tree.trace;
  for (let node = 0; node < tree.size; node++) {
    const parent = tree.parent[node];
    if (parent === NONE) continue;
    if (start[node] < start[parent]) tree.flags[node] |= EARLY;
    if (end[node] > end[parent] || start[node] > end[parent]) tree.flags[node] |= LATE;
  }
}

function groupSiblings(tree) {
  tree.groups = [];
  tree.groupOf = new Int32Array(tree.size).fill(NONE);
  tree.shown = new Map(); // parent -> its children with groups in place of their members
  for (let parent = NONE; parent < tree.size; parent++) {
    const children = childrenOf(tree, parent);
    if (children.length > MAX_SIBLINGS) groupChildren(tree, parent, children);
  }
}

function groupChildren(tree, parent, children) {
  const byName = new Map();
  for (const child of children) {
    const { name } = tree.trace.spans[child];
    if (byName.has(name)) byName.get(name).push(child);
    else byName.set(name, [child]);
  }
  const shown = [];
  for (const child of children) {
    const members = byName.get(tree.trace.spans[child].name);
    if (members.length <= MAX_SIBLINGS) shown.push(child);
    else if (members[0] === child) shown.push(addGroup(tree, parent, members));
  }
  tree.shown.set(parent, shown);
}

function addGroup(tree, parent, members) {
  const node = tree.size + tree.groups.length;
  const { trace } = tree;
  const durations = Float64Array.from(members, (member) => durationOf(trace, member)).sort();
  const middle = durations.length >> 1;
  const range = members.reduce((times, member) => [Math.min(times[0], trace.start[member]), Math.max(times[1], endOf(trace, member))], [Infinity, 0]);
  for (const member of members) tree.groupOf[member] = node;
  tree.groups.push({
    parent,
    members,
    name: trace.spans[members[0]].name,
    start: range[0],
    end: range[1],
    median: durations.length % 2 ? durations[middle] : (durations[middle - 1] + durations[middle]) / 2,
    slowest: durations[durations.length - 1],
    fastest: durations[0],
    total: durations.reduce((sum, time) => sum + time, 0),
    failed: members.filter((member) => trace.spans[member].status === 'error').length,
  });
  return node;
}

const isGroup = (tree, node) => node >= tree.size;
const groupAt = (tree, node) => tree.groups[node - tree.size];

// The children of a node on the screen, where groups replace equal siblings.
function visibleChildren(tree, node) {
  if (isGroup(tree, node)) return groupAt(tree, node).members;
  return tree.shown.get(node) || childrenOf(tree, node);
}

function visibleParent(tree, node) {
  if (isGroup(tree, node)) return groupAt(tree, node).parent;
  return tree.groupOf[node] === NONE ? tree.parent[node] : tree.groupOf[node];
}

// The end of the bar: a span that has not ended is drawn to the end of the run.
function endOf(trace, node) {
  return Number.isNaN(trace.end[node]) ? trace.length : trace.end[node];
}

function durationOf(trace, node) {
  return endOf(trace, node) - trace.start[node];
}

// The rows of the waterfall from the top: nodes and their levels (1 for roots), without collapsed nodes.
function rowsOf(tree) {
  const most = tree.size + tree.groups.length;
  const nodes = new Int32Array(most);
  const levels = new Int32Array(most);
  const stack = [];
  const push = (children, level) => {
    for (let at = children.length - 1; at >= 0; at--) stack.push(children[at], level);
  };
  let length = 0;
  push(visibleChildren(tree, NONE), 1);
  while (stack.length) {
    const level = stack.pop();
    const node = stack.pop();
    nodes[length] = node;
    levels[length++] = level;
    if (tree.expanded[node]) push(visibleChildren(tree, node), level + 1);
  }
  return { nodes: nodes.subarray(0, length), levels: levels.subarray(0, length), length };
}

// The row of each node if everything were expanded.
function rowPositions(tree) {
  if (!tree.positions) {
    const expanded = tree.expanded.slice();
    tree.expanded.fill(1);
    tree.positions = new Int32Array(expanded.length);
    rowsOf(tree).nodes.forEach((node, position) => (tree.positions[node] = position));
    tree.expanded.set(expanded);
  }
  return tree.positions;
}

// Count the descendants of each span, and the failed ones. Also sets the order in which parents precede children.
function countDescendants(tree) {
  tree.order = new Int32Array(tree.size);
  tree.level = new Int32Array(tree.size);
  let length = 0;
  for (const root of tree.roots) tree.order[length++] = root;
  for (let at = 0; at < length; at++) {
    for (const child of childrenOf(tree, tree.order[at])) {
      tree.level[child] = tree.level[tree.order[at]] + 1;
      tree.order[length++] = child;
    }
  }
  tree.deepest = length ? tree.level[tree.order[length - 1]] : 0;
  tree.descendants = new Int32Array(tree.size);
  tree.failedDescendants = new Int32Array(tree.size);
  for (let at = length - 1; at >= 0; at--) {
    const node = tree.order[at];
    const parent = tree.parent[node];
    if (parent === NONE) continue;
    tree.descendants[parent] += tree.descendants[node] + 1;
    tree.failedDescendants[parent] += tree.failedDescendants[node] + (tree.trace.spans[node].status === 'error');
  }
}

// The first error: of the failed spans without a failed child, the one that ended first.
function firstFailingLeaf(tree) {
  const { spans } = tree.trace;
  const hasFailedChild = new Uint8Array(tree.size);
  const failed = (node) => spans[node].status === 'error';
  for (let node = 0; node < tree.size; node++) if (failed(node) && tree.parent[node] !== NONE) hasFailedChild[tree.parent[node]] = 1;
  tree.leafError = new Uint8Array(tree.size);
  let first = NONE;
  for (let node = 0; node < tree.size; node++) {
    if (!failed(node) || hasFailedChild[node]) continue;
    tree.leafError[node] = 1;
    if (first === NONE || endOf(tree.trace, node) < endOf(tree.trace, first)) first = node;
  }
  return first;
}

function expandAll(tree, on) {
  tree.expanded.fill(on ? 1 : 0);
}

// Make a node visible: expand all its ancestors.
function reveal(tree, node) {
  for (let ancestor = visibleParent(tree, node); ancestor !== NONE; ancestor = visibleParent(tree, ancestor)) tree.expanded[ancestor] = 1;
}

// The time of a span during which none of its children ran.
function selfTime(tree, node) {
  const { trace } = tree;
  let covered = 0;
  let until = trace.start[node];
  const end = endOf(trace, node);
  for (const child of childrenOf(tree, node)) { // in the order of their start
    const from = Math.max(until, trace.start[child]);
    const to = Math.min(end, endOf(trace, child));
    if (to > from) {
      covered += to - from;
      until = to;
    }
  }
  return end - trace.start[node] - covered;
}
