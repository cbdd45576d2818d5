/**
 * A vision-language model from scratch on one page: draws PNG files, reads them back, trains a small vision encoder, projector and
 * text decoder to answer "what shape?" and "what colour?", and answers about files it has never seen.
 *
 *     npm start
 *
 * Dimensions: B pictures, T patches or tokens, D width, H heads.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import {
  attention,
  Embedding,
  gelu,
  Linear,
  Module,
  PatchConv2d,
  RMSNorm,
  silu,
} from '../src/nn/index.js';
import { AdamW, gradientFactor, schedule, squaredNorm } from '../src/optim/index.js';
import {
  arange,
  cat,
  fromTypedArray,
  full,
  Generator,
  grad,
  noGrad,
  scope,
  setThreads,
  stack,
  tensor,
  type Tensor,
} from '../src/torch/index.js';

const SIDE = 32;
const SHAPES = ['circle', 'square', 'triangle'];
const COLOURS = ['red', 'green', 'blue', 'yellow'];
const QUESTIONS = ['shape', 'colour'];
const WORDS = [...QUESTIONS, ...SHAPES, ...COLOURS];

interface Picture {
  readonly file: string;
  readonly shape: string;
  readonly colour: string;
  readonly pixels: Float32Array;
}

/** Draws one picture to disk and reads it back. */
async function picture(folder: string, index: number): Promise<Picture> {
  const shape = SHAPES[index % 3]!;
  const colour = COLOURS[Math.floor(index / 3) % 4]!;
  const random = (salt: number): number =>
    (Math.sin(index * 12.9898 + salt * 78.233) * 43758.5453) % 1;
  const [x, y, r] = [16 + 6 * random(1), 16 + 6 * random(2), 8 + 2 * random(3)];
  const drawn = {
    circle: `<circle cx="${x}" cy="${y}" r="${r}"/>`,
    square: `<rect x="${x - r}" y="${y - r}" width="${2 * r}" height="${2 * r}"/>`,
    triangle: `<path d="M${x} ${y - r} L${x + r} ${y + r} L${x - r} ${y + r} Z"/>`,
  }[shape]!;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE}"><rect width="100%" height="100%" fill="#888"/><g fill="${colour}">${drawn}</g></svg>`;
  const file = join(folder, `${String(index).padStart(3, '0')}.png`);
  await sharp(Buffer.from(svg)).png().toFile(file);
  const bytes = await sharp(file).removeAlpha().raw().toBuffer();
  return { file, shape, colour, pixels: Float32Array.from(bytes, (byte) => byte / 127.5 - 1) };
}

/** Pre-norm transformer block: attention, then a gated MLP. */
class Block extends Module {
  private readonly norm1;
  private readonly norm2;
  private readonly qkv;
  private readonly out;
  private readonly up;
  private readonly down;

  constructor(
    private readonly width: number,
    private readonly causal: boolean,
  ) {
    super();
    this.norm1 = this.addChild('norm1', new RMSNorm(width));
    this.norm2 = this.addChild('norm2', new RMSNorm(width));
    this.qkv = this.addChild('qkv', new Linear(width, 3 * width, { bias: false }));
    this.out = this.addChild('out', new Linear(width, width, { bias: false }));
    this.up = this.addChild('up', new Linear(width, 4 * width, { bias: false }));
    this.down = this.addChild('down', new Linear(2 * width, width, { bias: false }));
  }

  forward(xBTD: Tensor): Tensor {
    const [B, T] = xBTD.shape as [number, number];
    const heads = this.qkv.forward(this.norm1.forward(xBTD)).view([B, T, 3, 4, this.width / 4]);
    const [q, k, v] = heads.unbind(2) as [Tensor, Tensor, Tensor];
    const yBTHD = attention(q, k, v, { kernel: 'cpu', causal: this.causal });
    const x2BTD = xBTD.add(this.out.forward(yBTHD.reshape([B, T, this.width])));
    const [a, b] = this.up.forward(this.norm2.forward(x2BTD)).chunk(2, -1) as [Tensor, Tensor];
    return x2BTD.add(this.down.forward(silu(a).mul(b)));
  }
}

