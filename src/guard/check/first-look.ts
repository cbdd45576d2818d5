/**
 * The cheap part of the checks, for a run that begins: its first records and what its recipe asks for. What is told anyway (the
 * format's oddities, the schedule's) is left to those who tell it.
 */
import { PatinaError } from '../../base/errors.js';
import type { NumberedFile } from '../../data/sources/open-table.js';
import { describePlace } from '../../data/sources/place.js';
import type { FirstLook } from '../../train/index.js';
import { placeOf } from './data-check.js';
import { factsOf } from './open-hollow.js';
import { checkHalf, checkPlan } from './recipe-check.js';
import { RecordChecker } from './record-checker.js';
import { Tally } from './tally.js';

/** Records that are looked at, of all files together about. */
const FIRST = 32;

/** Throws nothing of its own: what cannot be read, the run itself will say. */
export const firstLook: FirstLook = async (recipe, { opened, data, batching, plan }) => {
  const { spec, tensors, traits } = factsOf(recipe, opened);
  const tally = new Tally();
  const { files } = data;
  const { reading } = recipe.image;
  let checker: RecordChecker | undefined;
  try {
    checker = await RecordChecker.open({ files, reading, model: spec, firstUse: null });
    for (const [from, to] of firstOf(files)) {
      const { marks } = await checker.check(from, to);
      for (const mark of marks) tally.add(mark, placeOf(files, mark.record));
    }
  } catch (error) {
    if (!(error instanceof PatinaError)) throw error;
  } finally {
    await checker?.close();
  }
  return [
    ...tally.findings(),
    ...checkHalf(recipe, tensors),
    ...checkPlan(recipe, { batching, plan, traits, tensors }),
  ].map(({ type, cause, severity, message, fix, source, line, id, count, places: [first] }) => {
    const where = first === undefined ? '' : `${describePlace({ ...first, file: first.source })}: `;
    return { type, cause, severity, message: where + message, fix, source, line, id, count };
  });
};

function firstOf(files: readonly NumberedFile[]): [from: number, to: number][] {
  const each = Math.ceil(FIRST / files.length);
  return files.map(({ first, table }) => [first, first + Math.min(each, table.count)]);
}
