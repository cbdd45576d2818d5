/**
 * Reading a model's `config.json`: fields that are missing or null take the defaults of transformers, fields that Patina does
 * not read are left alone, and whatever cannot be right is refused with the file and the field.
 */
import { z } from 'zod';

import { DataError } from '../../base/errors.js';
import { brief } from '../../formats/strict-json.js';

/** A configuration that is wrong, or asks for what Patina does not compute. */
export class ConfigError extends DataError {}

/** A JSON object and where it stands. */
export interface ConfigSource {
  /** The file, for messages. */
  readonly file: string;
  /** Path of the object within the file, for example `text_config`. @default the file's top */
  readonly field?: string;
  readonly json: unknown;
}

/** A JSON object, whatever it holds. */
export const jsonObject = z.record(z.string(), z.unknown());

/** Missing or null means `value`. */
export function or<S extends z.ZodType, const D>(schema: S, value: D): z.ZodType<z.output<S> | D> {
  return schema.nullish().transform((given) => given ?? value);
}

/** A number of things: a whole number from 1. */
export const count = z.number().int().positive();

/** Elements along one side of a weight; beyond this a product of two of them is no number of bytes. */
export const size = count.max(2 ** 20);

/** Layers of a stack. */
export const layerCount = count.max(1000);

/** What transformers calls the activations that Patina computes. */
export const activationName = z.enum(['gelu', 'gelu_pytorch_tanh', 'quick_gelu', 'silu']);

/** Reads the fields of a schema. @throws ConfigError `E_CONFIG` */
export function readFields<S extends z.ZodType>(source: ConfigSource, schema: S): z.output<S> {
  const result = schema.safeParse(source.json, { reportInput: true });
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.map(String).join('.');
  const given = JSON.stringify(issue.input)?.slice(0, 80) ?? 'nothing';
  throw configError(source, field, `${issue.message} (given: ${given})`);
}

/** The source of an object within another. */
export function within(source: ConfigSource, field: string, json: unknown): ConfigSource {
  return { file: source.file, field: fieldPath(source, field), json };
}

/** An error that names the file and the field. */
export function configError(
  source: ConfigSource,
  field: string,
  reason: string,
  hint = 'Correct the field, or choose a model of a supported kind.',
): ConfigError {
  const path = fieldPath(source, field);
  const place = path === '' ? source.file : `${source.file}: ${path}`;
  return new ConfigError(`${place}: ${reason}`, { code: 'E_CONFIG', hint });
}

/** Refuses a field of the object unless it has one of the given values; missing and null pass. */
export function expectOneOf(
  source: ConfigSource,
  field: string,
  allowed: readonly unknown[],
  reason: string,
): void {
  const value = (source.json as Record<string, unknown>)[field] ?? null;
  if (value === null || allowed.includes(value)) return;
  throw configError(source, field, `${JSON.stringify(value)} ${reason}`);
}

/** Refuses a model whose weights are stored in a form of fewer bits, but for NF4 of bitsandbytes. */
export function refuseQuantised(source: ConfigSource): void {
  const { quantization_config: given } = source.json as Record<string, unknown>;
  if (given === undefined || given === null) return;
  const {
    quant_method: method,
    load_in_4bit: in4Bits,
    bnb_4bit_quant_type: type = 'fp4',
  } = given as Record<string, unknown>;
  if (method === 'bitsandbytes' && in4Bits === true && type === 'nf4') return;
  const kind = method === 'bitsandbytes' ? (in4Bits === true ? type : 'int8') : method;
  throw configError(
    source,
    'quantization_config',
    `the weights are quantised (${brief(kind)}), and Patina reads no other form of few bits than NF4 of bitsandbytes`,
    'Use the weights from before the quantisation.',
  );
}

function fieldPath({ field = '' }: ConfigSource, inner: string): string {
  return field === '' || inner === '' ? field + inner : `${field}.${inner}`;
}
