/** A value as one line of JSON; numbers that JSON lacks are written as in the logs of a run: "NaN", "Infinity". */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_key, each: unknown) =>
    typeof each === 'number' && !Number.isFinite(each) ? String(each) : each,
  )}\n`;
}
