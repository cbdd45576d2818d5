/**
 * Records encoded per second and core: images decoded and resized, conversations tokenised, beside transformers' LlavaProcessor
 * on the same files and texts in the same run.
 *
 *     node dist/bench/encode.js [--python python3] [--model FOLDER] [--rounds 9] [--json]
 *
 * First the ids and the normalised pixels of all records have to be the same on both sides. Then the contestants take turns and
 * medians are compared, so that a busy machine disturbs all alike. A rate is records per second of processor time, all threads of
 * the process counted. Where Python has no transformers, the peer's figures are missing; where it has torchvision, transformers'
 * fast image processor, whose pixels are not Pillow's, runs too.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import sharp from 'sharp';

import { median } from '../src/base/median.js';
import { packageRoot } from '../src/base/native-path.js';
import { encodeJson, expandImages } from '../src/data/encode.js';
import { fitImage } from '../src/data/image/fit.js';
import { normaliseTable } from '../src/data/image/normalise.js';
import { readImage } from '../src/data/image/read-image.js';
import { createFormat, loadTokenizer } from '../src/text/index.js';
import { COCO_SIZES, drawPhotographs, LARGE_SIZES } from './photographs.js';
import { PythonPeer } from './python-peer.js';

const SIZE = 336;
const PATCH = 14;
const IMAGE_TOKENS = (SIZE / PATCH) ** 2;
const SETS = [
  {
    name: 'jpeg',
    label: 'JPEG, 0.2 to 0.3 megapixels',
    sizes: COCO_SIZES,
    format: 'jpg',
    count: 24,
  },
  { name: 'png', label: 'PNG, 0.2 to 0.3 megapixels', sizes: COCO_SIZES, format: 'png', count: 12 },
  {
    name: 'large',
    label: 'JPEG, 1.2 to 1.9 megapixels',
    sizes: LARGE_SIZES,
    format: 'jpg',
    count: 8,
  },
] as const;

interface LlavaRecord {
  readonly id: number;
  readonly image: string;
  readonly conversations: readonly { readonly from: 'human' | 'gpt'; readonly value: string }[];
}

const QUESTIONS = [
  'What stands in the foreground, and which colours does it have?',
  'How many people can be seen?',
  'Which season might it be? Explain how you can tell.',
  'Is there any writing, and if so, what does it say?',
];
const SENTENCES = [
  'A narrow street leads down to the harbour, where three small boats are tied to a wooden pier.',
  'The light falls from the left, so the photograph was probably taken in the late afternoon.',
  'In the background, partly hidden by trees, one can make out the roof of a farmhouse.',
  'Two children in red raincoats are looking at something outside of the frame.',
  "There isn't any text apart from a sign that reads 'Bakery, est. 1924'.",
  'On the table lie a knife, half a loaf of bread, and a blue-and-white checked cloth.',
  'The dog is sitting next to a bicycle; its leash hangs over the handlebar.',
  'It is hard to say exactly, but 12 to 15 birds seem to be resting on the wire.',
];

/** A record for each photograph: one to five questions with answers of one to four sentences, the same every time. */
function makeRecords(files: readonly string[]): LlavaRecord[] {
  return files.map((image, i) => {
    const turns = Array.from({ length: 1 + (i % 5) }, (_, turn) => {
      const answer = Array.from(
        { length: 1 + ((i + turn) % 4) },
        (_, k) => SENTENCES[(3 * i + 5 * turn + k) % SENTENCES.length]!,
      );
      const question = QUESTIONS[(i + turn) % QUESTIONS.length]!;
      return [
        { from: 'human', value: turn === 0 ? `<image>\n${question}` : question },
        { from: 'gpt', value: answer.join(' ') },
      ] as const;
    });
    return { id: i, image, conversations: turns.flat() };
  });
}

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    model: { type: 'string', default: join(packageRoot(), 'test/fixtures/llava/llama3/hf') },
    rounds: { type: 'string', default: '9' },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(flags.rounds);
const tokenizer = await loadTokenizer(flags.model);
const format = createFormat(tokenizer);
const { imageTokenId } = tokenizer;
if (imageTokenId === undefined) throw new Error(`${flags.model} has no image token.`);
const image = { imageTokens: IMAGE_TOKENS, imageTokenId };

function encode(record: LlavaRecord): Int32Array {
  const outcome = encodeJson(record, { format, imageTokens: IMAGE_TOKENS });
  if (outcome.status !== 'sample') throw new Error(`Record ${record.id} is ${outcome.status}.`);
  return expandImages(outcome.sample, image).inputIds;
}

/** A record as a run's workers hand it over, the image as bytes, which are normalised on the device. */
async function load(record: LlavaRecord): Promise<{ ids: Int32Array; pixels: Uint8Array }> {
  const ids = encode(record);
  const { data } = fitImage(await readImage(record.image), { size: SIZE, mode: 'crop' });
  return { ids, pixels: data };
}

const table = normaliseTable();

/** `[3][size][size]` of the bytes `[size][size][3]`, as the peer hands them over. */
function normalise(pixels: Uint8Array): Float32Array {
  const area = SIZE * SIZE;
  const values = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < area; i++) values[c * area + i] = table[256 * c + pixels[3 * i + c]!]!;
  }
  return values;
}

interface Sums {
  readonly ids: string;
  readonly pixels: string;
  /** From Pillow's pixels, in steps of 1/255. */
  readonly distance: number;
}

async function checkSums(records: readonly LlavaRecord[]): Promise<Sums> {
  const hashes = { ids: createHash('sha256'), pixels: createHash('sha256') };
  for (const record of records) {
    const { ids, pixels } = await load(record);
    hashes.ids.update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
    hashes.pixels.update(new Uint8Array(normalise(pixels).buffer));
  }
  return { ids: hashes.ids.digest('hex'), pixels: hashes.pixels.digest('hex'), distance: 0 };
}

