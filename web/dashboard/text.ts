/** Numbers and dates as the page writes them. */
export { formatBytes, formatCount, formatDuration } from '../../src/base/format.js';

export function numberText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6)
    ? value.toExponential(2)
    : value.toLocaleString('en', { maximumSignificantDigits: 4 });
}

export function percentText(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function dateText(iso: string): string {
  return new Date(iso).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}
