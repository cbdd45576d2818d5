/** For tests: a rank of several whose memory falls while it trains. */

import { PatinaError } from '../../base/errors.js';
import type { RecipeInput } from '../../config/index.js';
import type { World } from '../../parallel/index.js';
import { liveTensors, memoryStats, setMemoryLimit } from '../../torch/index.js';
import { newestWhole } from '../checkpoint/checkpoints.js';
import type { SmallerBatchesEvent, UpdateEvent } from '../events.js';
import { Ranks } from '../run/ranks.js';
import { makeTinyRank, tinyData } from './testing.js';

/** From an update on, counted from 0, so many bytes beside what lasts. */
export type Fall = readonly [update: number, bytes: number];

export interface MemoryCase {
  readonly recipe: Partial<RecipeInput>;
  /** By rank. @default memory suffices */
  readonly falls?: Readonly<Record<number, readonly Fall[]>>;
  readonly folder: string;
  readonly maxUpdates?: number;
  /** Goes on from the newest checkpoint in the folder. @default false */
  readonly resumes?: boolean;
  /** Whether losses are scaled, as for fp16. @default false */
  readonly scaled?: boolean;
  /** Whether numbers are read one update late, as on a GPU. @default false */
  readonly late?: boolean;
}

/** What a rank says of its run: plain. */
export interface MemoryCourse {
  /** Types of its events. */
  readonly types: readonly string[];
  readonly updates: readonly Pick<UpdateEvent, 'update' | 'loss' | 'gradientNorm' | 'lossScale'>[];
  readonly halved: readonly SmallerBatchesEvent[];
  /** What resuming has told. */
  readonly told: readonly string[];
  readonly error: { readonly code: string; readonly message: string; readonly exit: number } | null;
  /** Most bytes that its updates took beside what lasts. */
  readonly taken: number;
  /** Tensors that are left. */
  readonly live: number;
}

/** Words of a record: they take far more memory than the gradients of the tiny model and what is on its way between ranks. */
const WORDS = 250;

/** Trains on one rank of a world, tells of it, and leaves the world as a run does. */
export async function trainShort(
  world: World,
  {
    recipe,
    falls = {},
    folder,
    maxUpdates,
    resumes = false,
    scaled = false,
    late = false,
  }: MemoryCase,
  say: (course: MemoryCourse) => void,
): Promise<void> {
  let [lasting, peak] = [NaN, NaN];
  const data = tinyData((update) => {
    const { allocated, peakAllocated } = memoryStats('cpu');
    if (Number.isNaN(lasting)) lasting = allocated;
    peak = peakAllocated;
    const fall = falls[world.rank]?.find(([at]) => at === update);
    if (fall !== undefined) setMemoryLimit('cpu', allocated + fall[1]);
  }, WORDS);
  const { trainer, dispose } = await makeTinyRank(world, recipe, { data }, { scaled });
  if (late) Object.defineProperty(trainer, 'readsLate', { value: true });
  const types: string[] = [];
  const updates: MemoryCourse['updates'][number][] = [];
  const halved: SmallerBatchesEvent[] = [];
  let told: readonly string[] = [];
  let error: PatinaError | null = null;
  try {
    if (resumes) told = await trainer.resume((await newestWhole(folder)).checkpoint!);
    const place = { path: folder, checkpoints: folder, setState: () => Promise.resolve() };
    for await (const event of trainer.run(place, { maxUpdates })) {
      types.push(event.type);
      if (event.type === 'update') {
        const { update, loss, gradientNorm, lossScale } = event;
        updates.push({ update, loss, gradientNorm, lossScale });
      }
      if (event.type === 'recovery' && event.action === 'halve') halved.push(event);
    }
  } catch (thrown) {
    if (!(thrown instanceof PatinaError)) throw thrown;
    error = thrown;
  }
  setMemoryLimit('cpu', null);
  dispose();
  say({
    ...{ types, updates, halved, told, taken: peak - lasting, live: liveTensors() },
    error: error && { code: error.code, message: error.message, exit: error.exitCode },
  });
  await new Ranks(world).close(error ?? undefined);
}
