/**
 * Reads one record, either form: LLaVA's `{id, image, conversations: [{from, value}]}` or OpenAI's
 * `{messages: [{role, content}], images}`, whose contents are texts or lists of parts, with a `system` text or none. In a
 * text of the user `<image>` stands for an image; there have to be as many as there are images. A field that is null is
 * absent.
 */
import { plural } from '../../base/format.js';
import { IMAGE_PLACEHOLDER } from '../../models/sample.js';
import { isObject, shown, type JsonObject } from '../../text/json.js';
import { joinTexts, textMessage, type Message, type Part, type Role } from '../../text/message.js';
import { pairTurns } from '../../text/turns.js';
import {
  hasUnheededFlag,
  refusedInImage,
  refusedInMessage,
  refusedInPart,
  refusedInRecord,
  type RefusedField,
} from './fields.js';
import type { ChatRecord, ImageSource, RecordId, RecordProblem, RecordWarning } from './record.js';

export type ParsedRecord =
  | { readonly ok: true; readonly record: ChatRecord }
  | { readonly ok: false; readonly id: RecordId; readonly problem: RecordProblem };

/** What stands for a video or a sound in data for other models. */
const OTHER_PLACEHOLDER = /<\|?(?:video|audio)(?:_pad)?\|?>/;

const ROLES: Readonly<Record<string, Role>> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  system: 'system',
};

/**
 * Reads a record; never throws. Problems:
 *
 * - E_RECORD_SHAPE: not an object, a field missing, of another type, or one that changes what the record teaches and is not
 *   understood;
 * - E_RECORD_ROLE: an unknown role, or a system message that is not the first;
 * - E_RECORD_TURNS: no question with an answer;
 * - E_RECORD_IMAGES: more or fewer placeholders than images;
 * - E_RECORD_TEXT: half of a surrogate pair, which is no text in UTF-8.
 */
export function parseRecord(json: unknown): ParsedRecord {
  let id: RecordId = null;
  try {
    if (!isObject(json)) throw shape('the record', json, 'an object');
    id = readId(json['id']);
    return { ok: true, record: read(json, id) };
  } catch (fault) {
    if (fault instanceof Fault) return { ok: false, id, problem: fault.problem };
    throw fault;
  }
}

/** Leaves the reading of a record at its first fault. */
class Fault extends Error {
  constructor(readonly problem: RecordProblem) {
    super(problem.message);
  }
}

function shape(field: string, value: unknown, wanted: string): Fault {
  return new Fault({
    code: 'E_RECORD_SHAPE',
    message:
      value === undefined ? `${field} is missing` : `${field} is ${shown(value)}, wanted ${wanted}`,
    hint: 'Write the record as {"image": ..., "conversations": [{"from": ..., "value": ...}]} or {"messages": [{"role": ..., "content": ...}]}.',
  });
}

/** Refuses a field that is not read, unless there is none. */
function refuse(at: string, refused: RefusedField | undefined): void {
  if (refused === undefined) return;
  const { name, value, why } = refused;
  throw new Fault({
    code: 'E_RECORD_SHAPE',
    message: `${at}${name} is ${shown(value)}, which changes what the record teaches: ${why}`,
    hint: `Take ${name} out where the record is right without it, else leave the record out.`,
  });
}

/** What two fields say that mean the same; the first is given back where both are there. */
function oneOf(
  json: JsonObject,
  [first, second]: readonly [string, string],
  at: string,
  same: (a: unknown, b: unknown) => boolean = (a, b) => a === b,
): string {
  const [a, b] = [json[first] ?? undefined, json[second] ?? undefined];
  if (a === undefined) return second;
  if (b === undefined || same(a, b)) return first;
  throw shape(`${at}${second}`, b, `none beside \`${first}\``);
}

function readId(id: unknown): RecordId {
  if (id === undefined || id === null) return null;
  if (typeof id === 'string' || typeof id === 'number') return id;
  try {
    return JSON.stringify(id);
  } catch {
    throw shape('id', id, 'no more than a few levels'); // nested beyond the stack
  }
}

