/** A recipe as it is written, made from src/config/schema: what has a default may be left out. */

export interface RecipeInput {
  /** For editors; Patina does not read it. */
  $schema?: string | undefined;
  /** Name of the recipe; begins the name of its runs. */
  name: string;
  /** What it is for and where its numbers come from. */
  description?: string | undefined;
  /** What the run starts from. */
  model: ModelInput;
  /** Which parts learn: each is frozen, full, or LoRA. */
  train?: TrainInput | undefined;
  /** What is learnt from. */
  data: DataInput;
  /** How conversations become tokens. */
  text?: TextInput | undefined;
  /** How pictures become pixels. */
  image?: ImageInput | undefined;
  /** Number types. */
  precision?: PrecisionInput | undefined;
  /** AdamW. */
  optimizer: OptimizerInput;
  /** Length of the run and course of the learning rate, in updates. */
  schedule?: ScheduleInput | undefined;
  /**
   * Records in a micro-batch on each device: 1 if left out, unless `batchTokens` stands in its
   * place.
   */
  batchSize?: number | undefined;
  /**
   * In place of `batchSize`: tokens in a micro-batch on each device, at most, image tokens
   * included. The records of an update (`effectiveBatch`) are packed into as few as hold them;
   * longer ones are `text.overlong`.
   */
  batchTokens?: number | undefined;
  /** Pictures in a micro-batch, at most, beside `batchTokens`. No limit if left out. */
  batchImages?: number | undefined;
  /** Micro-batches in an update. Follows from `effectiveBatch` if that is given, else 1. */
  accumulate?: number | undefined;
  /** Records in an update over all devices, which the learning rate is meant for. */
  effectiveBatch?: number | undefined;
  /**
   * What happens to learning rates when a run has another batch than `effectiveBatch`:
   * nothing, or they follow the ratio or its square root. Always said at the start.
   * @default "keep"
   */
  learningRateRule?: 'keep' | 'linear' | 'sqrt' | undefined;
  /** What is kept for the backward pass. */
  memory?: MemoryInput | undefined;
  /** What several processes, one for each GPU, share out. */
  parallel?: ParallelInput | undefined;
  /** Loss on data that is not learnt from, and scores of benchmarks. */
  validation?: ValidationInput | undefined;
  /** Questions that the model answers while it learns. */
  probes?: ProbesInput | undefined;
  /** What is done about updates that go wrong. */
  guard?: GuardInput | undefined;
  /** When to save, and what to keep. */
  checkpoints?: CheckpointsInput | undefined;
  /** Where the run is kept. */
  run?: RunInput | undefined;
  /**
   * Every random number of the run follows from it.
   * @default 0
   */
  seed?: number | undefined;
  /**
   * `auto` takes a GPU if there is one.
   * @default "auto"
   */
  device?: string | undefined;
  /** Threads for computing on the CPU. libtorch decides if left out. */
  threads?: number | undefined;
}

export interface ModelInput {
  /**
   * A whole model: a folder or a name on the hub in the Hugging Face, official LLaVA or XTuner
   * layout, or a language model alone. What it lacks comes from the parts below.
   */
  from?: string | undefined;
  /** The language model with its tokenizer, when a LLaVA is put together from parts. */
  llm?: string | undefined;
  /** The CLIP or SigLIP vision tower with its image processor, when put together from parts. */
  vision?: string | undefined;
  /**
   * Weights of a trained projector: a folder or a file, for example of a pre-training run. It
   * takes the place of the one that the model has. Where there is none, a new projector is
   * drawn from the seed.
   */
  projector?: string | undefined;
  /** A PEFT adapter to go on training, or to fold in where the decoder trains fully. */
  adapter?: string | undefined;
  /** A folder with a tokenizer to use in place of the model's own. */
  tokenizer?: string | undefined;
  /**
   * A new model with random weights: what would stand in Hugging Face's config.json. Needs
   * `tokenizer`, excludes the fields above.
   */
  config?: Record<string, unknown> | undefined;
  /** Linear layers of a new projector; GELU between them. The model says it, else 2. */
  projectorDepth?: number | undefined;
  /**
   * Which hidden state of the vision tower is projected; negative counts from the end. The
   * model says it, else -2.
   */
  featureLayer?: number | undefined;
  /**
   * All that the tower gives (`full`), or all but the first (`default`), which is the class
   * token of CLIP; SigLIP has none. The model says it, else the patches.
   */
  featureSelect?: 'default' | 'full' | undefined;
}

