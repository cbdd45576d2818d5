import { describe, expect, it } from 'vitest';

import { concernsRecord, unreadFields } from './fields.js';
import { parseRecord } from './parse-record.js';

const QUESTION = { role: 'user', content: 'a' };
const ANSWER = { role: 'assistant', content: 'b' };

const inRecord = (fields: object) => ({ messages: [QUESTION, ANSWER], ...fields });
const inQuestion = (fields: object) => ({ messages: [{ ...QUESTION, ...fields }, ANSWER] });
const inAnswer = (fields: object) => ({ messages: [QUESTION, { ...ANSWER, ...fields }] });
const inParts = (...content: object[]) => ({ messages: [{ role: 'user', content }, ANSWER] });

function problem(json: unknown): string | undefined {
  const parsed = parseRecord(json);
  if (parsed.ok) return undefined;
  expect(parsed.problem.code).toBe('E_RECORD_SHAPE');
  return parsed.problem.message;
}

describe('fields that change what a record teaches', () => {
  it.each<[string, object]>([
    ['video', { video: 'a.mp4' }],
    ['videos', { videos: ['a.mp4'] }],
    ['audio', { audio: { path: 'a.wav' } }],
    ['audios', { audios: ['a.wav'] }],
    ['video_path', { video_path: 'a.mp4' }],
    ['input_audio', { input_audio: { data: '...' } }],
    ['tools', { tools: [{ type: 'function' }] }],
    ['tools', { tools: '[{"name": "search"}]' }],
    ['functions', { functions: [{ name: 'search' }] }],
    ['chosen', { chosen: ANSWER }],
    ['rejected', { rejected: 'worse' }],
    ['rejected_response', { rejected_response: 'worse' }],
    ['mask', { mask: 'User' }],
    ['loss_weight', { loss_weight: 0.5 }],
    ['train', { train: false }],
    ['objects', { objects: { ref: ['dog'], bbox: [[1, 2, 3, 4]] } }],
    ['history', { history: [['q', 'a']] }],
    ['chat_template_kwargs', { chat_template_kwargs: { enable_thinking: false } }],
    ['image_path', { image_path: 'a.jpg' }],
    ['pixel_values', { pixel_values: [[0]] }],
  ])('of a record: %s', (name, fields) => {
    expect(problem(inRecord(fields))).toMatch(new RegExp(`^${name} is `));
    expect(concernsRecord(name)).toBe(true);
  });

  it.each<[string, object]>([
    ['tool_calls', { tool_calls: [{ function: { name: 'f' } }] }],
    ['function_call', { function_call: { name: 'f', arguments: '{}' } }],
    ['name', { name: 'Ann' }],
    ['loss_weight', { loss_weight: 0 }],
    ['train', { train: false }],
    ['mask', { mask: 1 }],
    ['loss_mask', { loss_mask: 1 }],
    ['reasoning_content', { reasoning_content: 'hm' }],
    ['images', { images: ['a.jpg'] }],
    ['image_url', { image_url: 'a.jpg' }],
    ['video', { video: 'a.mp4' }],
    ['rejected', { rejected: 'worse' }],
    ['blocks', { blocks: [{ text: 'more' }] }],
  ])('of an answer: %s', (name, fields) => {
    expect(problem(inAnswer(fields))).toMatch(new RegExp(`^messages\\[1\\]\\.${name} is `));
  });

  it('of a question: one that wants it to be learned', () => {
    expect(problem(inQuestion({ train: true }))).toContain('messages[0].train is true');
    expect(problem(inQuestion({ train: false }))).toBeUndefined();
  });

  it('`loss` and `weight`: a warning, since XTuner passes over them', () => {
    const warnings = (json: unknown) => {
      const parsed = parseRecord(json);
      return parsed.ok ? (parsed.record.warnings ?? []) : parsed.problem.message;
    };
    const odd = [{ weight: 0 }, { weight: 0.5 }, { loss: false }];
    for (const flag of odd) {
      expect(warnings(inAnswer(flag))).toEqual(['flags-unheeded']);
      expect(warnings(inRecord(flag))).toEqual(['flags-unheeded']);
    }
    expect(warnings(inQuestion({ loss: true }))).toEqual(['flags-unheeded']);
    expect(warnings(inQuestion({ loss: false, weight: 0 }))).toEqual([]);
    expect(warnings(inAnswer({ loss: true, weight: 1 }))).toEqual([]);
  });

  it('of a part: whatever is not known', () => {
    const image = { type: 'image', image: 'a.jpg' };
    expect(problem(inParts({ ...image, crop: [0, 0, 1, 1] }))).toContain('content[0].crop');
    expect(problem(inParts({ type: 'text', text: 'x', image: 'a.jpg' }))).toContain('[0].image is');
    expect(problem(inParts({ type: 'image', source: { data: 'x' } }))).toContain('[0].source is');
    expect(problem(inParts({ ...image, url: 'b.jpg' }))).toContain('two of its fields differ');
    expect(problem(inParts({ type: 'image', image: { path: 'a', page: 2 } }))).toContain(
      'page is 2',
    );
    for (const type of ['video', 'audio', 'input_image', 'input_audio', 'file', undefined]) {
      expect(problem(inParts({ type, text: 'x' }))).toContain('messages[0].content[0].type');
    }
  });

  it.each(['<video>', '<audio>', '<|video|>', '<|video_pad|>'])('the placeholder %s', (word) => {
    expect(problem(inQuestion({ content: `${word}\nhi` }))).toContain(`content is "${word}"`);
    expect(problem(inParts({ type: 'text', text: word }))).toContain(`text is "${word}"`);
    expect(problem(inAnswer({ content: word }))).toBeUndefined();
  });

  it('two forms of one field that differ', () => {
    const other = [QUESTION, { ...ANSWER, content: 'c' }];
    expect(problem(inRecord({ conversations: other }))).toContain('none beside `conversations`');
    expect(problem(inAnswer({ value: 'c' }))).toContain('messages[1].content is "b"');
    expect(problem(inAnswer({ from: 'human' }))).toContain('messages[1].role is "assistant"');
    expect(problem(inAnswer({ from: 'gpt', value: 'b' }))).toBeUndefined();
  });
});

