/** What a folder is, for people and programs: layouts, parts, what would be ignored, what is missing or does not fit. */
import { checkTensors, TensorsError } from '../../formats/layouts/check-tensors.js';
import { DataError } from '../../base/errors.js';
import { inspect, type PartFacts, type WeightSource } from '../../formats/layouts/inspect.js';
import { LAYOUTS, type LayoutName, type PartName } from '../../formats/layouts/tables.js';
import { isOfficialConfig } from '../configs/llava-config.js';
import { TextModel } from '../language-model.js';
import { Llava } from '../llava.js';
import { assembleAny } from '../load/assemble.js';
import { attachAdapters } from '../load/attach-adapters.js';
import { imageProcessorIn } from '../load/find-image-processor.js';
import { type Beneath, readProvenance } from '../provenance/provenance.js';
import { TokenizerFiles } from './tokenizer-files.js';

export interface SourceDescription {
  readonly path: string;
  readonly sources: readonly {
    readonly path: string;
    readonly layout: LayoutName;
    readonly title: string;
    readonly files: readonly string[];
    readonly isAdapter: boolean;
    readonly tensors: number;
    /** Why stored tensors are ignored, and how many for each reason. */
    readonly ignored: Readonly<Record<string, number>>;
    readonly unexpected: readonly string[];
  }[];
  readonly parts: Readonly<Partial<Record<PartName, PartFacts>>>;
  /** What a checkpoint stands on, which gives what it does not hold. */
  readonly beneath: readonly Pick<Beneath, 'role' | 'name' | 'layout'>[];
  /** Parts of a LLaVA that are not there. */
  readonly missing: readonly PartName[];
  /** What is not beside the parts that are there, and other folders must bring. */
  readonly lacks: readonly Lack[];
  /** What does not fit the configuration that is there: a tensor each, or why it cannot be compared. */
  readonly faults: readonly string[];
}

/** What belongs beside weights and may not be there. */
export type Lack = 'configuration' | 'tokenizer' | 'chat template' | 'image processor';

/**
 * Looks at a folder or file; reads configurations and headers, and nothing from the network.
 *
 * @throws DataError `E_NO_WEIGHTS`, `E_LAYOUT`, and what the readers of the files throw
 */
export async function describeSource(
  path: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<SourceDescription> {
  const { sources, parts, ...inspected } = await inspect(path, { signal });
  const { beneath = [] } = (await readProvenance(path)) ?? {};
  const missing = beneath.length > 0 ? [] : inspected.missing;
  const lacks = beneath.length > 0 ? [] : await findLacks(sources, parts);
  return {
    path,
    beneath: beneath.map(({ role, name, layout }) => ({ role, name, layout })),
    sources: sources.map(({ ignored, ...source }) => {
      const reasons = new Map<string, number>();
      for (const why of ignored.values()) reasons.set(why, (reasons.get(why) ?? 0) + 1);
      return {
        path: source.path,
        layout: source.layout,
        title: LAYOUTS[source.layout].title,
        files: source.files,
        isAdapter: source.isAdapter,
        tensors: source.tensors.size,
        ignored: Object.fromEntries(reasons),
        unexpected: source.unexpected,
      };
    }),
    parts: Object.fromEntries(parts),
    missing,
    lacks,
    faults: lacks.includes('configuration') ? [] : await findFaults(path, missing, signal),
  };
}

async function findLacks(
  sources: readonly WeightSource[],
  parts: ReadonlyMap<PartName, PartFacts>,
): Promise<Lack[]> {
  // What an adapter stands on has all of it.
  if (sources.some(({ isAdapter }) => isAdapter)) return [];
  const there = new Set<Lack>();
  for (const { path, config } of sources) {
    if (config !== undefined) there.add('configuration');
    // The folder that the configuration names has it.
    const isNamed = config !== undefined && isOfficialConfig(config);
    if (isNamed || (await imageProcessorIn(path)) !== undefined) there.add('image processor');
    const tokenizer = await TokenizerFiles.read(path);
    if (tokenizer === undefined) continue;
    there.add('tokenizer');
    if (tokenizer.template !== undefined) there.add('chat template');
  }
  const needed: Lack[] = [];
  if (parts.has('decoder') || parts.has('vision')) needed.push('configuration');
  if (parts.has('decoder')) needed.push('tokenizer', 'chat template');
  if (parts.has('vision')) needed.push('image processor');
  return needed.filter((each) => !there.has(each));
}

async function findFaults(
  path: string,
  missing: readonly PartName[],
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const resolve = (name: string): Promise<string> =>
    Promise.reject(
      new DataError(`Its configuration names ${name}, which is not on this machine.`, {
        code: 'E_FILE_MISSING',
        hint: 'Name the folder of that part.',
      }),
    );
  const options = { verify: false, resolve, signal };
  // A part alone lacks the others and has no fault.
  if (missing.length > 0 && missing.join() !== 'vision,projector') return [];
  try {
    const assembly = await assembleAny(path, options);
    const model =
      assembly.kind === 'text' ? new TextModel(assembly.config) : new Llava(assembly.config);
    try {
      attachAdapters(model, assembly.adapters, 'float32');
      checkTensors({
        where: path,
        tensors: assembly.tensors,
        unexpected: assembly.sources.flatMap(({ unexpected }) => unexpected),
        expected: new Map([...model.namedParameters()].map(([name, { shape }]) => [name, shape])),
        tied: model.tied,
      });
      return [];
    } finally {
      model.dispose();
    }
  } catch (error) {
    if (error instanceof TensorsError) {
      return error.faults.map(({ kind, text }) => `${kind}: ${text}`);
    }
    if (error instanceof DataError) return [error.message];
    throw error;
  }
}
