/** Numbers as people read them: bytes, counts, durations. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `1 tensor`, `2 tensors`. */
export function plural(count: number, what: string, many = `${what}s`): string {
  return `${count} ${count === 1 ? what : many}`;
}

/** `1536` as `1.5 KiB`; three figures, powers of 1024. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return String(bytes);
  let value = Math.abs(bytes);
  let unit = 0;
  // 1023.5 would round to 1024 of a unit.
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 ? String(value) : figures(value);
  return `${bytes < 0 ? '-' : ''}${digits} ${UNITS[unit]!}`;
}

/** `20979712` as `21.0M`; three figures, powers of 1000. */
export function formatCount(count: number): string {
  if (!Number.isFinite(count)) return String(count);
  let value = Math.abs(count);
  let unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1000;
    unit++;
  }
  // Below 1000 there may be fewer than three figures to show: 4 is not 4.00.
  const digits = unit === 0 ? String(Number(figures(value))) : figures(value);
  return `${count < 0 ? '-' : ''}${digits}${['', 'K', 'M', 'B', 'T'][unit]!}`;
}

/** `0.0384` as `0.038` and `1234567` as `1.2e6`: so many figures at most, an exponent below 1e-4 and from 1e6 on. */
export function formatNumber(value: number, most = 2): string {
  if (!Number.isFinite(value)) return String(value);
  const rounded = Number(value.toPrecision(most));
  const size = Math.abs(rounded);
  const isPlain = size === 0 || (size >= 1e-4 && size < 1e6);
  return isPlain ? String(rounded) : rounded.toExponential().replace('e+', 'e');
}

/** Seconds as `4.2s`, `3m 05s`, `2h 07m` or `3d 04h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return String(seconds);
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** Seconds of something that is done again and again: `48.2 ms`, else as a duration. */
export function formatPace(seconds: number): string {
  return seconds < 0.1 ? `${(1000 * seconds).toFixed(1)} ms` : formatDuration(seconds);
}

function figures(value: number): string {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}
