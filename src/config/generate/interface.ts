/**
 * The recipe's JSON Schema as TypeScript interfaces, so that an editor shows every field with its meaning and default: `z.input` of
 * the schema has the types alone, unless each `describe` stood there once more as a comment.
 */
import type { JsonSchema } from '../json-schema.js';

/** The text of `recipe-input.generated.ts`. */
export function recipeInterfaces(schema: JsonSchema): string {
  const { $defs = {}, ...rest } = schema;
  const { $ref, ...whole } = rest;
  const named = { ...$defs, ...($ref === undefined && { Recipe: whole }) };
  return [
    '/** A recipe as it is written, made from src/config/schema: what has a default may be left out. */',
    ...Object.entries(named).map(([name, definition]) => declaration(`${name}Input`, definition)),
  ].join('\n\n');
}

function declaration(name: string, schema: JsonSchema): string {
  return schema.properties === undefined
    ? `export type ${name} = ${type(schema)};`
    : `export interface ${name} ${object(schema)}`;
}

function object({ properties = {}, required = [] }: JsonSchema): string {
  const fields = Object.entries(properties).map(([name, field]) => {
    // A field with a default need not be given, whatever the schema calls it.
    const needed = required.includes(name);
    const key = /^\w+$/.test(name) ? name : `'${name}'`;
    return `${comment(field)}${key}${needed ? '' : '?'}: ${type(field)}${needed ? '' : ' | undefined'};`;
  });
  return `{\n${fields.join('\n')}\n}`;
}

function comment({ description, default: value }: JsonSchema): string {
  const lines = wrap(description ?? '', 90);
  const text = JSON.stringify(value);
  // An empty section says nothing: its fields have defaults of their own.
  if (value !== undefined && text !== '{}') lines.push(`@default ${text}`);
  if (lines.length === 0) return '';
  if (lines.length === 1) return `/** ${lines[0]!} */\n`;
  return `/**\n${lines.map((line) => ` * ${line}`).join('\n')}\n */\n`;
}

function type(schema: JsonSchema): string {
  const { $ref, anyOf, prefixItems, items, properties, additionalProperties } = schema;
  if ($ref !== undefined) return `${$ref.split('/').at(-1)!}Input`;
  if (anyOf !== undefined) return anyOf.map(type).join(' | ');
  if (schema.enum !== undefined) return schema.enum.map(literal).join(' | ');
  if ('const' in schema) return literal(schema.const);
  if (prefixItems !== undefined) return `[${prefixItems.map(type).join(', ')}]`;
  if (items !== undefined) return `(${type(items)})[]`;
  if (properties !== undefined) return object(schema);
  if (typeof additionalProperties === 'object') return 'Record<string, unknown>';
  return { integer: 'number', number: 'number', null: 'null' }[schema.type ?? ''] ?? schema.type!;
}

function literal(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : JSON.stringify(value);
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ').filter(Boolean)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines;
}
