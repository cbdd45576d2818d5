/**
 * The body of `/v1/chat/completions`: OpenAI's fields, and three of vLLM's. Whatever would be passed over is refused, but for values
 * that say nothing.
 */
import { z } from 'zod';

import { shortText } from '../base/short-text.js';
import { ApiError } from './api-error.js';

/** A field that is understood, but of which only values without an effect are taken. */
function only(...values: unknown[]): z.ZodType {
  const given = values.map((value) => JSON.stringify(value));
  return z
    .unknown()
    .refine((value) => value === null || given.includes(JSON.stringify(value)), {
      error: `is not supported here; leave it out, or give ${given.join(' or ')}`,
    })
    .optional();
}

/** Answers to a request; each has a seed of its own. */
const MOST_ANSWERS = 128;

const optional = <T extends z.ZodType>(type: T) =>
  type.nullish().transform((value) => value ?? undefined);
const whole = (from: number, to: number) => optional(z.int().min(from).max(to));
const number = (from: number, to: number) => optional(z.number().min(from).max(to));

const part = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({
    type: z.literal('image_url'),
    image_url: z.strictObject({ url: z.string(), detail: only('auto', 'low', 'high') }),
  }),
]);

const message = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.preprocess(
    (content) => (typeof content === 'string' ? [{ type: 'text', text: content }] : content),
    z.array(part, 'Invalid input: expected a text or a list of parts').min(1).max(1024),
  ),
  // An answer of ours or of OpenAI's, given back as it came.
  refusal: only(),
  annotations: only([]),
  audio: only(),
  function_call: only(),
  tool_calls: only([]),
});

const schema = z.strictObject({
  model: z.string().max(1024),
  messages: z.array(message).min(1).max(4096),
  stream: optional(z.boolean()),
  stream_options: optional(
    z.strictObject({
      include_usage: optional(z.boolean()),
      include_obfuscation: only(false),
    }),
  ),
  max_tokens: whole(1, 2 ** 31),
  max_completion_tokens: whole(1, 2 ** 31),
  stop: z.preprocess(
    (stop) => (typeof stop === 'string' ? [stop] : stop),
    optional(
      z
        .array(z.string().min(1).max(1024), 'Invalid input: expected a text or a list of texts')
        .max(16),
    ),
  ),
  temperature: number(0, 2),
  top_p: optional(z.number().gt(0).max(1)),
  top_k: whole(1, 2 ** 31),
  min_p: number(0, 1),
  repetition_penalty: optional(z.number().gt(0).max(100)),
  seed: whole(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - MOST_ANSWERS),
  logprobs: optional(z.boolean()),
  top_logprobs: whole(0, 20),
  n: whole(1, MOST_ANSWERS),
  // Who asks, and why; nobody here wants to know.
  user: optional(z.string()),
  metadata: optional(z.record(z.string(), z.string())),
  safety_identifier: optional(z.string()),
  prompt_cache_key: optional(z.string()),
  service_tier: only('auto', 'default'),
  store: only(false),
  frequency_penalty: only(0),
  presence_penalty: only(0),
  logit_bias: only({}),
  modalities: only(['text']),
  response_format: only({ type: 'text' }),
  tools: only([]),
  tool_choice: only('none', 'auto'),
  parallel_tool_calls: only(true, false),
});

export type ChatRequest = z.output<typeof schema>;
export type RequestMessage = ChatRequest['messages'][number];

/** @throws ApiError that names the field */
export function readChatRequest(text: string): ChatRequest {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new ApiError('The body is no JSON.', {
      code: 'invalid_json',
      hint: 'Send one JSON object.',
      cause,
    });
  }
  const parsed = schema.safeParse(body, { reportInput: true });
  if (!parsed.success) throw issueError(parsed.error.issues[0]!);
  const { stream, stream_options, logprobs, top_logprobs } = parsed.data;
  if (stream_options !== undefined && stream !== true) {
    throw wrong('stream_options', 'is only for an answer that is streamed; set stream to true');
  }
  if (top_logprobs !== undefined && logprobs !== true) {
    throw wrong('top_logprobs', 'is only given with logprobs; set logprobs to true');
  }
  return parsed.data;
}

function issueError(issue: z.core.$ZodIssue): ApiError {
  const path = issue.path.reduce<string>(
    (all, key) =>
      typeof key === 'number' ? `${all}[${key}]` : `${all}${all === '' ? '' : '.'}${String(key)}`,
    '',
  );
  if (issue.code === 'unrecognized_keys') {
    const param = `${path}${path === '' ? '' : '.'}${issue.keys[0]!}`;
    return new ApiError(`Unrecognized request argument supplied: ${param}.`, {
      ...{ param, code: 'unknown_parameter', hint: 'Leave it out.' },
    });
  }
  const problem = `${issue.message}${given(issue.input)}`;
  return wrong(path === '' ? 'The body' : path, problem, path === '' ? null : path);
}

/** What stood there, where that is short; of lists and objects the message tells the kind. */
function given(input: unknown): string {
  if (typeof input === 'string') return ` (given: "${shortText(input)}")`;
  return typeof input === 'number' || typeof input === 'boolean' ? ` (given: ${input})` : '';
}

function wrong(what: string, problem: string, param: string | null = what): ApiError {
  return new ApiError(`${what}: ${problem}.`, {
    ...{ param, code: 'invalid_value' },
    hint: 'docs/serving.md lists what is taken.',
  });
}
