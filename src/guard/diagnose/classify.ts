/**
 * From evidence to a cause: rules in the order in which one excludes the next. Nothing here looks at tensors.
 *
 * 1. Ranks brought finite gradients and their sum is not: what overlaps. 2. Weights that are not finite already: the fault is earlier.
 * 3. The same again is finite, or differs, or is finite without overlap or offload: not the numbers, but what moves them. 4. A module
 * that fails on finite inputs by itself: the loss against a plain one, attention. 5. Pixels. 6. The course of the run before: weights that
 * have left it overflow, and by some records first. 7. Steps that are large for the weights, likewise. 8. Precision: finite in fp32, or
 * once the loss is scaled down. 9. Some records and not the others.
 */

import { formatNumber } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import type { GuardedRecord } from '../../train/index.js';
import type { Evidence } from '../replay/gather-evidence.js';
import type { Trend } from '../watch/course.js';
import type { Finding, Verdict } from './finding.js';
import { risen } from './risen.js';

interface Circumstances {
  readonly recipe: Pick<Recipe, 'optimizer' | 'memory' | 'parallel'>;
  readonly compute: string;
  readonly trend: Trend | null;
  readonly learningRate: number;
  readonly loss: number | null;
  readonly norm: number;
  readonly lossScale: number | null;
  /** By rank: how many of its own gradients were not finite; none where there is one rank. */
  readonly ownNonFinite: readonly number[];
}

/** Why an update was not finite. */
export function classify(found: Evidence, circumstances: Circumstances): Finding {
  const facts = describe(found, circumstances);
  const rules = [
    reduction,
    badWeights,
    doesNotRepeat,
    lossKernel,
    attention,
    pixels,
    course,
    largeSteps,
    precision,
    someRecords,
  ];
  for (const rule of rules) {
    const verdict = rule(found, circumstances);
    if (verdict === null) continue;
    const { evidence = [], ...rest } = verdict;
    return {
      ...NOTHING,
      rank: several(found) ? found.rank : null,
      ...rest,
      evidence: [...evidence, ...facts],
    };
  }
  return {
    ...NOTHING,
    rank: several(found) ? found.rank : null,
    module: moduleOf(found),
    evidence: facts,
  };
}

const NOTHING = {
  cause: 'unknown',
  confidence: 0.3,
  message: 'the gradient is not finite, and the evidence does not decide why',
  records: [] as readonly GuardedRecord[],
  module: null as string | null,
} as const;

type Rule = (found: Evidence, circumstances: Circumstances) => Verdict | null;

const several = ({ ranks }: Evidence): boolean => ranks.length > 1;

const reduction: Rule = ({ finite }, { ownNonFinite }) => {
  if (ownNonFinite.length < 2 || ownNonFinite.some((count) => count > 0) || !finite) return null;
  return {
    cause: 'overlap-race',
    confidence: 0.8,
    message:
      'every rank brought finite gradients, and what was made of them on the way is not finite',
    evidence: [`gradients that are not finite, by rank: ${ownNonFinite.join(', ')}`],
  };
};

const badWeights: Rule = (found) => {
  const { ranks, bad } = found;
  const names = [...new Set(ranks.flatMap((each) => [...each.badWeights, ...each.badStates]))];
  if (names.length === 0) return null;
  return {
    cause: 'weights-not-finite',
    confidence: 0.97,
    message: `${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''} ${names.length === 1 ? 'has' : 'have'} elements that are not finite, before the update`,
    module: names[0]!.replace(/\.[^.]*$/, ''),
    records: some(found) ? bad.map(({ record }) => record) : [],
  };
};

