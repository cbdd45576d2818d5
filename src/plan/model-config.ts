/** What the model of a recipe looks like, from configurations alone: no weights are read or downloaded. */

import { join } from 'node:path';
import { resolveModel } from '../base/hub/resolve.js';
import { UsageError } from '../base/errors.js';
import type { Recipe } from '../config/index.js';
import { expectUsed } from '../generate/index.js';
import { configKind, readDecoderConfig, readLlavaConfig } from '../models/index.js';
import { llavaConfigOf } from '../models/load/assemble-config.js';
import { readConfigFile, type ConfigFile } from '../models/load/config-file.js';
import type { ModelConfig } from './shape-model.js';
import { KNOWN_MODELS } from './known-models.js';

/**
 * @throws UsageError `E_PLAN_MODEL` for a model without a configuration, `E_UNUSED_CHOICE` as a run; ConfigError; those of
 *   `resolveModel`, for a name that is neither known nor cached
 */
export async function modelConfigOf({ model }: Recipe, signal?: AbortSignal): Promise<ModelConfig> {
  const described = await describedBy(model, signal);
  const { featureLayer, featureSelect, projectorDepth } = model;
  const config = described.kind === 'llava' ? described.config : undefined;
  expectUsed(config, { featureLayer, featureSelect, projectorDepth });
  return described;
}

async function describedBy(
  model: Recipe['model'],
  signal: AbortSignal | undefined,
): Promise<ModelConfig> {
  if (model.config !== undefined) {
    const source: ConfigFile = { file: 'model.config', json: model.config };
    return configKind(source) === 'decoder'
      ? { kind: 'text', config: readDecoderConfig(source) }
      : { kind: 'llava', config: readLlavaConfig(source) };
  }
  const named = [model.from, model.llm, model.vision].filter((name) => name !== undefined);
  const configs = await Promise.all(named.map((name) => configOf(name, signal)));
  const isText = configs.every((each) => configKind(each) === 'decoder');
  if (isText) return { kind: 'text', config: readDecoderConfig(configs[0]!) };
  const config = llavaConfigOf(configs, new Map(), {
    where: named.join(' + '),
    ...{ featureLayer: model.featureLayer, select: model.featureSelect },
    projectorDepth: model.projectorDepth,
  });
  return { kind: 'llava', config };
}

async function configOf(name: string, signal: AbortSignal | undefined): Promise<ConfigFile> {
  const json = KNOWN_MODELS[name];
  if (json !== undefined) return { file: name, json };
  const folder = await resolveModel(name, { files: ['config.json'], signal });
  const config = await readConfigFile(join(folder, 'config.json'));
  if (config !== undefined) return config;
  throw new UsageError(`${name} has no config.json, which would say what the model looks like`, {
    code: 'E_PLAN_MODEL',
    hint: 'Name a folder or a repository in the layout of Hugging Face.',
  });
}
