/**
 * The fields of records, messages and parts. Data sets come with fields of all kinds. Those that are read are few; of the others
 * some would change what a record teaches (a video, tools, which answers are learned), so that a record with one is no record
 * that can be trained on, and the rest says where it comes from, and is passed over.
 */
import { isObject, type JsonObject } from '../../text/json.js';

/** A field that is not passed over, and why. */
export interface RefusedField {
  readonly name: string;
  readonly value: unknown;
  readonly why: string;
}

const RECORD_READ = new Set([
  ...['id', 'image', 'images', 'conversations', 'messages', 'system', 'system_prompt'],
]);
const MESSAGE_READ = new Set(['from', 'role', 'value', 'content']);

const MEDIA = 'a model is shown pictures alone';
const TOOLS = 'tools and their calls are not written into prompts';
const PAIRS = 'pairs of a better and a worse answer are not trained on';
const LEARNED = 'all answers are learned, and nothing else: no field chooses';
const TEMPLATE = 'nothing but messages is handed to the chat template';
const DROPPED = 'it is part of the message, and would be left out';

type Rule = readonly [names: RegExp, why: string];

/** Fields that change a record wherever they stand. */
const ANYWHERE: readonly Rule[] = [
  [
    /^(input_?)?(video|audio|speech|sound|point_?cloud)s?(_?(url|path|file|file_?name|byte|data|frame|clip)s?)?$/i,
    MEDIA,
  ],
  [
    /^(available_?)?(tools|functions)$|^(tool|function)_?(call|choice|response|result|output)(s|_?ids?)?$/i,
    TOOLS,
  ],
  [/^(chosen|rejected)(_\w+)?$|^(positive|negative)_messages$|^kto_tag$/i, PAIRS],
  [/^mask$|^(loss|train|label|token)_?(masks?|scale)$/i, LEARNED],
];

const IN_RECORDS: readonly Rule[] = [
  ...ANYWHERE,
  [/^(chat_template_kwargs|documents|enable_thinking)$/i, TEMPLATE],
  [/^objects$/i, 'boxes and names of objects are not put into texts'],
  [/^history$/i, 'turns stand in the list of messages'],
];

const IN_MESSAGES: readonly Rule[] = [
  ...ANYWHERE,
  [/^(reasoning|reasoning_content|reasoning_details|thinking|thought|thoughts|refusal)$/i, DROPPED],
  [/^(attachments?|files?|documents?|prefix|parts)$/i, DROPPED],
  [/^(name|recipient|channel)$/i, TEMPLATE],
];

/** Pictures under names that are not read. */
const PICTURE =
  /^(pixel_values|(input_)?(image|img|picture|photo)s?(_?(url|path|file|byte|data|list|base64)s?)?)$/i;

/** Whether something is learned. */
const FLAG = /^(train|trainable|learn|loss_?weight|sample_?weight)$/i;

/** The same, which XTuner passes over: as here, but not without a word. */
const UNHEEDED = new Set(['loss', 'weight']);

/** Objects and lists that tell about a message. */
const ABOUT_MESSAGES =
  /^(meta|metadata|meta_?data|extra|extras|info|annotations?|tags|usage|scores?|ratings?|labels?|feedback|sources?|citations)$/i;

const PART_FIELDS: Readonly<Record<string, readonly string[]>> = {
  text: ['type', 'text'],
  image: ['type', 'image', 'image_url', 'url', 'path'],
};
/** Of any part: ids, caching, the size at which other models see a picture. */
const ABOUT_PARTS = ['id', 'index', 'uuid', 'cache_control', 'annotations'].concat(
  ['detail', 'image_wh', 'width', 'height', 'format', 'mime_type'],
  ['min_pixels', 'max_pixels', 'resized_width', 'resized_height'],
);
const IMAGE_FIELDS = ['bytes', 'path', 'url', ...ABOUT_PARTS, 'mode', 'size', 'file_name'];

/** A field of a record that changes what it teaches and is not read. */
export function refusedInRecord(record: JsonObject): RefusedField | undefined {
  const hasImage = isGiven(record['image']) || isGiven(record['images']);
  return firstRefused(record, RECORD_READ, (name, value) => {
    if (PICTURE.test(name)) return hasImage ? undefined : 'pictures stand in `image` or `images`';
    return ruleFor(IN_RECORDS, name) ?? (isFlag(name) ? flagFault(value, true) : undefined);
  });
}