const doesNotRepeat: Rule = (found, { recipe }) => {
  const { finite, ranks, culprit } = found;
  const raced = ranks.filter(
    (each) => each.finiteWithoutOverlap === true && !(each.finite && each.finiteAgain),
  );
  if (raced.length > 0) {
    return {
      cause: 'overlap-race',
      confidence: 0.9,
      message:
        'with parameters gathered while others compute the update is not finite, and with each waited for it is',
      evidence: ['the same records, every gather waited for by the host: finite'],
      rank: raced[0]!.rank,
      module: culprit?.module ?? null,
    };
  }
  if (culprit?.kind === 'attention' && !culprit.repeats) return garbage(culprit.module);
  const cured = ranks.some(
    (each) => each.finiteWithoutOffload === true && !(each.finite && each.finiteAgain),
  );
  if (cured) {
    return {
      cause: 'offload-race',
      confidence: 0.85,
      message: 'with boundaries in host memory the update is not finite, and without it is',
      evidence: ['the same records with every boundary kept on the device: finite'],
    };
  }
  if (!finite && ranks.every((each) => each.finite === each.finiteAgain)) return null;
  const offloads =
    recipe.parallel.offload !== 'none' || ranks.some((each) => each.finiteWithoutOffload !== null);
  const again = finite
    ? 'run again twice it is finite'
    : 'run again it is finite once and once not';
  if (offloads) {
    return {
      cause: 'offload-race',
      confidence: 0.5,
      message: `the update does not repeat, ${again}, and numbers travel to host memory and back`,
      evidence: [
        'a fault of the device would look the same: it is excluded only if the run without offload holds',
      ],
    };
  }
  return {
    cause: 'hardware-fault',
    confidence: finite ? 0.7 : 0.6,
    message: `the update does not repeat: ${again}, with the same weights, records and random numbers`,
  };
};

const lossKernel: Rule = ({ culprit }) =>
  culprit?.kind !== 'loss'
    ? null
    : {
        cause: 'loss-kernel',
        confidence: 0.9,
        message:
          'the loss or its gradient is not finite where a plain cross-entropy of the same logits is',
        module: culprit.module,
        evidence: ['hidden states, logits, the plain loss and its gradient: finite'],
      };

const attention: Rule = ({ culprit }, { compute }) => {
  if (culprit?.kind !== 'attention') return null;
  if (!culprit.wholeRows) return compute === 'float16' ? null : garbage(culprit.module);
  return {
    cause: 'masked-attention-row',
    confidence: 0.85,
    message:
      'attention gives rows that are not finite beside others that are, from finite queries, keys and values: they had nothing to attend to',
    module: culprit.module,
  };
};

function garbage(module: string): Verdict {
  return {
    cause: 'varlen-garbage',
    confidence: 0.75,
    message:
      'attention gives what is not finite, or other numbers each time, from the same finite queries, keys and values',
    module,
  };
}

const pixels: Rule = ({ bad }) => {
  const broken = bad.filter((each) => each.brokenPixels);
  if (broken.length === 0) return null;
  return {
    cause: 'broken-image',
    confidence: 0.95,
    message: 'pixels of a picture are not finite',
    records: broken.map(({ record }) => record),
  };
};

const precision: Rule = (found, { compute, lossScale }) => {
  if (compute !== 'float16') return null;
  const { bad, records, culprit } = found;
  const suspect = suspectOf(found);
  const named = some(found) ? bad.map(({ record }) => record) : [];
  if (culprit !== null) {
    if (suspect.wide === null || suspect.wide.culprit !== null) return null;
    return {
      cause: culprit.vision ? 'fp16-overflow-vision' : 'fp16-overflow-decoder',
      confidence: 0.92,
      message: `${culprit.module} leaves the range of fp16 (65,504), and the same in fp32 is finite`,
      module: culprit.module,
      records: named,
      evidence: [
        `largest output in fp32: ${suspect.wide.largest === null ? 'none' : `${formatNumber(suspect.wide.largest.value, 3)} in ${suspect.wide.largest.segment}`}`,
      ],
    };
  }
  if (!suspect.finiteScaledDown) return null;
  const scale = `the loss scale is ${lossScale ?? 1}`;
  if (named.length > 0 && bad.length < records.length) {
    return {
      cause: 'scale-at-minimum',
      confidence: 0.85,
      message: `${scale}, and the gradient of ${named.length === 1 ? 'one record' : 'some records'} still leaves the range of fp16`,
      records: named,
      module: bad[0]!.gradient,
    };
  }
  const vision = /vision|projector/.test(bad[0]?.gradient ?? '');
  return {
    cause: vision ? 'fp16-overflow-vision' : 'fp16-overflow-decoder',
    confidence: 0.8,
    message: `the forward pass is finite, the gradient leaves the range of fp16 (${scale}), and with a loss scaled down it does not`,
    module: bad[0]?.gradient ?? null,
  };
};

