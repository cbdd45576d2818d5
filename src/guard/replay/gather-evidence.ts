/**
 * The evidence about an update whose gradient is not finite: it is run again as it was, then again, then record by record, then with what may
 * be to blame turned off. All ranks do the same in the same order, and put together what they found.
 */

import type { LoadedSample } from '../../data/index.js';
import type { ImagePixels } from '../../models/index.js';
import type { GuardedRecord, Scene } from '../../train/index.js';
import { guarded } from '../../train/index.js';
import { probeForward, type Culprit, type ForwardFacts } from './forward-probe.js';
import { runAgain, sameRun, withoutOverlap } from './run-again.js';
import { scanWeights } from './weights-scan.js';

/** One record, run alone. */
export interface RecordFacts {
  readonly rank: number;
  readonly record: GuardedRecord;
  readonly finite: boolean;
  /** Mean over its supervised tokens. */
  readonly loss: number | null;
  readonly pictures: number;
  /** Whether pixels are not finite. */
  readonly brokenPixels: boolean;
  /** Segment and parameter of the first gradient, from the loss down, that is not finite. */
  readonly gradient: string | null;
  /** Words in it whose embedding is unlike all others. */
  readonly wild: readonly { readonly id: number; readonly times: number }[];
}

/** What one rank found. */
interface RankFacts {
  readonly rank: number;
  /** Whether its micro-batches came out finite when they ran again, and once more, and to the same bits. */
  readonly finite: boolean;
  readonly finiteAgain: boolean;
  readonly same: boolean;
  readonly finiteWithoutOffload: boolean | null;
  /** `null` where nothing overlaps. */
  readonly finiteWithoutOverlap: boolean | null;
  /** Root mean square of what trains, of matrices. */
  readonly rms: number;
  readonly badWeights: readonly string[];
  readonly badStates: readonly string[];
  readonly records: readonly RecordFacts[];
  /** Of the record that is suspected, or else of the first one. */
  readonly forward: ForwardFacts;
  readonly wide: ForwardFacts | null;
  readonly finiteScaledDown: boolean;
}

export interface Evidence {
  readonly ranks: readonly RankFacts[];
  readonly records: readonly RecordFacts[];
  readonly bad: readonly RecordFacts[];
  /** A record of an update that came out well, run alone: whether it still does; `null` where there is none. */
  readonly control: boolean | null;
  readonly finite: boolean;
  readonly repeats: boolean;
  readonly culprit: Culprit | null;
  /** The rank whose own gradients were not finite. */
  readonly rank: number | null;
}

/** How far a loss is scaled down to see whether a gradient only left its range. */
const DOWN = 2 ** -12;

export async function gatherEvidence(scene: Scene): Promise<Evidence> {
  const { microBatches, ranks, setup, precision } = scene;
  // Weights as they lie, whatever becomes of them on the way.
  const scan = await withoutOverlap(setup, () => scanWeights(scene));
  const runs = [];
  for (const samples of microBatches) {
    const first = await runAgain(scene, samples);
    const second = await runAgain(scene, samples);
    runs.push({ samples, first, second });
  }
  const offloads = setup.policies.includes('offload');
  let finiteWithoutOffload: boolean | null = offloads ? true : null;
  if (offloads) {
    for (const samples of microBatches) {
      const { finite } = await runAgain(scene, samples, { offload: false });
      finiteWithoutOffload &&= finite;
    }
  }
  const overlaps = setup.store.overlaps !== undefined && ranks.size > 1;
  let finiteWithoutOverlap: boolean | null = overlaps ? true : null;
  if (overlaps) {
    for (const samples of microBatches) {
      const { finite } = await withoutOverlap(setup, () => runAgain(scene, samples));
      finiteWithoutOverlap &&= finite;
    }
  }
  const records = await oneByOne(scene, scan.wild);
  // They are those of the micro-batches, in their order.
  const suspect = Math.max(
    0,
    records.findIndex(({ finite }) => !finite),
  );
  const alone = microBatches.flat().slice(suspect, suspect + 1);
  const forward = await probe(scene, alone);
  const wide = precision.compute === 'float32' ? null : await probe(scene, alone, true);
  const down = await runAgain(scene, alone, { factor: DOWN });
  const kept = await runAgain(scene, scene.control);
  const own: RankFacts & { control: boolean | null } = {
    rank: ranks.rank,
    finite: runs.every(({ first }) => first.finite),
    finiteAgain: runs.every(({ second }) => second.finite),
    same: runs.every(({ first, second }) => sameRun(first, second)),
    finiteWithoutOffload,
    finiteWithoutOverlap,
    rms: scan.rms,
    badWeights: scan.weights,
    badStates: scan.states,
    ...{ records, forward, wide },
    finiteScaledDown: down.finite,
    control: kept.loss === null ? null : kept.finite,
  };
  return combine(await ranks.gather('what running the update again showed', own));
}

function combine(found: readonly (RankFacts & { control: boolean | null })[]): Evidence {
  const records = found.flatMap((each) => each.records);
  const suspected = found.find((each) => !each.finite) ?? found.find((each) => !each.finiteAgain);
  const controls = found.flatMap(({ control }) => (control === null ? [] : [control]));
  return {
    ranks: found,
    records,
    bad: records.filter(({ finite }) => !finite),
    control: controls.length === 0 ? null : controls.every((each) => each),
    finite: found.every((each) => each.finite && each.finiteAgain),
    repeats: found.every((each) => each.same),
    culprit: (suspected ?? found[0]!).forward.culprit,
    rank: suspected?.rank ?? null,
  };
}

/** Each record alone; ranks with fewer of them go through as many runs. */
async function oneByOne(scene: Scene, wild: ReadonlyMap<number, number>): Promise<RecordFacts[]> {
  const { microBatches, ranks } = scene;
  const own = microBatches.flat();
  const most = Math.max(...(await ranks.gather('records of the update', own.length)));
  const facts: RecordFacts[] = [];
  for (let i = 0; i < most; i++) {
    const sample = own[i];
    const run = await runAgain(scene, sample === undefined ? [] : [positioned(sample, i)]);
    if (sample === undefined) continue;
    const { inputIds, images, supervised } = sample;
    const ids = [...new Set(inputIds)].filter((each) => wild.has(each));
    facts.push({
      rank: ranks.rank,
      record: guarded(sample),
      finite: run.finite,
      loss: run.loss === null ? null : run.loss / Math.max(1, supervised),
      pictures: images.length,
      brokenPixels: images.some((image: ImagePixels) => {
        const pixels = 'views' in image ? image.views : image;
        return pixels instanceof Float32Array && pixels.some((each) => !Number.isFinite(each));
      }),
      gradient: run.firstBad && `${run.firstBad.segment} (${run.firstBad.name})`,
      wild: ids.slice(0, 8).map((each) => ({ id: each, times: wild.get(each)! })),
    });
  }
  return facts;
}

/** With the place in its update that dropout masks depend on. */
function positioned(sample: LoadedSample, index: number): LoadedSample {
  return { ...sample, position: sample.position ?? index };
}

async function probe(
  scene: Scene,
  samples: readonly LoadedSample[],
  wide = false,
): Promise<ForwardFacts> {
  using batch = scene.batch(samples);
  return await probeForward(scene, batch.value, { wide });
}
