// Format times and numbers. Times are nanoseconds since the start of the run, unless a name says otherwise.

const MICRO = 1e3;
const MILLI = 1e6;
const SECOND = 1e9;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

function threeDigits(value) {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

function duration(nanos) {
  if (nanos < MICRO) return `${Math.round(nanos)} ns`;
  if (nanos < MILLI) return `${threeDigits(nanos / MICRO)} µs`;
  if (nanos < SECOND) return `${threeDigits(nanos / MILLI)} ms`;
  if (nanos < MINUTE) return `${threeDigits(nanos / SECOND)} s`;
  const [unit, name, part, partName] =
    nanos < HOUR ? [MINUTE, 'min', SECOND, 's'] : nanos < DAY ? [HOUR, 'h', MINUTE, 'min'] : [DAY, 'd', HOUR, 'h'];
  // Rounded before it is split: otherwise the result could be "1 min 60 s".
  const parts = Math.round(nanos / part);
  const each = unit / part;
  return `${Math.floor(parts / each)} ${name} ${parts % each} ${partName}`;
}

function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f'); // a narrow space: no language reads it as a decimal point
}

function counted(number, singular, plural = `${singular}s`) {
  return `${count(number)} ${number === 1 ? singular : plural}`;
}

function percent(share) {
  const value = share * 100;
  return value > 0 && value < 0.1 ? '< 0.1 %' : `${value.toFixed(value < 9.95 ? 1 : 0)} %`;
}

// A moment in the reader's time zone, to the microsecond, with the zone: a colleague may be in another one.
function moment(epochSecond, nanos) {
  const seconds = epochSecond + Math.floor(nanos / SECOND);
  const date = new Date(seconds * 1000);
  const micros = String(Math.floor((((nanos % SECOND) + SECOND) % SECOND) / MICRO)).padStart(6, '0');
  return { day: dayOf(date), time: `${clockOf(date)}.${micros}`, zone: zoneOf(date), short: clockOf(date) };
}

const two = (number) => String(number).padStart(2, '0');

function dayOf(date) {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function clockOf(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function zoneOf(date) {
  const minutes = -date.getTimezoneOffset();
  const size = Math.abs(minutes);
  return minutes === 0 ? 'UTC' : `UTC${minutes < 0 ? '−' : '+'}${Math.floor(size / 60)}${size % 60 ? `:${two(size % 60)}` : ''}`;
}

const CLOCK_STEPS = [SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY];

// The distance of ticks: 1, 2 or 5 of a decimal unit up to a second, then the steps of a clock.
function tickStep(span, atMost) {
  const needed = span / atMost;
  if (needed > DAY) return decimalStep(needed / DAY) * DAY;
  if (needed > SECOND) return CLOCK_STEPS.find((step) => step >= needed);
  return Math.max(1, decimalStep(needed));
}

function decimalStep(needed) {
  const power = 10 ** Math.floor(Math.log10(needed));
  return [1, 2, 5, 10].find((factor) => factor * power >= needed * 0.999999) * power;
}

// All labels of an axis have the unit of its end, and as many digits as its step needs.
function tickLabel(at, step, last) {
  if (at === 0) return '0';
  if (last >= 2 * MINUTE) return clockLabel(at, step);
  const [unit, name] = last >= SECOND ? [SECOND, 's'] : last >= MILLI ? [MILLI, 'ms'] : last >= MICRO ? [MICRO, 'µs'] : [1, 'ns'];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  return `${(at / unit).toFixed(digits)} ${name}`;
}

function clockLabel(at, step) {
  const seconds = Math.floor(at / SECOND);
  const rest = step < SECOND ? (at % SECOND / SECOND).toFixed(Math.ceil(-Math.log10(step / SECOND) - 1e-9)).slice(1) : '';
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}${rest} min`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}${step < MINUTE ? `:${two(seconds % 60)}${rest}` : ''} h`;
}
