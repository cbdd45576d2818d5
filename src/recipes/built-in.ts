/** The recipes that come with Patina, by name. */
import type { RecipeInput } from '../config/define-recipe.js';
import { llama3Full, llama3Lora } from './llama-3-text.js';
import { llava15Finetune, llava15Lora, llava15Pretrain } from './llava-1.5.js';
import {
  llavaLlama3Finetune,
  llavaLlama3FinetuneFrozen,
  llavaLlama3FinetuneInternvl,
  llavaLlama3Lora,
  llavaLlama3Pretrain,
  llavaLlama3PretrainSharegpt4v,
  llavaLlama3Qlora,
} from './llava-llama-3.js';
import { llavaQwen } from './llava-qwen.js';
import { quickstart, quickstartQuestions } from './quickstart/recipes.js';

export const recipes: Readonly<Record<string, RecipeInput>> = Object.fromEntries(
  [
    quickstart,
    quickstartQuestions,
    llavaLlama3Pretrain,
    llavaLlama3Finetune,
    llavaLlama3FinetuneFrozen,
    llavaLlama3Lora,
    llavaLlama3Qlora,
    llavaLlama3PretrainSharegpt4v,
    llavaLlama3FinetuneInternvl,
    llava15Pretrain,
    llava15Finetune,
    llava15Lora,
    ...llavaQwen,
    llama3Lora,
    llama3Full,
  ].map((recipe) => [recipe.name, recipe]),
);
