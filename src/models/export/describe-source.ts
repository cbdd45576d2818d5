/** What a folder is, for people and programs: layouts, parts, what would be ignored, what is missing or does not fit. */
import { checkTensors, TensorsError } from '../../formats/layouts/check-tensors.js';
import { DataError } from '../../base/errors.js';
import { inspect, type PartFacts } from '../../formats/layouts/inspect.js';
import { LAYOUTS, type LayoutName, type PartName } from '../../formats/layouts/tables.js';
import { TextModel } from '../language-model.js';
import { Llava } from '../llava.js';
import { assemble, assembleText } from '../load/assemble.js';
import { attachAdapters } from '../load/attach-adapters.js';

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
  /** Parts of a LLaVA that are not there. */
  readonly missing: readonly PartName[];
  /** What does not fit the configuration that is there: a tensor each, or why it cannot be compared. */
  readonly faults: readonly string[];
}

/**
 * Looks at a folder or file; reads configurations and headers, and nothing from the network.
 *
 * @throws DataError `E_NO_WEIGHTS`, `E_LAYOUT`, and what the readers of the files throw
 */
export async function describeSource(
  path: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<SourceDescription> {
  const { sources, parts, missing } = await inspect(path, { signal });
  return {
    path,
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
    faults: await findFaults(path, missing, signal),
  };
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
  const isText = missing.includes('tower') && missing.includes('projector');
  if (missing.length > 0 && !(isText && missing.length === 2)) return [];
  try {
    const assembly = await (isText ? assembleText(path, options) : assemble(path, options));
    const model =
      'vision' in assembly.config ? new Llava(assembly.config) : new TextModel(assembly.config);
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
