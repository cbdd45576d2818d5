/**
 * Runs a Jinja template (@huggingface/jinja) as transformers runs chat templates, and never longer than a
 * budget: a template comes with a model, from anywhere.
 *
 * Mended here: `trim`, `strip`, `lstrip` and `rstrip` are Python's, characters to strip included; so are `==` and `!=`
 * (`'' != false`, lists by their items) and the length of a text, which counts code points; the
 * generation tags of transformers keep Jinja's rules for blanks and can be made visible; `strftime_now` is
 * there only where a date is given, in English, so that the same record gives the same tokens tomorrow.
 */
import * as jinja from '@huggingface/jinja';

import { DataError } from '../base/errors.js';
import { pythonStrip } from './python-strip.js';

/** Enclose what `{% generation %}` encloses, when asked for; noncharacters, which no text holds. */
export const GENERATION_START = '\ufdd2';
export const GENERATION_END = '\ufdd3';

export interface JinjaOptions {
  /** What to call the template in errors, for example its path. */
  name: string;
  /** What `strftime_now` takes for now. @default none: the template sees no `strftime_now` */
  now?: Date | undefined;
}

export interface JinjaTemplate {
  readonly name: string;
  /** Whether it has `{% generation %}` tags. */
  readonly hasGenerationTags: boolean;
  /** Throws E_TEMPLATE_REFUSED where the template raises, E_TEMPLATE_FAILED where it fails or does not end. */
  render(variables: Readonly<Record<string, unknown>>, marked?: { generation: boolean }): string;
}

/** Steps of a rendering, and items of all its ranges; a message takes 20 to 100 steps of some microseconds. */
const STEP_LIMIT = 400_000;
/** UTF-16 units of any string in a rendering. */
const STRING_LIMIT = 2 ** 24;

// The package's declarations import without file endings, which ESM does not resolve: what is used of it
// is declared here.
interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly operand?: Node;
  readonly filter?: Node;
  readonly callee?: Node;
  readonly object?: Node;
  readonly property?: Node;
  readonly left?: Node;
  readonly right?: Node;
  readonly operator?: Node;
  readonly args?: readonly Node[];
}
interface Value {
  readonly type: string;
  readonly value: unknown;
  /** Python's truth of it. */
  __bool__(): Value;
}
interface Scope {
  set(name: string, value: unknown): Value;
}
const Environment = jinja.Environment as unknown as new () => Scope;
const Interpreter = jinja.Interpreter as unknown as new (globals: Scope) => {
  evaluate(node: Node | undefined, scope: Scope): Value;
  run(program: Node): Value;
};
const tokenize = jinja.tokenize as unknown as (
  source: string,
  options: { lstrip_blocks: boolean; trim_blocks: boolean },
) => unknown;
const parse = jinja.parse as unknown as (tokens: unknown) => Node;

const NUMBERS: readonly string[] = ['IntegerValue', 'FloatValue', 'BooleanValue'];
const SIDES: Readonly<Record<string, 'both' | 'left' | 'right'>> = {
  strip: 'both',
  lstrip: 'left',
  rstrip: 'right',
};

class Runner extends Interpreter {
  #steps = 0;

  override evaluate(node: Node | undefined, scope: Scope): Value {
    this.#step();
    const result = (node && this.#asPython(node, scope)) ?? super.evaluate(node, scope);
    if (typeof result.value === 'string' && result.value.length > STRING_LIMIT) {
      throw new Error(`it makes a string of more than ${STRING_LIMIT} characters`);
    }
    return result;
  }

  #step(): void {
    if (++this.#steps > STEP_LIMIT) throw new Error(`it takes more than ${STEP_LIMIT} steps`);
  }

  /** What the package does otherwise than Python; undefined where the node is something else. */
  #asPython(node: Node, scope: Scope): Value | undefined {
    if (node.type === 'BinaryExpression') return this.#equality(node, scope);
    if (node.type === 'CallExpression') return this.#strip(node, scope);
    if (node.type !== 'FilterExpression' || node.filter?.type !== 'Identifier') return undefined;
    if (node.filter.value === 'trim') {
      return stripped(this.evaluate(node.operand, scope), 'both', undefined);
    }
    return node.filter.value === 'length' ? this.#length(node, scope) : undefined;
  }

  #equality({ operator, left, right }: Node, scope: Scope): Value | undefined {
    if (operator?.value !== '==' && operator?.value !== '!=') return undefined;
    const a = this.evaluate(left, scope);
    const equal = this.#equals(a, this.evaluate(right, scope));
    // The package does not export the classes of its values.
    const Truth = a.__bool__().constructor as new (value: boolean) => Value;
    return new Truth(equal === (operator.value === '=='));
  }

  /** Python's `==`: numbers and truths by value, texts by characters, lists and dictionaries by what they hold. */
  #equals(a: Value, b: Value): boolean {
    this.#step();
    if (NUMBERS.includes(a.type) && NUMBERS.includes(b.type)) {
      return Number(a.value) === Number(b.value);
    }
    if (a.type !== b.type) return false;
    if (Array.isArray(a.value) && Array.isArray(b.value)) {
      const [items, others] = [a.value as Value[], b.value as Value[]];
      return items.length === others.length && items.every((x, i) => this.#equals(x, others[i]!));
    }
    if (a.value instanceof Map && b.value instanceof Map) {
      const [items, others] = [a.value as Map<string, Value>, b.value as Map<string, Value>];
      const isThere = ([key, x]: [string, Value]): boolean =>
        others.has(key) && this.#equals(x, others.get(key)!);
      return items.size === others.size && [...items].every(isThere);
    }
    return a.value === b.value;
  }

  /** Code points of a text, items of a list. */
  #length({ operand }: Node, scope: Scope): Value | undefined {
    const { type, value } = this.evaluate(operand, scope);
    const counted = type === 'StringValue' ? Array.from(String(value)) : value;
    if (!Array.isArray(counted)) return undefined;
    return super.evaluate({ type: 'IntegerLiteral', value: counted.length }, scope);
  }

  /** `text.strip(...)` and its kin. */
  #strip(node: Node, scope: Scope): Value | undefined {
    if (node.callee?.type !== 'MemberExpression') return undefined;
    const { object, property } = node.callee;
    const side = property?.type === 'Identifier' ? SIDES[String(property.value)] : undefined;
    if (!side || node.args!.length > 1) return undefined;
    const characters = node.args!.map((arg) => this.evaluate(arg, scope).value)[0];
    return stripped(this.evaluate(object, scope), side, characters);
  }
}

