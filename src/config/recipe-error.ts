/** A recipe that cannot be used, with all its faults at once. */
import { UsageError } from '../base/errors.js';

export interface RecipeIssue {
  /** The field, such as `optimizer.learningRate`; empty for the whole recipe. */
  path: string;
  message: string;
  /** Where it stands: `file:line:column`, a file, or an option of the command line. */
  origin: string;
}

/** Code E_RECIPE; `issues` holds the faults one by one, the message all of them, a line each. */
export class RecipeError extends UsageError {
  readonly issues: readonly RecipeIssue[];

  constructor(issues: readonly RecipeIssue[], cause?: unknown) {
    const lines = issues.map(({ path, message, origin }) =>
      [origin, path, message].filter(Boolean).join(': '),
    );
    super(lines.join('\n'), {
      code: 'E_RECIPE',
      hint: 'Mend the recipe; recipe.schema.json describes all fields, `patina recipes show NAME` an example.',
      cause,
    });
    this.issues = issues;
  }
}
