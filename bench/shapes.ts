/** Shapes of LLaVA that the GPU benches share with their peers, or smaller ones of their kind to try the benches on a CPU. */
import {
  IGNORED_LABEL,
  type InputFacts,
  type LlavaConfig,
  readLlavaConfig,
  type Sample,
} from '../src/models/index.js';
import { scattered } from '../src/plan/noise.js';
import { quickstart } from '../src/recipes/quickstart/recipes.js';

export const IMAGE_TOKEN = 128257;

interface ShapeOptions {
  /** Of the decoder. @default 32 */
  layers?: number;
  /** Width of the decoder; less than the default also gives a tower of three layers. @default 4096 */
  hidden?: number;
}

/** LLaVA-Llama-3-8B. */
export const llava8b = (options?: ShapeOptions): LlavaConfig => read(llava8bJson(options));

/** Its `config.json`. */
export function llava8bJson({ layers = 32, hidden = 4096 }: ShapeOptions = {}): LlavaJson {
  return llava(hidden, IMAGE_TOKEN, {
    vocab_size: 128320,
    intermediate_size: 3.5 * hidden,
    num_hidden_layers: layers,
    num_key_value_heads: hidden / 512,
    rope_theta: 500000,
    max_position_embeddings: 8192,
  });
}

/** The quickstart's model with a decoder of other widths. */
export function wideQuickstart(options: ShapeOptions): Record<string, unknown> {
  const { config } = quickstart.model as { config: { text_config: { vocab_size: number } } };
  const { vocab_size } = config.text_config;
  const { text_config } = llava8bJson(options);
  return { ...config, text_config: { ...text_config, vocab_size, tie_word_embeddings: false } };
}

/** LLaVA-1.5 with Vicuna-7B: as many heads for keys as for queries. */
export function llava15({ layers = 32, hidden = 4096 }: ShapeOptions = {}): LlavaConfig {
  return read(
    llava(hidden, 32000, {
      vocab_size: 32064,
      intermediate_size: 2.6875 * hidden,
      num_hidden_layers: layers,
      num_key_value_heads: hidden / 128,
      rope_theta: 10000,
      max_position_embeddings: 4096,
    }),
  );
}

type LlavaJson = ReturnType<typeof llava>;

const read = (json: LlavaJson): LlavaConfig => readLlavaConfig({ file: 'bench', json });

function llava(hidden: number, imageToken: number, text: Record<string, number>) {
  return {
    model_type: 'llava',
    image_token_index: imageToken,
    vision_feature_layer: -2,
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: hidden < 4096 ? 3 : 24,
      num_attention_heads: 16,
      image_size: 336,
      patch_size: 14,
    },
    text_config: {
      model_type: 'llama',
      hidden_size: hidden,
      num_attention_heads: hidden / 128,
      rms_norm_eps: 1e-5,
      ...text,
    },
  };
}

/** Where a picture begins. */
const BEFORE = 5;

interface SampleOptions {
  readonly seed: number;
  /** All of them, those of the picture included. */
  readonly tokens: number;
  /** Labels from the first that are ignored beside those before the picture's end. @default 19 */
  readonly question?: number;
}

/** As the peers': a picture (if the model takes any) from position 5 on, random text, labels of the picture and a question ignored. */
export function sample(
  { vocabSize, image }: InputFacts,
  { seed, tokens, question = 19 }: SampleOptions,
): Sample {
  const end = image === null ? 0 : BEFORE + image.tokens;
  const words = Math.floor(vocabSize / 1000) * 1000;
  const ids = Array.from({ length: tokens }, (_, i) =>
    i >= BEFORE && i < end ? image!.tokenId : ((scattered(i) + seed * 97) >>> 0) % words,
  );
  return {
    inputIds: ids,
    labels: ids.map((id, i) => (i < end + question ? IGNORED_LABEL : id)),
    images: image === null ? [] : [picture(image.size, seed)],
  };
}

const pictures = new Map<string, Float32Array>();

function picture(size: number, seed: number): Float32Array {
  const key = `${size}/${seed}`;
  const found = pictures.get(key);
  if (found !== undefined) return found;
  const drawn = Float32Array.from({ length: 3 * size * size }, (_, i) => Math.sin(i + seed));
  pictures.set(key, drawn);
  return drawn;
}
