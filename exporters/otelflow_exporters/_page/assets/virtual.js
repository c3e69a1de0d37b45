// Rows of equal height, of which only those in sight are elements. They stand in the document in the order in which
// they are seen, so that screen readers and printers meet them in it; scrolling moves them from one end to the other.

const SPARE_ROWS = 12; // above and below what is seen, so that a quick scroll does not show a gap

class VirtualRows {
  constructor(scroller, makeRow, fillRow) {
    this.scroller = scroller;
    this.spacer = scroller.querySelector('.spacer');
    this.holder = scroller.querySelector('.rows');
    this.makeRow = makeRow;
    this.fillRow = fillRow;
    this.length = 0;
    this.first = 0;
    this.height = 28;
    this.everything = false;
    this.onrange = null; // what rows have in common may depend on which are seen
    this.ondraw = null;
    scroller.addEventListener('scroll', oncePerFrame(() => this.draw(false)), { passive: true });
  }

  // Takes the number of rows, and draws what is in sight anew.
  show(length) {
    this.length = length;
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue('--row')) || 28;
    this.spacer.style.height = `${length * this.height}px`;
    this.draw(true);
  }

  range() {
    const { scrollTop, clientHeight } = this.scroller;
    const seen = Math.ceil(clientHeight / this.height) + 1;
    const top = Math.floor(scrollTop / this.height);
    const spare = this.everything ? 150 : SPARE_ROWS;
    const first = Math.max(0, Math.min(top, this.length - seen) - spare);
    return [first, Math.min(this.length, top + seen + spare)];
  }

  draw(anew) {
    const [first, last] = this.range();
    const rows = this.holder.children;
    const before = this.first;
    const kept = !anew && rows.length === last - first && Math.abs(first - before) < rows.length;
    if (kept && first === before) return;
    if (kept) this.turn(first - before);
    else this.resize(last - first);
    this.first = first;
    this.holder.style.transform = `translateY(${first * this.height}px)`;
    for (let at = 0; at < rows.length; at++) {
      const known = kept && !anew && first + at >= before && first + at < before + rows.length;
      if (!known) this.fillRow(rows[at], first + at);
    }
    if (this.onrange) this.onrange(first, last);
    if (this.ondraw) this.ondraw();
  }

  turn(by) {
    for (; by > 0; by--) this.holder.append(this.holder.firstElementChild);
    for (; by < 0; by++) this.holder.prepend(this.holder.lastElementChild);
  }

  resize(length) {
    while (this.holder.children.length > length) this.holder.lastElementChild.remove();
    while (this.holder.children.length < length) this.holder.append(this.makeRow());
  }

  refresh() {
    this.draw(true);
  }

  // Scrolls no more than needed; with `centre`, to the middle unless the row is well in sight.
  reach(index, centre) {
    const { scrollTop, clientHeight } = this.scroller;
    const top = index * this.height;
    if (top < scrollTop || top + this.height > scrollTop + clientHeight) {
      const above = top < scrollTop;
      if (centre) this.scroller.scrollTop = top - clientHeight / 2;
      else this.scroller.scrollTop = above ? top : top + this.height - clientHeight;
    }
    this.draw(false);
  }

  get page() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / this.height) - 1);
  }

  element(index) {
    return this.holder.children[index - this.first] || null;
  }
}
