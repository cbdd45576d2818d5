/** What the projector between tower and decoder looks like, and XTuner's file that says it. */
import { z } from 'zod';

import {
  activationName,
  configError,
  type ConfigSource,
  layerCount,
  or,
  readFields,
  size,
} from './read-config.js';

export interface ProjectorConfig {
  readonly visualHiddenSize: number;
  readonly textHiddenSize: number;
  /** Number of linear layers. */
  readonly depth: number;
  readonly bias: boolean;
  readonly hiddenAct: string;
  /** What it sees of the tower: `default` all but the first state, which is CLIP's class token; `full` all. */
  readonly select: 'default' | 'full';
}

const SCHEMA = z.object({
  model_type: or(z.literal('projector', 'is no projector of XTuner'), 'projector'),
  visual_hidden_size: or(size, 4096),
  llm_hidden_size: or(size, 4096),
  depth: or(layerCount, 2),
  hidden_act: or(activationName, 'gelu'),
  bias: or(z.boolean(), true),
});

/** XTuner's `projector/config.json`; XTuner always shows it the patches. @throws ConfigError `E_CONFIG` */
export function readProjectorConfig(source: ConfigSource): ProjectorConfig {
  const fields = readFields(source, SCHEMA);
  return {
    visualHiddenSize: fields.visual_hidden_size,
    textHiddenSize: fields.llm_hidden_size,
    depth: fields.depth,
    bias: fields.bias,
    hiddenAct: fields.hidden_act,
    select: 'default',
  };
}

/** The depth that an official `mm_projector_type` means: `linear`, `mlp2x_gelu`, ... */
export function officialProjectorDepth(source: ConfigSource, type: string): number {
  if (type === 'linear') return 1;
  const depth = layerCount.safeParse(Number(/^mlp(\d+)x_gelu$/.exec(type)?.[1]));
  if (depth.success) return depth.data;
  throw configError(source, 'mm_projector_type', `there is no projector "${type}" here`);
}
