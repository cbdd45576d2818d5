/**
 * Draws the quickstart's pictures, writes its records as LLaVA JSON, and puts its tokenizer beside them:
 *
 *     captions.json    questions.json    heldout.json    unseen.json    pictures/    tokenizer/
 */
import { cp, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { jsonText } from '../../base/json-text.js';
import { packageRoot } from '../../base/native-path.js';
import { writeWholeFolder } from '../../base/whole-folder.js';
import { Random } from '../../data/sampling/random.js';
import { drawScene, SIDE, type Scene } from './draw.js';
import { captions, questions, type QuestionAnswer } from './questions.js';
import { makeScenes } from './scenes.js';

/** A tokenizer like Llama 3's, trained on these texts by make_tokenizer.py. */
const TOKENIZER = 'src/recipes/quickstart/tokenizer';
export const QUICKSTART_VOCABULARY = 400;
export const QUICKSTART_IMAGE_TOKEN = 398;

export interface QuickstartSizes {
  readonly train: number;
  readonly heldOut: number;
  readonly unseen: number;
}

export const SIZES: QuickstartSizes = { train: 2400, heldOut: 120, unseen: 80 };

const SEED = 1;
/** Pictures that are drawn at the same time. */
const AT_ONCE = 64;

/** Whether the folder is there already. */
export async function isPrepared(folder: string): Promise<boolean> {
  return (await stat(join(folder, 'tokenizer', 'tokenizer.json')).catch(() => null)) !== null;
}

/**
 * Makes the folder, whole or not at all.
 *
 * @throws EnvironmentError E_EXISTS, E_DISK_FULL, E_UNWRITABLE
 */
export async function prepareQuickstart(
  folder: string,
  { sizes = SIZES, signal }: { sizes?: QuickstartSizes; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const scenes = makeScenes(sizes, SEED);
  await writeWholeFolder(
    folder,
    async (path) => {
      await mkdir(join(path, 'pictures'));
      const training = await drawAll(path, 'train', scenes.train, signal);
      // In any order: each comes first at times, where only the picture helps.
      const random = new Random(SEED, 'turns');
      const describing = training.map(({ image, scene }) =>
        record(image, random.shuffle(captions(scene))),
      );
      const asking = training.map(({ image, scene }) =>
        record(image, random.shuffle(questions(scene))),
      );
      await writeRecords(join(path, 'captions.json'), describing);
      await writeRecords(join(path, 'questions.json'), asking);
      for (const [name, some] of [
        ['heldout', scenes.heldOut],
        ['unseen', scenes.unseen],
      ] as const) {
        const drawn = await drawAll(path, name, some, signal);
        const records = drawn.map(({ image, scene }) => record(image, questions(scene)));
        await writeRecords(join(path, `${name}.json`), records);
      }
      await cp(join(packageRoot(), TOKENIZER), join(path, 'tokenizer'), { recursive: true });
      await writeProcessor(join(path, 'tokenizer'));
    },
    { what: 'quickstart data', signal },
  );
}

interface Drawn {
  readonly image: string;
  readonly scene: Scene;
}

async function drawAll(
  folder: string,
  name: string,
  scenes: readonly Scene[],
  signal: AbortSignal | undefined,
): Promise<Drawn[]> {
  const drawn: Drawn[] = [];
  for (let at = 0; at < scenes.length; at += AT_ONCE) {
    signal?.throwIfAborted();
    const batch = scenes.slice(at, at + AT_ONCE).map(async (scene, i): Promise<Drawn> => {
      const format = (at + i) % 2 === 0 ? 'png' : 'jpeg';
      const number = String(at + i).padStart(4, '0');
      const image = `pictures/${name}-${number}.${format === 'png' ? 'png' : 'jpg'}`;
      await writeFile(join(folder, image), await drawScene(scene, format));
      return { image, scene };
    });
    drawn.push(...(await Promise.all(batch)));
  }
  return drawn;
}

interface LlavaRecord {
  readonly id: string;
  readonly image: string;
  readonly conversations: readonly { readonly from: 'human' | 'gpt'; readonly value: string }[];
}

function record(image: string, turns: readonly QuestionAnswer[]): LlavaRecord {
  return {
    id: image.replace(/^pictures\/|\.\w+$/g, ''),
    image,
    conversations: turns.flatMap(({ question, answer }, i) => [
      { from: 'human' as const, value: `${i === 0 ? '<image>\n' : ''}${question}` },
      { from: 'gpt' as const, value: answer },
    ]),
  };
}

async function writeRecords(path: string, records: readonly LlavaRecord[]): Promise<void> {
  await writeFile(path, `[\n${records.map((each) => JSON.stringify(each)).join(',\n')}\n]\n`);
}

/** What transformers' processors need to know of the pictures; see `readPictureSettings`. */
async function writeProcessor(folder: string): Promise<void> {
  const processor = {
    crop_size: { height: SIDE, width: SIDE },
    do_center_crop: true,
    do_convert_rgb: true,
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
    // Of the pictures: their dark ground becomes almost 0, and what is drawn stands out.
    image_mean: [0.165, 0.165, 0.165],
    image_processor_type: 'CLIPImageProcessor',
    image_std: [0.22, 0.22, 0.22],
    resample: 3,
    rescale_factor: 1 / 255,
    size: { shortest_edge: SIDE },
  };
  await writeFile(join(folder, 'preprocessor_config.json'), jsonText(processor));
}
