/** The room of text: tokenizers, chat formats and templates, streams of tokens. */

export * from './chat-format.js';
export * from './format.js';
export * from './gguf-vocabulary.js';
export * from './chatml-template.js';
export * from './llama3-template.js';
export * from './load-tokenizer.js';
export * from './message.js';
export * from './ollama-template.js';
export * from './span-encoder.js';
export * from './template-source.js';
export * from './token-stream.js';
export * from './tokenizer.js';
export * from './turns.js';
export * from './xtuner-format.js';
