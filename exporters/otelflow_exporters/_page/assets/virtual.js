// A list of rows of equal height: only the visible rows have elements. The elements are in the order of the rows, so
// that screen readers and printers read them in this order. Scrolling moves elements from one end to the other.

const SPARE_ROWS = 12; // above and below the visible rows, so that a quick scroll does not show a gap

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
    this.isPrinting = false;
    this.onrange = null; // called with the range of rows: their common layout may depend on it
    this.ondraw = null;
    scroller.addEventListener('scroll', oncePerFrame(() => this.draw(false)), { passive: true });
  }

  // Set the number of rows, and draw the visible ones again.
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
    const spare = this.isPrinting ? 150 : SPARE_ROWS;
    const first = Math.max(0, Math.min(top, this.length - seen) - spare);
    return [first, Math.min(this.length, top + seen + spare)];
  }

  draw(refill) {
    const [first, last] = this.range();
    const rows = this.holder.children;
    const before = this.first;
    const canReuse = !refill && rows.length === last - first && Math.abs(first - before) < rows.length;
    if (canReuse && first === before) return;
    if (canReuse) this.rotate(first - before);
    else this.resize(last - first);
    this.first = first;
    this.holder.style.transform = `translateY(${first * this.height}px)`;
    for (let at = 0; at < rows.length; at++) {
      const isFilled = canReuse && !refill && first + at >= before && first + at < before + rows.length;
      if (!isFilled) this.fillRow(rows[at], first + at);
    }
    if (this.onrange) this.onrange(first, last);
    if (this.ondraw) this.ondraw();
  }

  rotate(by) {
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

  // Scroll until the row is visible; with `centre`, to the middle. Does nothing if it is visible already.
  scrollTo(index, centre) {
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