/** Whether some records are at fault and others are not: of this update, or of one before it. */
export function some({
  bad,
  records,
  control,
}: Pick<Evidence, 'bad' | 'records' | 'control'>): boolean {
  if (bad.length === 0) return false;
  return bad.length < records.length
    ? 2 * bad.length <= records.length || control === true
    : control === true;
}

const someRecords: Rule = (found) => {
  if (!some(found)) return null;
  const { bad, records } = found;
  const words = new Map<number, number>();
  for (const { wild } of bad) for (const { id } of wild) words.set(id, (words.get(id) ?? 0) + 1);
  const shared = [...words].filter(([, count]) => count > 1).map(([id]) => id);
  const named = bad.map(({ record }) => record);
  const wild = bad.flatMap((each) => each.wild);
  const rows = wild
    .slice(0, 4)
    .map(
      ({ id, times }) =>
        `the embedding of token ${id} is ${formatNumber(times)} times as large as the median one`,
    );
  if (shared.length > 0) {
    return {
      cause: 'untrained-token-rows',
      confidence: 0.85,
      message: `records share ${shared.length === 1 ? 'a token' : 'tokens'} whose embedding is unlike all others (${shared.slice(0, 4).join(', ')})`,
      records: named,
      evidence: rows,
    };
  }
  return {
    cause: 'poisoned-record',
    confidence: bad.length === 1 ? 0.95 : 0.8,
    message: `${bad.length === 1 ? 'one record makes' : `${bad.length} records make`} the gradient not finite; without ${bad.length === 1 ? 'it' : 'them'} it is finite`,
    records: named,
    module: moduleOf(found),
    evidence: [
      `${records.length - bad.length} other records of the update, each alone: finite`,
      ...rows,
    ],
  };
};

/** Where the run has left its course, records that are finite still prove nothing. */
const course: Rule = (found, circumstances) => {
  const verdict = risen(circumstances);
  return verdict && { ...verdict, module: moduleOf(found) };
};

const largeSteps: Rule = (found, { learningRate }) => {
  const rms = Math.max(...found.ranks.map((each) => each.rms));
  const share = learningRate / rms;
  if (!(share > 0.1)) return null;
  return {
    cause: 'learning-rate-too-high',
    confidence: 0.75,
    message: `an update moves each weight by about ${formatNumber(learningRate)}, ${formatNumber(100 * share)} % of what weights are (${formatNumber(rms)})`,
    module: moduleOf(found),
  };
};

/** What was seen, whatever comes of it. */
function describe(found: Evidence, { loss, norm, compute }: Circumstances): string[] {
  const { records, bad, control, culprit } = found;
  const suspect = suspectOf(found);
  const types = { float32: 'fp32', float16: 'fp16', bfloat16: 'bf16' } as Record<string, string>;
  return [
    `loss ${loss ?? 'none'}, norm of the gradient ${norm}`,
    found.finite
      ? 'run again twice: finite'
      : `run again: not finite${found.repeats ? ', with the same bits both times' : ''}`,
    `record by record: ${bad.length} of ${records.length} not finite`,
    ...(control === null
      ? []
      : [`records of an earlier update, with the same weights: ${control ? '' : 'not '}finite`]),
    culprit === null
      ? `forward pass: finite${suspect.forward.largest === null ? '' : `, largest output ${formatNumber(suspect.forward.largest.value)} in ${suspect.forward.largest.segment}`}`
      : `forward pass: ${culprit.module} is the first that gives what is not finite from what is`,
    ...(suspect.wide === null
      ? [`computed in ${types[compute] ?? compute}`]
      : [`forward pass in fp32: ${suspect.wide.culprit === null ? '' : 'not '}finite`]),
    ...(bad[0]?.gradient == null
      ? []
      : [`backward pass: the first gradient that is not finite is that of ${bad[0].gradient}`]),
  ];
}

function moduleOf({ culprit, bad }: Evidence): string | null {
  return culprit?.module ?? bad[0]?.gradient ?? null;
}

function suspectOf({ ranks, rank }: Evidence): Evidence['ranks'][number] {
  return ranks[rank ?? 0]!;
}
