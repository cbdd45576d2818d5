/** Counts of what a server does, in the text format that Prometheus reads. */
import type { ServedModel } from './completion.js';

/** How many requests have ended, by status. */
type Requests = Map<number, number>;

/** Of one model. */
interface Counts {
  readonly requests: Requests;
  promptTokens: number;
  newTokens: number;
  firstTokens: number;
  firstTokenSeconds: number;
}

export class ServerMetrics {
  readonly #models: readonly ServedModel[];
  readonly #counts: ReadonlyMap<string, Counts>;
  /** That were refused before they named a model that there is. */
  readonly #refused: Requests = new Map();

  constructor(models: readonly ServedModel[]) {
    this.#models = models;
    this.#counts = new Map(
      models.map(({ name }) => [
        name,
        {
          requests: new Map(),
          promptTokens: 0,
          newTokens: 0,
          firstTokens: 0,
          firstTokenSeconds: 0,
        },
      ]),
    );
  }

  /** A request has ended, of no model yet where that is left out; 499 where the client has left. */
  ended(status: number, model?: string): void {
    const requests = model === undefined ? this.#refused : this.#counts.get(model)!.requests;
    requests.set(status, (requests.get(status) ?? 0) + 1);
  }

  prompt(model: string, tokens: number): void {
    this.#counts.get(model)!.promptTokens += tokens;
  }

  /** @param first seconds since the request came, with its first token */
  token(model: string, first?: number): void {
    const counts = this.#counts.get(model)!;
    counts.newTokens++;
    if (first === undefined) return;
    counts.firstTokens++;
    counts.firstTokenSeconds += first;
  }

  text(): string {
    const lines: string[] = [];
    const family = (
      name: string,
      type: 'counter' | 'gauge' | 'summary',
      help: string,
      samples: (
        model: ServedModel,
        counts: Counts,
      ) => [labels: string, value: number, end?: string][],
      unnamed: [labels: string, value: number][] = [],
    ): void => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const model of this.#models) {
        for (const [labels, value, end = ''] of samples(model, this.#counts.get(model.name)!)) {
          lines.push(`${name}${end}{model="${escaped(model.name)}"${labels}} ${value}`);
        }
      }
      for (const [labels, value] of unnamed) lines.push(`${name}{model=""${labels}} ${value}`);
    };
    const byStatus = (requests: Requests): [labels: string, value: number][] =>
      [...requests].map(([status, count]) => [`,status="${status}"`, count]);
    family(
      'patina_requests_total',
      'counter',
      'Requests that have ended, by status; of no model where they were refused before.',
      (_, each) => byStatus(each.requests),
      byStatus(this.#refused),
    );
    family('patina_prompt_tokens_total', 'counter', 'Tokens of prompts.', (_, each) => [
      ['', each.promptTokens],
    ]);
    family('patina_new_tokens_total', 'counter', 'Tokens of answers.', (_, each) => [
      ['', each.newTokens],
    ]);
    family(
      'patina_first_token_seconds',
      'summary',
      'Time from a request to its first token.',
      (_, each) => [
        ['', each.firstTokenSeconds, '_sum'],
        ['', each.firstTokens, '_count'],
      ],
    );
    family('patina_running', 'gauge', 'Answers that are being written.', ({ generator }) => [
      ['', generator.running],
    ]);
    family('patina_waiting', 'gauge', 'Prompts that wait for a row.', ({ generator }) => [
      ['', generator.waiting],
    ]);
    return `${lines.join('\n')}\n`;
  }
}

function escaped(label: string): string {
  return label.replaceAll(/[\\"\n]/g, (found) => (found === '\n' ? '\\n' : `\\${found}`));
}