function read(json: JsonObject, id: RecordId): ChatRecord {
  refuse('', refusedInRecord(json));
  const field = oneOf(json, ['conversations', 'messages'], '');
  const list = json[field];
  if (!Array.isArray(list)) throw shape(field, list, 'a list of messages');
  const waiting = readImages(json);
  const images: ImageSource[] = [];
  const withParts = (list as unknown[]).some(
    (entry) => isObject(entry) && Array.isArray(entry['content']) && entry['content'].some(isImage),
  );
  let places = 0;
  /** Gives the next place to an image of its own, or to the next of the record's list. */
  const place = (own?: ImageSource): Part => {
    const image = own ?? waiting[places];
    if (own === undefined) places++;
    if (image !== undefined) images.push(image);
    return { type: 'image', image: images.length - 1 };
  };
  const warnings = new Set<RecordWarning>();
  if (hasUnheededFlag(json, true)) warnings.add('flags-unheeded');
  const messages = (list as unknown[]).map((entry, i): Message => {
    const at = `${field}[${i}]`;
    if (!isObject(entry)) throw shape(at, entry, 'an object');
    const role = readRole(entry, at);
    refuse(`${at}.`, refusedInMessage(entry, role === 'assistant'));
    if (hasUnheededFlag(entry, role === 'assistant')) warnings.add('flags-unheeded');
    if (role === 'system' && i > 0) {
      throw new Fault({
        code: 'E_RECORD_ROLE',
        message: `${at} is a system message, which may only come first`,
        hint: 'Move the system message to the beginning, or make it part of a question.',
      });
    }
    return { role, content: readContent(entry, at, { role, withParts, place }) };
  });
  if (places !== waiting.length) throw imageCount(places, waiting.length);
  if (addSystem(messages, readSystem(json)) === 'two') warnings.add('two-systems');
  if (pairTurns(messages).turns.length === 0) {
    throw new Fault({
      code: 'E_RECORD_TURNS',
      message: `${field} has no question with an answer`,
      hint: 'Give the record a message of the user and an answer to it.',
    });
  }
  return { id, images, messages, ...(warnings.size > 0 && { warnings: [...warnings] }) };
}

const SYSTEM_FIELDS = ['system', 'system_prompt'] as const;

/** The record's own system texts, the one that counts first. */
function readSystem(json: JsonObject): string[] {
  return SYSTEM_FIELDS.flatMap((field) => {
    const text = json[field] ?? '';
    if (typeof text !== 'string') throw shape(field, text, 'a text');
    return text === '' ? [] : [wellFormed(text, field)];
  });
}

/** Puts the record's system text before messages that have none, and tells whether there are two that differ. */
function addSystem(messages: Message[], texts: readonly string[]): 'one' | 'two' {
  const [first] = messages;
  const said = first?.role === 'system' ? plainText(first.content) : texts[0];
  if (said !== undefined && first?.role !== 'system') messages.unshift(textMessage('system', said));
  return texts.some((text) => text !== said) ? 'two' : 'one';
}

function plainText(content: readonly Part[]): string {
  return joinTexts(content)
    .map((part) => (part.type === 'text' ? part.text : ''))
    .join('');
}

function imageCount(places: number, images: number): Fault {
  return new Fault({
    code: 'E_RECORD_IMAGES',
    message: `${plural(places, 'placeholder')} (${IMAGE_PLACEHOLDER}) for ${plural(images, 'image')}`,
    hint: `Write ${IMAGE_PLACEHOLDER} once for each image, in messages of the user.`,
  });
}

function readImages(json: JsonObject): ImageSource[] {
  const [one] = present(json['image']);
  const [many] = present(json['images']);
  if (one !== undefined && many !== undefined) {
    throw shape('images', many, 'none beside `image`');
  }
  const value = one ?? many;
  const field = one === undefined ? 'images' : 'image';
  if (value === undefined) return [];
  if (!Array.isArray(value)) return [readImage(value, field)];
  return (value as unknown[]).map((image, i) => readImage(image, `${field}[${i}]`));
}

/** A path or URL, or an image of a Hugging Face data set: `{bytes, path}`. */
function readImage(image: unknown, field: string): ImageSource {
  if (typeof image === 'string' && image !== '') return wellFormed(image, field);
  if (image instanceof Uint8Array) return { bytes: image, path: undefined };
  if (isObject(image)) {
    refuse(`${field}.`, refusedInImage(image));
    const { bytes, path } = image;
    const name =
      typeof path === 'string' && path !== '' ? wellFormed(path, `${field}.path`) : undefined;
    if (bytes instanceof Uint8Array) return { bytes, path: name };
    if (name !== undefined) return name;
  }
  throw shape(field, image, 'a path or the bytes of an image');
}

const roleOf = (name: unknown): Role | undefined =>
  typeof name === 'string' && Object.hasOwn(ROLES, name) ? ROLES[name] : undefined;

