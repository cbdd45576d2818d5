/** What can be said of an export before a file is read: choices that its layout has no use for, and its place. */
import { UsageError } from '../../base/errors.js';
import { checkTarget } from './check-target.js';
import type { ExportLayout, ExportOptions } from './export-options.js';

type Choices = Pick<
  ExportOptions,
  'merge' | 'quantise' | 'ggufType' | 'check' | 'dtype' | 'shardBytes' | 'replace'
>;

/**
 * @throws UsageError `E_LAYOUT_LIMIT` for a choice that the layout has no use for, `E_REPLACE`; EnvironmentError `E_EXISTS`,
 *   `E_UNWRITABLE`
 */
export async function checkExport(
  layout: ExportLayout,
  folder: string,
  { merge, quantise, ggufType, check, dtype, shardBytes, replace = false }: Choices,
): Promise<void> {
  if (quantise !== undefined && layout !== 'hf') {
    throw useless(
      `Matrices in NF4 are what transformers reads, not what ${layout} holds.`,
      'Use --to hf, or leave out --quantise.',
    );
  }
  if (layout === 'gguf') {
    const option = dtype !== undefined ? '--dtype' : shardBytes !== undefined ? '--shard-gb' : null;
    if (option !== null) {
      const hint = 'Leave it out; --type says f16, bf16, q8_0 or q4_0.';
      throw useless(`GGUF files have no ${option}.`, hint);
    }
  } else {
    const option = ggufType !== undefined ? '--type' : check === true ? '--check' : null;
    if (option !== null) {
      throw useless(
        `${option} is of GGUF files, and ${layout} has none.`,
        'Use it with --to gguf.',
      );
    }
  }
  if (layout === 'peft' && merge === true) {
    throw useless(
      'PEFT keeps adapters as they are, and --merge folds them into a whole model.',
      'Leave it out, or use --to hf.',
    );
  }
  await checkTarget(folder, replace);
}

function useless(message: string, hint: string): UsageError {
  return new UsageError(message, { code: 'E_LAYOUT_LIMIT', hint });
}
