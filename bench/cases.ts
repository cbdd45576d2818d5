/** The workloads of `bench/train.ts`, by names that `bench/gpu/train_peer.py` knows too. */
import { UsageError } from '../src/base/errors.js';
import type { InputFacts, Sample } from '../src/models/index.js';
import { CAPTIONS, MIX } from './lengths.js';
import { sample } from './shapes.js';

export interface Case {
  readonly name: string;
  readonly shape: 'llama3' | 'vicuna';
  /** Whether the decoder is alone. */
  readonly isText: boolean;
  /** The micro-batches of each update: what is measured is the time for all of them. */
  readonly updates: readonly (readonly MicroBatch[])[];
}

type MicroBatch = readonly Row[];

/** One record: tokens of its text, and how many of its labels after the picture are ignored. */
interface Row {
  readonly text: number;
  readonly question: number;
}

/** Of a picture in the models that the names of cases speak of. */
const PICTURE = 576;
const BUDGET = 8192;
const ACCUMULATED = 16;
const CAPTION_BATCHES = 12;

export const CASE_NAMES =
  '[text-|llava15-]BxS such as 4x2048, one-N such as one-600, mix, mix-N such as mix-64, stage1-16, stage1-32; ' +
  'stage1 is both of these, llava15 is llava15-4x2048';

/** @throws UsageError `E_USAGE` for a name that there is not */
export function readCases(names: string): Case[] {
  return names.split(',').flatMap((name) => {
    if (name === 'stage1') return [readCase('stage1-16'), readCase('stage1-32')];
    return [readCase(name === 'llava15' ? 'llava15-4x2048' : name)];
  });
}

function readCase(name: string): Case {
  const common = { name, shape: 'llama3', isText: false } as const;
  const number = (found: RegExpExecArray, i: number): number => Number(found[i]);
  let found = /^(text-|llava15-)?([1-9]\d*)x([1-9]\d*)$/.exec(name);
  if (found !== null && number(found, 3) > (found[1] === 'text-' ? 1 : PICTURE + 24)) {
    const isText = found[1] === 'text-';
    const tokens = number(found, 3);
    // With five tokens before a picture, the first 600 labels are ignored; without one, none.
    const row = isText ? { text: tokens, question: 0 } : { text: tokens - PICTURE, question: 19 };
    const batch = Array<Row>(number(found, 2)).fill(row);
    const shape = found[1] === 'llava15-' ? 'vicuna' : 'llama3';
    return { ...common, shape, isText, updates: [[batch]] };
  }
  found = /^one-([1-9]\d*)$/.exec(name);
  if (found !== null && number(found, 1) > PICTURE + 12) {
    const row = answered(number(found, 1) - PICTURE);
    return { ...common, updates: [Array<MicroBatch>(ACCUMULATED).fill([row])] };
  }
  found = /^stage1-([1-9]\d*)$/.exec(name);
  if (found !== null && number(found, 1) <= CAPTIONS.length / CAPTION_BATCHES) {
    const rows = CAPTIONS.slice(0, CAPTION_BATCHES * number(found, 1)).map(answered);
    return { ...common, updates: pieces(rows, number(found, 1)).map((batch) => [batch]) };
  }
  if (name === 'mix') {
    return { ...common, updates: packed(MIX.map(answered)).map((batch) => [batch]) };
  }
  found = /^mix-([1-9]\d*)$/.exec(name);
  if (found !== null && number(found, 1) <= MIX.length) {
    return { ...common, updates: pieces(MIX.map(answered), number(found, 1)).map(packed) };
  }
  throw new UsageError(`there is no case "${name}"`, {
    code: 'E_USAGE',
    hint: `Give names with commas between: ${CASE_NAMES}.`,
  });
}

/** Two fifths of a text are the question. */
const answered = (text: number): Row => ({ text, question: Math.floor(0.4 * text) });

const pieces = <T>(all: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
    all.slice(i * size, (i + 1) * size),
  );

/** Best fit, longest first: each record goes where it leaves least room. */
function packed(rows: readonly Row[]): Row[][] {
  const bins: { rows: Row[]; room: number }[] = [];
  for (const row of rows.toSorted((a, b) => b.text - a.text)) {
    const tokens = row.text + PICTURE;
    const fitting = bins.filter(({ room }) => room >= tokens);
    let bin = fitting.reduce((best, each) => (each.room < best.room ? each : best), fitting[0]!);
    if (bin === undefined) bins.push((bin = { rows: [], room: BUDGET }));
    bin.rows.push(row);
    bin.room -= tokens;
  }
  return bins.map((bin) => bin.rows);
}

/** The records of a micro-batch as a model takes them; pictures differ within it. */
export function samplesOf(batch: MicroBatch, input: InputFacts): Sample[] {
  return batch.map(({ text, question }, seed) =>
    sample(input, { seed, tokens: text + (input.image?.tokens ?? 0), question }),
  );
}