export interface TrainInput {
  /**
   * The vision tower.
   * @default "frozen"
   */
  vision?: PartInput | undefined;
  /**
   * The projector.
   * @default "full"
   */
  projector?:
    | 'frozen'
    | 'full'
    | {
        /** A low-rank adapter; the weights stay frozen. */
        lora: LoraInput;
      }
    | undefined;
  /**
   * The language model, with embeddings and head where it trains fully.
   * @default {"lora":{}}
   */
  decoder?: PartInput | undefined;
}

export type PartInput =
  | 'frozen'
  | 'full'
  | {
      /** A low-rank adapter; the weights stay frozen. */
      lora?: LoraInput | undefined;
      /**
       * Form of the frozen weights: `nf4` keeps the matrices of its blocks in 4-bit NormalFloat
       * (QLoRA, arXiv 2305.14314), as bitsandbytes does; `fp8` keeps them in 8 bits, a scale for
       * each row, and multiplies in 8 bits, on GPUs from Ada and Hopper on. As they are stored, or
       * as the checkpoint that the run starts from was trained, if left out.
       */
      base?: 'nf4' | 'fp8' | undefined;
      /**
       * With `nf4`: keep its scales in 8 bits too (bnb_4bit_use_double_quant), 0.37 bits a weight
       * less.
       * @default false
       */
      doubleQuantised?: boolean | undefined;
    };

export interface LoraInput {
  /**
   * Rank r of the update B A.
   * @default 16
   */
  rank?: number | undefined;
  /**
   * Scale: the update is multiplied by alpha / rank (rank-stabilised: alpha / sqrt(rank)).
   * @default 32
   */
  alpha?: number | undefined;
  /**
   * Dropout on the input of A.
   * @default 0
   */
  dropout?: number | undefined;
  /**
   * Which linear layers: `all-linear` is all of the part but the head; else patterns over
   * module names (`*` for anything), such as `*.q_proj`. One that matches nothing is an error.
   * @default "all-linear"
   */
  targets?: 'all-linear' | string[] | undefined;
  /**
   * Rank-stabilised scale (Kalajdzievski 2023, arXiv 2312.03732).
   * @default false
   */
  rslora?: boolean | undefined;
  /**
   * Weight-decomposed adaptation: magnitudes train apart (Liu et al. 2024, arXiv 2402.09353).
   * @default false
   */
  dora?: boolean | undefined;
  /**
   * Learning rate of B over that of A: LoRA+ (Hayou et al. 2024, arXiv 2402.12354).
   * @default 1
   */
  loraPlusRatio?: number | undefined;
  /**
   * Patterns of modules of this part that train fully beside the adapter, such as `lm_head`.
   * @default []
   */
  modulesToSave?: string[] | undefined;
}

export interface SourceInput {
  /**
   * A JSON, JSONL or Parquet file, a folder of Parquet files, or a dataset on the hub. LLaVA
   * records (`conversations`) and OpenAI messages (`messages`) are told apart by their keys.
   */
  path: string;
  /** Folder that the records' image paths start from. The folder of `path` if left out. */
  images?: string | undefined;
  /** Patterns of the files to take from a dataset on the hub (`*` in a folder, `**` across). */
  files?: string[] | undefined;
  /** Where the data can be had, in words; said where `path` or `images` is missing. */
  origin?: string | undefined;
  /**
   * Passes over this source in an epoch; 0.5 takes a random half, drawn anew each epoch.
   * @default 1
   */
  weight?: number | undefined;
  /** Take only so many records, the first ones. */
  limit?: number | undefined;
}