/** Records per second of processor time for one pass. */
async function perCore(
  records: readonly LlavaRecord[],
  work: (record: LlavaRecord) => unknown,
): Promise<number> {
  const before = process.cpuUsage();
  for (const record of records) await work(record);
  const { user, system } = process.cpuUsage(before);
  return (records.length * 1e6) / (user + system);
}

/** What the peer writes first. */
interface PeerFacts {
  /** Class of each image processor. */
  readonly processors: Readonly<Record<string, string>>;
}

/** One row of the table, and who takes part in it. */
interface Contest {
  readonly name: string;
  readonly label: string;
  readonly contestants: Readonly<Record<string, () => Promise<number>>>;
}

const scratch = await mkdtemp(join(tmpdir(), 'patina-bench-'));
let peer: PythonPeer | null = null;
try {
  const sets: { name: string; label: string; records: LlavaRecord[] }[] = [];
  for (const { name, label, ...photographs } of SETS) {
    const records = makeRecords(await drawPhotographs(join(scratch, name), photographs));
    const lines = records.map((record) => `${JSON.stringify(record)}\n`);
    await writeFile(join(scratch, `${name}.jsonl`), lines.join(''));
    sets.push({ name, label, records });
  }
  const lists = SETS.map(({ name }) => join(scratch, `${name}.jsonl`));
  const { python } = flags;
  peer = await PythonPeer.start('encode_peer.py', [flags.model, String(SIZE), ...lists], {
    python,
  });
  const ask = async (line: string): Promise<unknown> => JSON.parse((await peer?.ask(line)) ?? '');
  const facts = peer === null ? null : (JSON.parse(peer.facts) as PeerFacts);
  const backends = Object.keys(facts?.processors ?? {});

  let distance = 0;
  for (const [number, { records, label }] of sets.entries()) {
    const mine = await checkSums(records);
    for (const backend of backends) {
      const theirs = (await ask(`check ${number} ${backend}`)) as Sums;
      if (theirs.ids !== mine.ids) throw new Error(`${label}: ids differ from ${backend}'s.`);
      if (backend === 'pil' && theirs.pixels !== mine.pixels)
        throw new Error(`${label}: pixels differ from Pillow's.`);
      distance = Math.max(distance, theirs.distance);
    }
  }

  const contests = sets.map(({ name, label, records }, number): Contest => {
    const peers = backends.map((backend) => {
      const run = () => ask(`record ${number} ${backend}`) as Promise<number>;
      return [facts!.processors[backend]!, run] as const;
    });
    return {
      name,
      label,
      contestants: {
        patina: () => perCore(records, load),
        'patina, normalised': () =>
          perCore(records, async (record) => normalise((await load(record)).pixels)),
        ...Object.fromEntries(peers),
      },
    };
  });
  const { records } = sets[0]!;
  const text = backends.slice(0, 1).map((backend) => {
    return [facts!.processors[backend]!, () => ask('text 0') as Promise<number>] as const;
  });
  contests.push({
    name: 'text',
    label: 'conversations alone',
    contestants: { patina: () => perCore(records, encode), ...Object.fromEntries(text) },
  });

  const rates = contests.map(() => new Map<string, number[]>());
  // Node.js goes on compiling the code of conversations for their first hundreds, and its time counts; a run reads far more.
  const WARMING = 20;
  for (let round = -WARMING; round < rounds; round++) {
    for (const [i, { contestants }] of contests.entries()) {
      for (const [who, run] of Object.entries(contestants)) {
        const rate = await run();
        if (round >= 0) rates[i]!.set(who, [...(rates[i]!.get(who) ?? []), rate]);
      }
    }
  }

  const medians = contests.map(({ name, label }, i) => ({
    name,
    label,
    rates: Object.fromEntries([...rates[i]!].map(([who, values]) => [who, median(values)])),
  }));
  const tokens = records.reduce((sum, record) => sum + encode(record).length, 0) / records.length;
  const result = {
    cpu: cpus()[0]?.model ?? null,
    cores: cpus().length,
    node: process.versions.node,
    sharp: sharp.versions.sharp,
    libvips: sharp.versions.vips,
    peer: facts,
    torchvision_distance: backends.includes('torchvision') ? distance : null,
    rounds,
    size: SIZE,
    tokens_per_record: tokens,
    text_tokens_per_record: tokens - IMAGE_TOKENS,
    per_core: Object.fromEntries(medians.map(({ name, rates }) => [name, rates])),
  };
  const lines = ['records per second and core, median (in brackets: times the peer)'];
  for (const { label, rates } of medians) {
    lines.push(`${label}:`);
    const peers = Object.entries(rates).filter(([who]) => !who.startsWith('patina'));
    for (const [who, rate] of Object.entries(rates)) {
      const ratios = peers.map(([, theirs]) => (rate / theirs).toFixed(2));
      const suffix = who.startsWith('patina') && peers.length > 0 ? `  (${ratios.join(', ')})` : '';
      lines.push(`${rate.toFixed(1).padStart(10)}  ${who}${suffix}`);
    }
  }
  if (facts !== null) lines.push('ids and normalised pixels: the same as with Pillow, to the bit');
  if (backends.includes('torchvision'))
    lines.push(`torchvision's pixels: up to ${distance.toFixed(1)} / 255 from Pillow's`);
  process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : `${lines.join('\n')}\n`);
  if (flags.json) process.stderr.write(`${lines.join('\n')}\n`);
} finally {
  peer?.stop();
  await rm(scratch, { recursive: true });
}