/** Vision encoder, projector, decoder over [patches, question word]; the answer is the word after. */
class TinyLlava extends Module {
  private readonly patches = this.addChild('patches', new PatchConv2d(3, 48, 8));
  private readonly places = this.addChild('places', new Embedding(16, 48));
  private readonly vision = this.addChild('vision', new Block(48, false));
  private readonly projector1 = this.addChild('projector.0', new Linear(48, 64));
  private readonly projector2 = this.addChild('projector.2', new Linear(64, 64));
  private readonly words = this.addChild('words', new Embedding(WORDS.length, 64));
  private readonly decoder = this.addChild('decoder', new Block(64, true));
  private readonly norm = this.addChild('norm', new RMSNorm(64));
  private readonly head = this.addChild('head', new Linear(64, WORDS.length, { bias: false }));

  /** Logits of the answer, [B, words]. */
  forward(pixels: Tensor, questions: Tensor): Tensor {
    const seen = this.patches
      .forward(pixels)
      .add(this.places.forward(arange(0, 16, 1, { dtype: 'int64' })));
    const features = this.projector2.forward(
      gelu(this.projector1.forward(this.vision.forward(seen))),
    );
    const x = cat([features, this.words.forward(questions).unsqueeze(1)], 1);
    return this.head.forward(this.norm.forward(this.decoder.forward(x).select(1, -1)));
  }
}

/** Pixels, questions and answers of some pictures; each is asked the question that `questionOf` gives its place. */
function batch(
  pictures: readonly Picture[],
  questionOf: (place: number) => number,
): [Tensor, Tensor, Tensor] {
  const pixels = stack(
    pictures.map((p) => fromTypedArray(p.pixels, [SIDE, SIDE, 3]).permute([2, 0, 1])),
  );
  const questions = pictures.map((_, i) => questionOf(i));
  const answers = pictures.map((p, i) => WORDS.indexOf(questions[i] === 0 ? p.shape : p.colour));
  const integers = { dtype: 'int64' } as const;
  return [pixels, tensor(questions, integers), tensor(answers, integers)];
}

async function main(): Promise<void> {
  setThreads(1);
  const folder = join('runs', 'shapes');
  mkdirSync(folder, { recursive: true });
  const pictures = await Promise.all(Array.from({ length: 960 }, (_, i) => picture(folder, i)));
  const [training, heldOut] = [pictures.slice(0, 924), pictures.slice(924)];
  console.log(`drew ${pictures.length} PNG files to ${folder}; ${heldOut.length} are held out`);

  const model = new TinyLlava();
  const generator = Generator.create(1);
  model.initialize('cpu', { generator, std: 0.05 });
  const parameters = model.namedParameters();
  for (const parameter of parameters.values()) parameter.requiresGrad_();
  const optimizer = new AdamW([{ name: 'all', parameters, learningRate: 3e-3 }]);
  const updates = 280;
  const rate = schedule({ updates, warmup: 10 });
  const one = full([], 1, { dtype: 'float32' });

  for (let update = 0; update < updates; update++) {
    scope(() => {
      const start = (update * 33) % training.length;
      const [pixels, questions, answers] = batch(
        training.slice(start, start + 33),
        (i) => (i + Math.floor(update / 28)) % 2,
      );
      const loss = model.forward(pixels, questions).crossEntropyLoss(answers);
      const gradients = grad([loss], [...parameters.values()]);
      const named = new Map([...parameters.keys()].map((name, i) => [name, gradients[i]!]));
      const { divisor, foundInf } = gradientFactor(
        squaredNorm([...named.values()], one),
        one,
        one,
        1,
      );
      optimizer.update({ gradients: named, rate: rate(update), divisor, foundInf });
      if (update % 20 === 0 || update === updates - 1) {
        const value = loss.item();
        console.log(
          `update ${String(update).padStart(3)}  loss ${value.toFixed(4)}  ${'#'.repeat(Math.round(value * 20))}`,
        );
      }
    });
  }

  let right = 0;
  QUESTIONS.forEach((question, q) => {
    noGrad(() =>
      scope(() => {
        const [pixels, questions, answers] = batch(heldOut, () => q);
        const given = model.forward(pixels, questions).argmax(-1).toArray() as number[];
        (answers.toArray() as number[]).forEach((answer, i) => {
          right += answer === given[i] ? 1 : 0;
          if (i < 4) console.log(`${heldOut[i]!.file}: ${question}? ${WORDS[given[i]!]!}`);
        });
      }),
    );
  });
  console.log(`${right} of ${2 * heldOut.length} held-out answers are right`);
}

await main();
