/**
 * Rotary settings in every spelling of transformers: `rope_theta` with `rope_scaling` (up to 4), `rope_parameters` (from 5),
 * the type as `type` or `rope_type`.
 */
import { z } from 'zod';

import type { RotaryOptions, RotaryScaling } from '../../nn/index.js';
import {
  configError,
  type ConfigSource,
  count,
  expectOneOf,
  jsonObject,
  or,
  readFields,
  within,
} from './read-config.js';

const positive = z.number().positive();

const TOP = z.object({
  rope_theta: or(positive, 10000),
  rope_scaling: or(jsonObject, null),
  rope_parameters: or(jsonObject, null),
  original_max_position_embeddings: or(count, null),
});

const LINEAR = z.object({ factor: positive });
const LLAMA3 = z.object({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
  original_max_position_embeddings: or(count, null),
});

/**
 * @param maxPositions what `original_max_position_embeddings` is where no field says
 * @throws ConfigError `E_CONFIG` for other kinds of scaling
 */
export function readRotary(source: ConfigSource, maxPositions: number): RotaryOptions {
  const top = readFields(source, TOP);
  // transformers lets the old name win, and takes an empty object for none.
  const name = isFilled(top.rope_scaling) ? 'rope_scaling' : 'rope_parameters';
  const rope = within(source, name, top[name] ?? {});
  const fields = readFields(
    rope,
    z.object({
      rope_theta: or(positive, top.rope_theta),
      rope_type: or(z.string(), null),
      type: or(z.string(), null),
    }),
  );
  for (const [field, value] of Object.entries(top[name] ?? {})) {
    if (typeof value !== 'object' || value === null) continue;
    throw configError(rope, field, 'positions that differ from layer to layer are not computed');
  }
  expectOneOf(rope, 'partial_rotary_factor', [1], 'turns only a part of each head');
  expectOneOf(source, 'partial_rotary_factor', [1], 'turns only a part of each head');
  const typeField = fields.rope_type === null && fields.type !== null ? 'type' : 'rope_type';
  const type = fields[typeField] ?? 'default';
  return { theta: fields.rope_theta, scaling: scaling() };

  function scaling(): RotaryScaling {
    if (type === 'default') return { type };
    if (type === 'linear') return { type, factor: readFields(rope, LINEAR).factor };
    if (type !== 'llama3') {
      throw configError(rope, typeField, `there is no rotary scaling "${type}" here`);
    }
    const llama3 = readFields(rope, LLAMA3);
    if (llama3.high_freq_factor <= llama3.low_freq_factor) {
      throw configError(rope, 'high_freq_factor', 'it is not above low_freq_factor');
    }
    return {
      type,
      factor: llama3.factor,
      lowFreqFactor: llama3.low_freq_factor,
      highFreqFactor: llama3.high_freq_factor,
      originalMaxPositionEmbeddings:
        top.original_max_position_embeddings ??
        llama3.original_max_position_embeddings ??
        maxPositions,
    };
  }
}

function isFilled(value: Record<string, unknown> | null): boolean {
  return value !== null && Object.keys(value).length > 0;
}