export interface DataInput {
  /** One or several sources; a text in place of an object is its path. */
  sources: (string | SourceInput)[];
  /**
   * Draw a new order for each epoch from the seed.
   * @default true
   */
  shuffle?: boolean | undefined;
  /**
   * Put records of like length into a batch (`length`), and never those with and without
   * images together (`modality`).
   * @default "none"
   */
  grouping?: 'none' | 'length' | 'modality' | undefined;
  /**
   * Threads that read and encode; 0 uses the main thread. Changes no result.
   * @default "auto"
   */
  workers?: 'auto' | number | undefined;
  /**
   * At a record that cannot be used: stop, or count it, list it in the run and go on.
   * @default "stop"
   */
  badRecords?: 'stop' | 'skip' | undefined;
  /** Take only so many records of all sources together. */
  limit?: number | undefined;
}

export interface TextInput {
  /**
   * `auto` for the model's own chat template; `llama3_chat`, `qwen_chat` or `vicuna` for
   * XTuner's; else a Jinja file.
   * @default "auto"
   */
  template?: string | undefined;
  /** System message for records that bring none. */
  system?: string | undefined;
  /**
   * Tokens of a sequence, image tokens included (XTuner's limit counts an image as one).
   * @default 2048
   */
  maxLength?: number | undefined;
  /**
   * At a longer record: cut its text (never an image), leave it out, or stop.
   * @default "truncate"
   */
  overlong?: 'truncate' | 'skip' | 'stop' | undefined;
  /**
   * Whether a special token spelled out inside a message stays text or becomes that token.
   * @default "text"
   */
  specialTokens?: 'text' | 'parse' | undefined;
}

export interface ImageInput {
  /**
   * Pad to a square with the mean colour, crop the centre, or squeeze: resize both sides, as
   * SigLIP does. Left out: padded over CLIP; over others as a checkpoint was trained, else as
   * the model's own image processor does.
   */
  mode?: 'pad' | 'crop' | 'squeeze' | undefined;
  /**
   * Apply the camera's orientation, or read pixels as they are stored, like XTuner.
   * @default "turned"
   */
  reading?: 'turned' | 'stored' | undefined;
}

export interface PrecisionInput {
  /**
   * Type of activations and of frozen weights. A device without bf16 falls back, and the
   * reason is shown.
   * @default "bf16"
   */
  compute?: 'bf16' | 'fp16' | 'fp32' | undefined;
  /**
   * Type in which trained weights are kept; `bf16` rounds stochastically.
   * @default "fp32"
   */
  master?: 'fp32' | 'bf16' | undefined;
  /**
   * Type of Adam's two moments; `int8` keeps them as bitsandbytes' 8-bit AdamW does, but for
   * embeddings and tensors below 4,096 elements, whose stay fp32.
   * @default "fp32"
   */
  states?: 'fp32' | 'bf16' | 'int8' | undefined;
  /** Dynamic loss scaling, with `fp16` only. */
  lossScale?: LossScaleInput | undefined;
}

export interface LossScaleInput {
  /**
   * Scale at the first update.
   * @default 65536
   */
  initial?: number | undefined;
  /**
   * Updates without overflow after which the scale doubles.
   * @default 1000
   */
  window?: number | undefined;
  /**
   * Overflows after which the scale halves.
   * @default 2
   */
  hysteresis?: number | undefined;
  /**
   * The scale never falls below this.
   * @default 1
   */
  minimum?: number | undefined;
}

export interface ParameterGroupInput {
  /**
   * Pattern over parameter names (`*` for anything), such as `vision_tower.*`. The first group
   * that matches holds; one that matches nothing is an error.
   */
  parameters: string;
  /** In place of the optimizer's. */
  learningRate?: number | undefined;
  /** In place of the optimizer's. */
  weightDecay?: number | undefined;
}

export interface OptimizerInput {
  /** Peak learning rate of AdamW. */
  learningRate: number;
  /**
   * Decay of the first and second moment.
   * @default [0.9,0.999]
   */
  betas?: [number, number] | undefined;
  /**
   * Added to the root of the second moment.
   * @default 1e-8
   */
  epsilon?: number | undefined;
  /**
   * Decoupled weight decay.
   * @default 0
   */
  weightDecay?: number | undefined;
  /**
   * Whether weight decay also applies to biases and to the weights of norms.
   * @default false
   */
  decayNormsAndBiases?: boolean | undefined;
  /**
   * Other learning rates and decays for some parameters.
   * @default []
   */
  groups?: ParameterGroupInput[] | undefined;
  /**
   * Largest norm of all gradients together; null does not clip, `adaptive` clips what is out
   * of the ordinary for the run.
   * @default 1
   */
  clipNorm?: number | 'adaptive' | null | undefined;
  /**
   * Update each part as soon as its gradient is there, so that gradients never exist all at
   * once. Excludes accumulation, clipping by the global norm and fp16.
   * @default false
   */
  updateInBackward?: boolean | undefined;
}

