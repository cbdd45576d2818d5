/** Adapters as PEFT keeps them, from any layout: LoRA with what trained beside it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { DataError } from '../../base/errors.js';
import { resolveModel } from '../../base/hub/resolve.js';
import { isAdapterTensor, peftName } from '../../formats/layouts/adapter-names.js';
import { checkTensors } from '../../formats/layouts/check-tensors.js';
import { inspect, type WeightSource } from '../../formats/layouts/inspect.js';
import { IMAGE_NEWLINE, ownPrefixes } from '../../formats/layouts/tables.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import { adapterOf, isTextOnly, textName } from '../load/assemble.js';
import { adaptedLayers } from '../load/attach-adapters.js';
import { torchDType } from '../load/stored-dtype.js';
import { PROVENANCE } from '../provenance/provenance.js';
import { conversions } from './export-notes.js';
import type { ExportOptions, ExportReport } from './export-options.js';
import { peftConfig } from './peft-config.js';
import { type Companion, configText } from './small-files.js';
import { streamWeights } from './stream-weights.js';
import { totalBytes, writeExport } from './write-export.js';

/**
 * What an adapter of a run says of itself: how its pictures were made into squares and its texts became tokens, which the model
 * beneath may do otherwise, and what it stands on. PEFT passes it over.
 */
const ALONG = [
  'preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'generation_config.json',
  PROVENANCE,
];

/** Adapters as PEFT keeps them: those of the source and of `adapters`, with what trained beside them. */
export async function exportAdapter(
  source: string,
  folder: string,
  options: ExportOptions,
): Promise<ExportReport> {
  const { resolve = resolveModel, verify = true, signal, allow = [] } = options;
  const sources: WeightSource[] = [];
  for (const name of [...(options.adapters ?? []).toReversed(), source]) {
    const inspection = await inspect(await resolve(name), { verify, signal });
    const holds = inspection.sources.some(({ isAdapter }) => isAdapter);
    if (holds) sources.push(...inspection.sources);
  }
  const isText = isTextOnly({ sources, configs: [] });
  const own = ownPrefixes(isText);
  const renamed = <T>(each: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
    isText ? new Map([...each].map(([name, tensor]) => [textName(name), tensor])) : each;
  const tensors = new Map<string, StoredTensor>();
  for (const each of sources) {
    for (const [name, tensor] of renamed(each.tensors)) {
      if (!tensors.has(name)) tensors.set(name, tensor);
    }
  }
  const adapters = sources
    .filter(({ isAdapter }) => isAdapter)
    .map((each) => adapterOf(each, options))
    .map((each) => ({ ...each, tensors: renamed(each.tensors) }));
  if (adapters.length === 0) {
    throw new DataError(`${source} holds no adapter.`, {
      code: 'E_ADAPTER',
      hint: 'Name a folder that holds one, or use --to hf for a whole model.',
    });
  }
  if (tensors.has(IMAGE_NEWLINE)) {
    throw new DataError(
      `${source} has trained the vector that ends rows of tiles (image_newline), and PEFT keeps modules alone.`,
      { code: 'E_ADAPTER_FORM', hint: 'Fold the adapter into a whole model (--to hf --merge).' },
    );
  }
  const unexpected = sources.flatMap((each) => each.unexpected);
  checkTensors({ where: source, tensors, unexpected, expected: shapes(tensors), allow });
  const dtype = options.dtype ?? torchDType(firstAdapterTensor(tensors));
  const layers = new Set(adapters.flatMap(adaptedLayers).map(({ path }) => path));
  const stream = streamWeights(tensors, (name) => peftName(name, layers), {
    where: source,
    dtype,
    adapters: [],
    grow: new Map(),
    seed: 0,
    allow,
    signal,
  });
  const base = sources.map(({ config }) => config?.['base_model_name_or_path']);
  const config = peftConfig(adapters, tensors, {
    own,
    tied: sources.some(({ config }) => config?.['ensure_weight_tying'] === true),
    base: base.find((name): name is string => typeof name === 'string' && name !== '') ?? null,
  });
  const files: Companion[] = [{ name: 'adapter_config.json', content: configText(config) }];
  for (const name of ALONG) {
    const file = sources.map(({ path }) => join(path, name)).find((each) => existsSync(each));
    if (file !== undefined) files.push({ name, content: { path: file } });
  }
  const contents = [{ inside: '', stem: 'adapter_model', tensors: stream }];
  // PEFT knows one file.
  const whole = { ...options, shardBytes: Infinity };
  const written = await writeExport(folder, 'adapter', { files, contents, sources }, whole);
  const parameters = stream.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return {
    folder,
    layout: 'peft',
    files: written,
    parameters,
    bytes: totalBytes(contents),
    dtype,
    notes: conversions(tensors, dtype),
  };
}

function shapes(
  tensors: ReadonlyMap<string, StoredTensor>,
): ReadonlyMap<string, readonly number[]> {
  return new Map([...tensors].map(([name, { shape }]) => [name, shape]));
}

function firstAdapterTensor(tensors: ReadonlyMap<string, StoredTensor>): StoredTensor {
  return [...tensors].find(([name]) => isAdapterTensor(name))![1];
}
