/** Checks before a run: data, template, weights, and what the recipe asks for. */
export {
  check,
  type CheckEvent,
  type RunCheckOptions,
  type CheckParts,
  type CheckSummary,
} from './check.js';
export type { CleanedFacts } from './cleaned-copy.js';
export type { Finding, FindingPlace } from './finding.js';
export { drawLengths } from './lengths.js';
