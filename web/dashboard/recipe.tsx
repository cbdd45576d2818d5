/** The recipe in force, and how it differs from those of other runs. */
import { useEffect, useState } from 'preact/hooks';

import { fetchDifferences, fetchRecipe, type RecipeDifference, type RunView } from './api.js';

export function Recipe({ run, beside }: { run: RunView; beside: readonly string[] }) {
  return (
    <>
      {beside.length > 0 && <Differences runs={[run.id, ...beside]} />}
      <Own run={run} />
    </>
  );
}

function Own({ run: { id, start } }: { run: RunView }) {
  const [open, setOpen] = useState(false);
  const [recipe, setRecipe] = useState<string>();
  // It may change when the run goes on.
  const begun = String(start?.['time']);
  useEffect(() => {
    if (!open) return;
    void fetchRecipe(id)
      .then((found) => JSON.stringify(found, null, 2))
      .catch((error: unknown) => (error as Error).message)
      .then(setRecipe);
  }, [id, open, begun]);
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>Recipe in force</summary>
      <pre tabIndex={0}>{recipe ?? 'Reading …'}</pre>
    </details>
  );
}

function Differences({ runs }: { runs: readonly string[] }) {
  const [found, setFound] = useState<readonly RecipeDifference[]>();
  const [wrong, setWrong] = useState<string>();
  const key = runs.join(' ');
  useEffect(() => {
    setWrong(undefined);
    void fetchDifferences(runs)
      .then(({ differences }) => setFound(differences))
      .catch((error: unknown) => setWrong((error as Error).message));
  }, [key]);
  return (
    <details open>
      <summary>
        Recipes: {found === undefined ? 'reading …' : `${found.length} fields differ`}
      </summary>
      {wrong !== undefined && <p class="wrong">{wrong}</p>}
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Field</th>
              {runs.map((id) => (
                <th key={id} scope="col">
                  {id}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {(found ?? []).map(({ field, values }) => (
              <tr key={field}>
                <th scope="row">{field}</th>
                {values.map((value, i) => (
                  <td key={i}>{value === null ? '–' : JSON.stringify(value)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