/** A string stripped as Python strips it; undefined for other values. */
function stripped(
  text: Value,
  side: 'both' | 'left' | 'right',
  characters: unknown,
): Value | undefined {
  if (text.type !== 'StringValue') return undefined;
  const set = typeof characters === 'string' ? characters : undefined;
  const result = pythonStrip(String(text.value), { side, characters: set });
  return new (text.constructor as new (value: string) => Value)(result);
}

class Raised extends Error {}

const GENERATION_TAG = /\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}/g;

/** Reads a template; throws E_TEMPLATE_SYNTAX. */
export function compileTemplate(source: string, { name, now }: JinjaOptions): JinjaTemplate {
  // An empty block behaves as the tag does towards the blanks around it.
  const program = compile(source.replace(GENERATION_TAG, '{%$1 if true %}{% endif $3%}'), name);
  const hasGenerationTags = source.search(GENERATION_TAG) >= 0;
  let marked: Node | undefined;
  return {
    name,
    hasGenerationTags,
    render(variables, { generation } = { generation: false }) {
      if (generation) {
        marked ??= compile(
          source.replace(
            GENERATION_TAG,
            (_, before: string, end: string | undefined, after: string) =>
              `{%${before} if true %}${end ? GENERATION_END : GENERATION_START}{% endif ${after}%}`,
          ),
          name,
        );
      }
      return run(generation ? marked! : program, variables, name, now);
    },
  };
}

function compile(source: string, name: string): Node {
  try {
    return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw new DataError(`Chat template ${name} cannot be read: ${(cause as Error).message}.`, {
      code: 'E_TEMPLATE_SYNTAX',
      hint: 'Mend the template, or choose another with `template`.',
      cause,
    });
  }
}

function run(
  program: Node,
  variables: Readonly<Record<string, unknown>>,
  name: string,
  now: Date | undefined,
): string {
  const globals = new Environment();
  try {
    for (const [key, value] of Object.entries({ ...builtins(now), ...variables })) {
      globals.set(key, value);
    }
    return String(new Runner(globals).run(program).value);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (cause instanceof Raised) {
      throw new DataError(`Chat template ${name} refuses the conversation: ${reason}.`, {
        code: 'E_TEMPLATE_REFUSED',
        hint: 'Change the order or the roles of the messages as the template wants them.',
        cause,
      });
    }
    throw new DataError(`Chat template ${name} fails: ${reason}.`, {
      code: 'E_TEMPLATE_FAILED',
      hint: 'Mend the template, or choose another with `template`.',
      cause,
    });
  }
}

function builtins(now: Date | undefined): Record<string, unknown> {
  let items = 0;
  return {
    ...{ true: true, false: false, none: null, True: true, False: false, None: null },
    raise_exception(reason: unknown): never {
      throw new Raised(String(reason).replace(/\.$/, ''));
    },
    range(...bounds: number[]): number[] {
      const [start, stop, step = 1] = bounds.length === 1 ? [0, ...bounds] : bounds;
      if (start === undefined || stop === undefined || !Number.isSafeInteger(step) || step === 0) {
        throw new Error(`range(${bounds.join(', ')}) has no meaning`);
      }
      items += Math.max(0, Math.ceil((stop - start) / step));
      if (!(items <= STEP_LIMIT)) throw new Error(`it counts over more than ${STEP_LIMIT} items`);
      const list: number[] = [];
      for (let i = start; step > 0 ? i < stop : i > stop; i += step) list.push(i);
      return list;
    },
    ...(now && { strftime_now: (format: unknown) => strftime(now, String(format)) }),
  };
}

/** The fields of Python's `strftime` that templates use, in English. */
function strftime(date: Date, format: string): string {
  const english = (options: Intl.DateTimeFormatOptions): string =>
    new Intl.DateTimeFormat('en-US', options).format(date);
  const two = (value: number): string => String(value).padStart(2, '0');
  const fields: Readonly<Record<string, () => string>> = {
    Y: () => String(date.getFullYear()),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    H: () => two(date.getHours()),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    b: () => english({ month: 'short' }),
    B: () => english({ month: 'long' }),
    a: () => english({ weekday: 'short' }),
    A: () => english({ weekday: 'long' }),
    '%': () => '%',
  };
  return format.replace(/%([YmdHMSbBaA%])/g, (_, field: string) => fields[field]!());
}