export interface ScheduleInput {
  /**
   * Passes over the data.
   * @default 1
   */
  epochs?: number | undefined;
  /** Length of the run in updates; wins over `epochs`. */
  updates?: number | undefined;
  /**
   * How the learning rate falls after the warm-up.
   * @default "cosine"
   */
  decay?: 'cosine' | 'linear' | 'constant' | undefined;
  /**
   * Share of the updates over which the learning rate rises linearly from 0.
   * @default 0.03
   */
  warmupRatio?: number | undefined;
  /** Length of the warm-up in updates; wins over `warmupRatio`. */
  warmupUpdates?: number | undefined;
  /**
   * Learning rate at the end, as a share of the peak.
   * @default 0
   */
  finalRatio?: number | undefined;
}

export interface MemoryInput {
  /**
   * What a block leaves for its backward pass beside its input: everything, the results of
   * products, that of attention, nothing, or nothing with the input in pinned host memory. One
   * for all parts of the model, or one for each; a part that is left out recomputes. The
   * levels between are for decoder blocks: under them everything else recomputes.
   * @default "recompute"
   */
  policy?:
    | 'keep'
    | 'products'
    | 'attention'
    | 'recompute'
    | 'offload'
    | {
        /** Of the vision tower. */
        vision?: 'keep' | 'recompute' | 'offload' | undefined;
        /** Of the projector. */
        projector?: 'keep' | 'recompute' | 'offload' | undefined;
        /** Of the embeddings and the decoder. */
        decoder?: 'keep' | 'products' | 'attention' | 'recompute' | 'offload' | undefined;
      }
    | undefined;
  /**
   * Blocks that keep more than the policy says, counted from the top: a number for the
   * decoder, or one for each part.
   * @default 0
   */
  keepBlocks?:
    | number
    | {
        /** Of the vision tower. */
        vision?: number | undefined;
        /** Of the decoder: a number that keep everything, or one for each level. */
        decoder?: number | BlocksOfLevelsInput | undefined;
      }
    | undefined;
  /** GiB of a device that a process may allocate, where others need the rest. All if left out. */
  limit?: number | undefined;
  /**
   * Supervised tokens for which logits are held at the same time.
   * @default 1024
   */
  lossChunk?: number | undefined;
}

export interface BlocksOfLevelsInput {
  /** The last blocks, which keep everything. */
  keep?: number | undefined;
  /** The blocks before those. */
  products?: number | undefined;
  /** The blocks before those. */
  attention?: number | undefined;
}

export interface ParallelInput {
  /**
   * What each process keeps a share of alone (ZeRO): nothing (0), optimizer states (1),
   * gradients too (2), weights too (3).
   * @default 0
   */
  zero?: 0 | 1 | 2 | 3 | undefined;
  /**
   * Number of neighbouring processes that make a whole of their shares, such as those of one
   * machine. All if left out.
   */
  shardOver?: number | undefined;
  /**
   * What lies in host memory: optimizer states, with which the CPU updates, or with `zero` 3
   * the weights too.
   * @default "none"
   */
  offload?: 'none' | 'optimizer' | 'parameters' | undefined;
  /**
   * Type in which gradients are summed over processes. fp32 if left out and master weights are
   * fp32, else bf16.
   */
  reduction?: 'fp32' | 'bf16' | undefined;
  /**
   * Whether weights that were gathered for the forward pass are freed until the backward pass,
   * with `zero` 3.
   * @default true
   */
  reshardAfterForward?: boolean | undefined;
}

