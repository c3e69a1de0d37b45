// The tree of a trace. Nodes are numbers: a span's place in the trace, and above those, groups of equal siblings.
// No function here calls itself: a chain of spans may be deeper than the engine's stack.

const MOST_SIBLINGS = 10; // more than this of one name below one parent become one row

const ORPHAN = 1; // names a parent that is not in the data
const CIRCLE = 2; // its parents lead back to itself; cut here
const EARLY = 4; // starts before its parent
const LATE = 8; // ends after its parent

function treeOf(trace) {
  if (!trace.tree) {
    const tree = { trace, size: trace.spans.length };
    findParents(tree);
    cutCircles(tree);
    listChildren(tree);
    markTimes(tree);
    groupSiblings(tree);
    countBelow(tree);
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
    else if (parent === node) tree.flags[node] |= CIRCLE;
    else tree.parent[node] = parent;
  }
}

// Walks up from each node until it meets a root or a walk before. A walk that meets itself has found a circle, which is
// cut above its earliest span: the smallest number, as nodes are in the order of their start.
function cutCircles(tree) {
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
    tree.flags[first] |= CIRCLE;
  }
}

// Children of all nodes in one array, those of a node from offset[node] to offset[node + 1]; roots by themselves.
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
    if (children.length > MOST_SIBLINGS) groupChildren(tree, parent, children);
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
    if (members.length <= MOST_SIBLINGS) shown.push(child);
    else if (members[0] === child) shown.push(addGroup(tree, parent, members));
  }
  tree.shown.set(parent, shown);
}

function addGroup(tree, parent, members) {
  const node = tree.size + tree.groups.length;
  const { trace } = tree;
  const took = Float64Array.from(members, (member) => durationOf(trace, member)).sort();
  const middle = took.length >> 1;
  const range = members.reduce((all, member) => [Math.min(all[0], trace.start[member]), Math.max(all[1], endOf(trace, member))], [Infinity, 0]);
  for (const member of members) tree.groupOf[member] = node;
  tree.groups.push({
    parent,
    members,
    name: trace.spans[members[0]].name,
    start: range[0],
    end: range[1],
    median: took.length % 2 ? took[middle] : (took[middle - 1] + took[middle]) / 2,
    slowest: took[took.length - 1],
    fastest: took[0],
    total: took.reduce((sum, one) => sum + one, 0),
    failed: members.filter((member) => trace.spans[member].status === 'error').length,
  });
  return node;
}

const isGroup = (tree, node) => node >= tree.size;
const groupAt = (tree, node) => tree.groups[node - tree.size];

// What stands below a node on the screen.
function shownBelow(tree, node) {
  if (isGroup(tree, node)) return groupAt(tree, node).members;
  return tree.shown.get(node) || childrenOf(tree, node);
}

function shownParent(tree, node) {
  if (isGroup(tree, node)) return groupAt(tree, node).parent;
  return tree.groupOf[node] === NONE ? tree.parent[node] : tree.groupOf[node];
}

// The end as it is drawn: a span that has not ended goes on to the end of what is known.
function endOf(trace, node) {
  return Number.isNaN(trace.end[node]) ? trace.length : trace.end[node];
}

function durationOf(trace, node) {
  return endOf(trace, node) - trace.start[node];
}

// Rows of the waterfall from the top: nodes and their levels (1 for roots), without what is collapsed.
function rowsOf(tree) {
  const most = tree.size + tree.groups.length;
  const nodes = new Int32Array(most);
  const levels = new Int32Array(most);
  const waiting = [];
  const push = (children, level) => {
    for (let at = children.length - 1; at >= 0; at--) waiting.push(children[at], level);
  };
  let length = 0;
  push(shownBelow(tree, NONE), 1);
  while (waiting.length) {
    const level = waiting.pop();
    const node = waiting.pop();
    nodes[length] = node;
    levels[length++] = level;
    if (tree.expanded[node]) push(shownBelow(tree, node), level + 1);
  }
  return { nodes: nodes.subarray(0, length), levels: levels.subarray(0, length), length };
}

// The row that each node would be if everything were expanded.
function placesOf(tree) {
  if (!tree.places) {
    const expanded = tree.expanded.slice();
    tree.expanded.fill(1);
    tree.places = new Int32Array(expanded.length);
    rowsOf(tree).nodes.forEach((node, place) => (tree.places[node] = place));
    tree.expanded.set(expanded);
  }
  return tree.places;
}

// How many spans, and how many failures, are below each span. Also the order in which parents precede children.
function countBelow(tree) {
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
  tree.below = new Int32Array(tree.size);
  tree.failedBelow = new Int32Array(tree.size);
  for (let at = length - 1; at >= 0; at--) {
    const node = tree.order[at];
    const parent = tree.parent[node];
    if (parent === NONE) continue;
    tree.below[parent] += tree.below[node] + 1;
    tree.failedBelow[parent] += tree.failedBelow[node] + (tree.trace.spans[node].status === 'error');
  }
}

// Where it began to fail: of the failed spans that no failed span is directly below, the one that ended first.
function firstFailingLeaf(tree) {
  const { spans } = tree.trace;
  const above = new Uint8Array(tree.size);
  const failed = (node) => spans[node].status === 'error';
  for (let node = 0; node < tree.size; node++) if (failed(node) && tree.parent[node] !== NONE) above[tree.parent[node]] = 1;
  tree.leafError = new Uint8Array(tree.size);
  let first = NONE;
  for (let node = 0; node < tree.size; node++) {
    if (!failed(node) || above[node]) continue;
    tree.leafError[node] = 1;
    if (first === NONE || endOf(tree.trace, node) < endOf(tree.trace, first)) first = node;
  }
  return first;
}

function expandAll(tree, on) {
  tree.expanded.fill(on ? 1 : 0);
}

// Makes a node visible: everything above it is expanded.
function reveal(tree, node) {
  for (let above = shownParent(tree, node); above !== NONE; above = shownParent(tree, above)) tree.expanded[above] = 1;
}

// Time of a span in which none of its children ran.
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
