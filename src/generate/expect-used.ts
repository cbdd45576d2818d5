/** Choices about a model that has made them itself: what would be passed over is an error. */
import { UsageError } from '../base/errors.js';
import { type LlavaChoices, type LlavaConfig, unusedChoices } from '../models/index.js';

/**
 * @param config of the model; undefined for a decoder alone
 * @throws UsageError `E_UNUSED_CHOICE`
 */
export function expectUsed(config: LlavaConfig | undefined, choices: LlavaChoices): void {
  const given = Object.entries(choices).filter(([, value]) => value !== undefined);
  const unused =
    config === undefined
      ? given.map(([name, value]) => `${name} ${value}: the model has no vision tower`)
      : unusedChoices(config, choices).map(
          ({ name, given: value, said }) => `${name} ${value}: the model's own files say ${said}`,
        );
  if (unused.length === 0) return;
  throw new UsageError(`A setting of the model would have no effect. ${unused.join('; ')}.`, {
    code: 'E_UNUSED_CHOICE',
    hint: 'Leave the setting out, or give the value that the model has: it is for parts that do not say it.',
  });
}
