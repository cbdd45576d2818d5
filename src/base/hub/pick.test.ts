import { describe, expect, test } from 'vitest';

import { isWeights, matchFiles, pickFiles } from './pick.js';

const LLAMA = [
  '.gitattributes',
  'LICENSE',
  'README.md',
  'USE_POLICY.md',
  'config.json',
  'generation_config.json',
  'model-00001-of-00002.safetensors',
  'model-00002-of-00002.safetensors',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
];

describe('pickFiles', () => {
  test('takes safetensors before .bin and leaves original/, Flax and TensorFlow', () => {
    const surplus = [
      'original/consolidated.00.pth',
      'original/params.json',
      'pytorch_model-00001-of-00002.bin',
      'pytorch_model-00002-of-00002.bin',
      'pytorch_model.bin.index.json',
      'flax_model.msgpack',
      'tf_model.h5',
      'onnx/model.onnx',
      'onnx/config.json',
      'model.gguf',
      'training_args.bin',
      'checkpoint-500/model.safetensors',
      'consolidated.safetensors',
      'demo.mp4',
      'modeling_custom.py',
    ];
    expect(pickFiles([...surplus, ...LLAMA], 'model')).toEqual(LLAMA.slice(1));
  });

  test('takes .bin where there is nothing else (the CLIP of OpenAI)', () => {
    const clip = [
      'config.json',
      'flax_model.msgpack',
      'merges.txt',
      'preprocessor_config.json',
      'pytorch_model.bin',
      'tf_model.h5',
      'vocab.json',
    ];
    expect(pickFiles(clip, 'model')).toEqual(clip.filter((path) => !/msgpack|h5/.test(path)));
  });

  test('decides per folder and keeps pickled weights without a twin', () => {
    const xtuner = [
      'adapter_config.json',
      'adapter_model.bin',
      'adapter_model.safetensors',
      'non_lora_trainables.bin',
      'mm_projector.bin',
      'projector/config.json',
      'projector/model.safetensors',
      'projector/pytorch_model.bin',
      'visual_encoder_adapter/adapter_model.bin',
      'iter_2181.pth',
    ];
    expect(pickFiles(xtuner, 'model')).toEqual(
      xtuner.filter((p) => p !== 'adapter_model.bin' && p !== 'projector/pytorch_model.bin'),
    );
  });

  test('takes tables and pictures of a dataset, no archives and no code', () => {
    const dataset = ['README.md', 'data/train-00000.parquet', 'a.json', 'i/1.JPG', 'i.zip', 'x.py'];
    expect(pickFiles(dataset, 'dataset')).toEqual(dataset.slice(0, 4));
  });
});

test('matchFiles: * stays in a folder, ** crosses folders, the rest is literal', () => {
  const paths = ['a.json', 'b/a.json', 'b/c/a.json', 'axjson'];
  expect(matchFiles(paths, ['*.json'])).toEqual(['a.json']);
  expect(matchFiles(paths, ['**/a.json'])).toEqual(['a.json', 'b/a.json', 'b/c/a.json']);
  expect(matchFiles(paths, ['b/**'])).toEqual(['b/a.json', 'b/c/a.json']);
  expect(matchFiles(paths, ['?/a.json', 'ax*'])).toEqual(['b/a.json', 'axjson']);
});

test('isWeights tells weights and indices from the rest', () => {
  const paths = [
    'model.safetensors',
    'pytorch_model.bin',
    'x.safetensors.index.json',
    'config.json',
  ];
  expect(paths.map(isWeights)).toEqual([true, true, true, false]);
});