/** The same for a message; `isLearned` for an answer. */
export function refusedInMessage(
  message: JsonObject,
  isLearned: boolean,
): RefusedField | undefined {
  return firstRefused(message, MESSAGE_READ, (name, value) => {
    if (PICTURE.test(name)) return 'pictures stand in the record, or in parts of `content`';
    if (isFlag(name)) return flagFault(value, isLearned);
    const known = ruleFor(IN_MESSAGES, name);
    if (known !== undefined || typeof value !== 'object' || ABOUT_MESSAGES.test(name)) return known;
    return 'it is not understood';
  });
}

/** The same for a part, of which everything has to be understood. */
export function refusedInPart(part: JsonObject, kind: 'text' | 'image'): RefusedField | undefined {
  return unknownIn(part, [...PART_FIELDS[kind]!, ...ABOUT_PARTS]);
}

/** The same for an image that is an object. */
export function refusedInImage(image: JsonObject): RefusedField | undefined {
  return unknownIn(image, IMAGE_FIELDS);
}

/** Whether a record's field of that name is read or refused, and not passed over. */
export function concernsRecord(name: string): boolean {
  return (
    RECORD_READ.has(name) ||
    PICTURE.test(name) ||
    UNHEEDED.has(name) ||
    isFlag(name) ||
    ruleFor(IN_RECORDS, name) !== undefined
  );
}

/** Names of the fields of a record and its messages that are passed over. */
export function unreadFields(record: unknown): string[] {
  if (!isObject(record)) return [];
  const unread = new Set(givenFields(record).filter((name) => !concernsRecord(name)));
  const field = isGiven(record['conversations']) ? 'conversations' : 'messages';
  const list = record[field];
  for (const message of Array.isArray(list) ? (list as unknown[]) : []) {
    if (!isObject(message)) continue;
    for (const name of givenFields(message)) {
      if (!MESSAGE_READ.has(name) && !isFlag(name) && !UNHEEDED.has(name))
        unread.add(`${field}[].${name}`);
    }
  }
  return [...unread];
}

/** Whether a field says anything: tables fill what is absent with null, other writers with nothing of the field's kind. */
function isGiven(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  if (typeof value === 'string') return !/^\s*(\[\s*\]|\{\s*\})?\s*$/.test(value);
  if (typeof value !== 'object') return true;
  return Array.isArray(value) ? value.length > 0 : givenFields(value as JsonObject).length > 0;
}

function givenFields(json: JsonObject): string[] {
  return Object.keys(json).filter((name) => json[name] !== null && json[name] !== undefined);
}

function firstRefused(
  json: JsonObject,
  read: ReadonlySet<string>,
  why: (name: string, value: unknown) => string | undefined,
): RefusedField | undefined {
  for (const name of givenFields(json)) {
    const value = json[name];
    if (read.has(name) || !(isGiven(value) || isFlag(name))) continue;
    const reason = why(name, value);
    if (reason !== undefined) return { name, value, why: reason };
  }
  return undefined;
}

function unknownIn(json: JsonObject, known: readonly string[]): RefusedField | undefined {
  const name = givenFields(json).find((each) => !known.includes(each) && isGiven(json[each]));
  return name === undefined ? undefined : { name, value: json[name], why: 'it is not understood' };
}

function ruleFor(rules: readonly Rule[], name: string): string | undefined {
  return rules.find(([names]) => names.test(name))?.[1];
}

const isFlag = (name: string): boolean => FLAG.test(name);

/** A flag that says what is done anyway does no harm. */
function flagFault(value: unknown, isLearned: boolean): string | undefined {
  const says = isLearned ? [true, 1, 'true'] : [false, 0, 'false'];
  return says.some((each) => each === value) ? undefined : LEARNED;
}

/** Whether a record or message has a `loss` or `weight` that says otherwise than what is done. */
export function hasUnheededFlag(json: JsonObject, isLearned: boolean): boolean {
  return givenFields(json).some(
    (name) => UNHEEDED.has(name) && flagFault(json[name], isLearned) !== undefined,
  );
}