export interface ValidationInput {
  /** Share of the training data held out, chosen by the seed. */
  fraction?: number | undefined;
  /** Data of its own, in place of `fraction`. */
  sources?: (string | SourceInput)[] | undefined;
  /**
   * Benchmarks that are asked at each validation, and before the first update: curves over
   * training.
   * @default []
   */
  tasks?: ValidationTaskInput[] | undefined;
  /**
   * Name of one of `tasks`, whose score counts in place of the loss: for the best checkpoint
   * and for `patience`.
   */
  best?: string | undefined;
  /**
   * Updates between two validations; there is one at the end.
   * @default 500
   */
  everyUpdates?: number | undefined;
  /** Use only so many records. */
  limit?: number | undefined;
  /** Stop early after so many validations in a row without a lower loss. */
  patience?: number | undefined;
  /**
   * How much lower the loss, or higher the score, must be to count.
   * @default 0
   */
  minimumImprovement?: number | undefined;
}

export interface ValidationTaskInput {
  /** What is asked, as `patina eval` names it: `pope`, `mme`, `exact`, ... */
  task: string;
  /** Name of its curve; that of the task if left out. */
  name?: string | undefined;
  /** File of the questions with their answers. */
  data: string;
  /** Folder of the pictures. That of `data` if left out. */
  images?: string | undefined;
  /** By whose rules it is asked and scored; the first of the task if left out. */
  harness?: string | undefined;
  /** Ask only so many questions, the first ones. */
  limit?: number | undefined;
  /**
   * Most questions that are answered at once, on each device.
   * @default 16
   */
  rows?: number | undefined;
  /** What is said before each question. As in training if left out. */
  system?: string | undefined;
}

export interface ProbesInput {
  /**
   * Asked before the first update, at intervals and at the end; the answers are kept.
   * @default []
   */
  questions?: QuestionInput[] | undefined;
  /**
   * Updates between two rounds.
   * @default 500
   */
  everyUpdates?: number | undefined;
  /**
   * Longest answer.
   * @default 64
   */
  maxNewTokens?: number | undefined;
}

export interface QuestionInput {
  /** The question. */
  text: string;
  /**
   * Paths of the pictures it is about.
   * @default []
   */
  images?: string[] | undefined;
}

export interface GuardInput {
  /**
   * How far a run goes to get past an update whose gradient is not finite: it stops with a
   * report; or the update is left out; or the one record that spoils it is left out from then
   * on and the rest of the update trained on; or, where no record is at fault, weights and
   * optimizer go back to the last snapshot and the data go on behind the update. Each does
   * what those before it do first.
   * @default "quarantine"
   */
  onBadUpdate?: 'stop' | 'leave-out' | 'quarantine' | 'roll-back' | undefined;
  /**
   * Bad updates, over the whole run, that are answered so; the next one stops the run.
   * @default 20
   */
  budget?: number | undefined;
  /**
   * Updates between two snapshots of weights and optimizer in host memory, to roll back to.
   * The newest checkpoint if left out.
   */
  snapshotEvery?: number | undefined;
  /**
   * Records that are left out of their updates from the beginning.
   * @default []
   */
  quarantine?: QuarantinedInput[] | undefined;
}

export interface QuarantinedInput {
  /** The file. */
  source: string;
  /** The line on which it begins; in files without lines its number, from 1. */
  line: number;
  /**
   * Its number in the file, from 1: for files with several records on one line. All that begin
   * on the line if left out.
   */
  record?: number | undefined;
}

export interface CheckpointsInput {
  /**
   * Updates between two checkpoints; there is one at the end.
   * @default 500
   */
  everyUpdates?: number | undefined;
  /**
   * Whether training goes on while one is written, from a copy in host memory.
   * @default true
   */
  background?: boolean | undefined;
  /**
   * How many of the newest are kept.
   * @default 2
   */
  keep?: number | undefined;
  /**
   * Whether the one with the lowest validation loss, or highest score of `validation.best`, is
   * kept besides.
   * @default true
   */
  keepBest?: boolean | undefined;
}

export interface RunInput {
  /**
   * Folder in which the folder of the run is made.
   * @default "runs"
   */
  root?: string | undefined;
  /** Name of the run's folder; recipe, date and time if left out. */
  name?: string | undefined;
  /**
   * Write TensorBoard events beside the JSON lines.
   * @default true
   */
  tensorboard?: boolean | undefined;
}