function readRole(entry: JsonObject, at: string): Role {
  const same = (a: unknown, b: unknown): boolean => a === b || roleOf(a) === roleOf(b);
  const name = entry[oneOf(entry, ['from', 'role'], `${at}.`, same)];
  if (typeof name !== 'string')
    throw shape(`${at}.${'from' in entry ? 'from' : 'role'}`, name, 'a role');
  const role = roleOf(name);
  if (role) return role;
  throw new Fault({
    code: 'E_RECORD_ROLE',
    message: `${at} has the role ${shown(name)}`,
    hint: `Use one of ${Object.keys(ROLES).join(', ')}.`,
  });
}

interface ContentOptions {
  role: Role;
  /** Whether images stand as parts somewhere in the record; then text is text. */
  withParts: boolean;
  place: (own?: ImageSource) => Part;
}

function readContent(entry: JsonObject, at: string, options: ContentOptions): Part[] {
  const given = oneOf(entry, ['value', 'content'], `${at}.`);
  const key = 'content' in entry ? given : 'value'; // what is missing is called a value
  const content = entry[key] ?? undefined;
  const field = `${at}.${key}`;
  if (typeof content === 'string') return readText(content, field, options);
  if (key === 'content' && Array.isArray(content)) {
    return separated(
      (content as unknown[]).flatMap((part, i) => readPart(part, `${field}[${i}]`, options)),
    );
  }
  throw shape(field, entry[key], key === 'content' ? 'a text or a list of parts' : 'a text');
}

function readText(text: string, field: string, { role, withParts, place }: ContentOptions): Part[] {
  wellFormed(text, field);
  const [other] = (role === 'user' && OTHER_PLACEHOLDER.exec(text)) || [];
  if (other !== undefined) throw shape(field, other, 'text and images');
  if (role !== 'user' || withParts) return [{ type: 'text', text }];
  return text
    .split(IMAGE_PLACEHOLDER)
    .flatMap((piece, i): Part[] => [...(i > 0 ? [place()] : []), { type: 'text', text: piece }]);
}

const isImage = (part: unknown): boolean =>
  isObject(part) && (part['type'] === 'image' || part['type'] === 'image_url');

function readPart(part: unknown, field: string, options: ContentOptions): Part[] {
  if (typeof part === 'string') return readText(part, field, options);
  if (!isObject(part)) throw shape(field, part, 'a part');
  if (part['type'] === 'text') {
    const { text } = part;
    if (typeof text !== 'string') throw shape(`${field}.text`, text, 'a text');
    refuse(`${field}.`, refusedInPart(part, 'text'));
    return readText(text, `${field}.text`, options);
  }
  if (!isImage(part)) throw shape(`${field}.type`, part['type'], '"text", "image" or "image_url"');
  if (options.role !== 'user') {
    throw shape(`${field}.type`, part['type'], 'text: only the user shows images');
  }
  refuse(`${field}.`, refusedInPart(part, 'image'));
  const named = ['image_url', 'image', 'url', 'path'].flatMap((name) => {
    const value = part[name];
    return present(isObject(value) && 'url' in value ? value['url'] : value);
  });
  const [source, another] = named;
  if (source === undefined) return [options.place()];
  if (another !== undefined && another !== source) {
    throw shape(field, part, 'one image: two of its fields differ');
  }
  return [options.place(readImage(source, field))];
}

/** A value that may be an image; none where it is null, or an object of nulls, as Arrow fills in what is absent. */
function present(value: unknown): unknown[] {
  const isAbsent = (each: unknown): boolean => each === null || each === undefined;
  const isEmpty =
    isObject(value) && !(value instanceof Uint8Array) && Object.values(value).every(isAbsent);
  return isAbsent(value) || isEmpty ? [] : [value];
}

/** Parts carry no line ends between them: an image is followed by one, as after a placeholder. */
function separated(parts: readonly Part[]): Part[] {
  return parts.flatMap((part, i) => {
    const next = parts[i + 1];
    const apart = part.type !== 'image' || !next || (next.type === 'text' && /^\s/.test(next.text));
    return apart ? [part] : [part, { type: 'text', text: '\n' }];
  });
}

function wellFormed(text: string, field: string): string {
  if (hasLoneSurrogate(text)) {
    throw new Fault({
      code: 'E_RECORD_TEXT',
      message: `${field} holds half of a surrogate pair, which UTF-8 cannot write`,
      hint: 'Write the character whole, or take it out.',
    });
  }
  return text;
}

/** The first pattern is quick, and finds nothing in most texts. */
const hasLoneSurrogate = (text: string): boolean =>
  /[\ud800-\udfff]/.test(text) && /\p{Surrogate}/u.test(text);
