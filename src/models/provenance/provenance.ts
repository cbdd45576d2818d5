/**
 * What a checkpoint stands on, `provenance.json` beside it and in its run's folder: the models beneath the tensors that it holds, what
 * the run began with, the template, the pictures, the data, the recipe. Whoever is given a checkpoint reads it from there.
 */
import { join } from 'node:path';
import { z } from 'zod';

import { DataError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { readJsonObject } from '../../formats/small-file.js';

export const PROVENANCE = 'provenance.json';

/** Weights that were named, and how to know them again. */
const namedWeights = z.object({
  /** As it was named: a path or a name on the hub. */
  name: z.string(),
  /** Where it was found. */
  path: z.string(),
  /** The same from the run's folder, so that both may move together. */
  near: z.string(),
  layout: z.string(),
  /** See `weightsDigest`. */
  digest: z.string(),
  /** SHA-256 of what its `config.json` says; `null` where it has none. */
  config: z.string().nullable(),
});

/** Which parts of a model a place gives. */
const beneath = namedWeights.extend({ role: z.enum(['base', 'llm', 'vision']) });

const baseForm = z.discriminatedUnion('form', [
  z.strictObject({ form: z.literal('nf4'), doubleQuantised: z.boolean() }),
  z.strictObject({ form: z.literal('fp8') }),
]);

const SCHEMA = z.object({
  format: z.literal(1),
  /** Version that wrote it. */
  patina: z.string(),
  /** Models that give what the checkpoint does not hold, the first counts first; none for a whole model. */
  beneath: z.array(beneath),
  /** In which form the run held frozen weights of parts, where not as they are stored. */
  bases: z.strictObject({ vision: baseForm.optional(), decoder: baseForm.optional() }).optional(),
  /** What the recipe named, by its fields, as it was when the run began. */
  began: z.record(z.string(), namedWeights),
  /** Hidden state of the tower, counted from the last, -1, and what the projector sees of it; `null` without a tower. */
  features: z.object({ layer: z.int(), select: z.enum(['default', 'full']) }).nullable(),
  text: z.object({
    /** A Jinja template with its source, or the name of one of XTuner's formats with `null`. */
    template: z.object({ name: z.string(), source: z.string().nullable() }),
    /** What conversations begin with that bring no system text. */
    system: z.string().nullable(),
  }),
  /** How pictures are read and made into squares; the rest lies in `preprocessor_config.json`. */
  image: z
    .object({ mode: z.enum(['pad', 'crop', 'squeeze']), reading: z.enum(['turned', 'stored']) })
    .nullable(),
  /** Sources with the digests of their files. */
  data: z.array(z.unknown()),
  /** With all defaults. */
  recipe: z.unknown(),
});

export type NamedWeights = Readonly<z.output<typeof namedWeights>>;
export type Beneath = Readonly<z.output<typeof beneath>>;
export type Provenance = z.output<typeof SCHEMA>;

/**
 * The provenance in a folder; undefined where there is none.
 *
 * @throws DataError `E_PROVENANCE` for one that cannot be read, `E_JSON`
 */
export async function readProvenance(folder: string): Promise<Provenance | undefined> {
  const file = join(folder, PROVENANCE);
  const json = await readJsonObject(file);
  if (json === undefined) return undefined;
  const parsed = SCHEMA.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new DataError(`${file}: ${path.join('.')}: ${message}.`, {
    code: 'E_PROVENANCE',
    hint: 'Copy the checkpoint again, or name what it stands on (--base, --llm, --vision) after removing this file.',
    cause: parsed.error,
  });
}

export function provenanceText(provenance: Provenance): string {
  return jsonText(provenance);
}