describe('fields that change nothing', () => {
  it.each<[object]>([
    [{ score: 0.5, source: 'web', model: { name: 'x' }, bbox: [[1, 2]], split: 'train' }],
    [{ image_id: 7, image_wh: [[640, 480]], height: 3, question_id: 'q' }],
    [{ tools: [], tool_calls: null, functions: '', videos: [], audio: {}, rejected: false }],
    [{ tools: '[]', weight: 1, train: true, history: [] }],
  ])('of a record: %j', (fields) => {
    expect(problem(inRecord(fields))).toBeUndefined();
  });

  it('of a record with an image: other names of it', () => {
    const messages = [{ role: 'user', content: '<image>' }, ANSWER];
    expect(problem({ image: 'a.jpg', image_url: 'https://x/a.jpg', messages })).toBeUndefined();
  });

  it.each<[object]>([
    [{ score: 1, lang: 'en', id: 'm1', timestamp: 5, metadata: { a: 1 } }],
    [{ weight: 1, loss: true, train: true, tool_calls: [], name: '', images: [] }],
  ])('of an answer: %j', (fields) => {
    expect(problem(inAnswer(fields))).toBeUndefined();
  });

  it('of a part', () => {
    const text = { type: 'text', text: 'x', cache_control: { type: 'ephemeral' }, image: '' };
    const image = { type: 'image_url', image_url: { url: 'a.jpg', detail: 'high' }, id: 3 };
    expect(problem(inParts(text, image))).toBeUndefined();
  });

  it('are known by name', () => {
    const json = { id: 1, score: 1, source: null, messages: [{ ...QUESTION, lang: 'en' }, ANSWER] };
    expect(unreadFields(json)).toEqual(['score', 'messages[].lang']);
    expect(unreadFields(null)).toEqual([]);
  });
});
