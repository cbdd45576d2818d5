/** What the hub's refusals mean: its status and `X-Error-Code` as an error that says what to do. */
import { DataError, EnvironmentError, type PatinaError } from '../errors.js';
import type { Repository } from './source.js';

/** A failure that may be gone at the next try: a dropped connection, a busy hub. */
export class PassingFailure extends Error {
  /** Seconds after which the hub wants to be asked again. */
  readonly retryAfter: number;

  constructor(
    message: string,
    { cause, retryAfter = 0 }: { cause?: unknown; retryAfter?: number },
  ) {
    super(message, { cause });
    this.retryAfter = retryAfter;
  }
}

export interface AnswerContext {
  repository: Repository;
  endpoint: string;
  /** Whether a token was sent. */
  withToken: boolean;
  /** Whether the repository is known to ask for its licence to be accepted. */
  gated: boolean;
}

/** The error for an answer other than 2xx. */
export function refusal(response: Response, context: AnswerContext): PatinaError | PassingFailure {
  const { repository, withToken } = context;
  const { status } = response;
  const { kind, name, revision } = repository;
  const reason = response.headers.get('x-error-code') ?? '';
  const words = response.headers.get('x-error-message') ?? '';
  const page = repositoryPage(context);
  if (status === 408 || status === 429 || status >= 500) {
    const retryAfter = Number(response.headers.get('retry-after')) || 0;
    return new PassingFailure(`the hub answered ${status}`, { retryAfter });
  }
  if (reason === 'GatedRepo' || (context.gated && (status === 401 || status === 403))) {
    return new EnvironmentError(`The ${kind} ${name} asks for its licence to be accepted first.`, {
      code: 'E_HUB_GATED',
      hint: withToken
        ? `Accept the licence at ${page} with the account of your token, then run the same command again.`
        : `Accept the licence at ${page}, make a token at ${context.endpoint}/settings/tokens and set HF_TOKEN to it.`,
    });
  }
  if (status === 401 && withToken && reason !== 'RepoNotFound') {
    return new EnvironmentError(`The hub does not accept the token${words && `: ${words}`}.`, {
      code: 'E_HUB_TOKEN',
      hint: `Make a new token at ${context.endpoint}/settings/tokens and set HF_TOKEN to it, or run \`hf auth login\`.`,
    });
  }
  if (status === 403) {
    return new EnvironmentError(`The hub refuses access to ${name}${words && `: ${words}`}.`, {
      code: 'E_HUB_FORBIDDEN',
      hint: `Accept the licence at ${page} if it asks for one, and let the token read this repository.`,
    });
  }
  if (reason === 'RevisionNotFound') {
    return new DataError(`The ${kind} ${name} has no revision "${revision}".`, {
      code: 'E_HUB_REVISION',
      hint: `Choose a branch, tag or commit from ${page}.`,
    });
  }
  if (reason === 'EntryNotFound') {
    return new DataError(`The ${kind} ${name} has no file at ${response.url}.`, {
      code: 'E_HUB_FILE',
      hint: `Choose a file from ${page}.`,
    });
  }
  if (status === 401 || status === 404) {
    return new DataError(
      `The hub has no ${kind} ${name}, or it is private; and no folder here has that name.`,
      {
        code: 'E_HUB_NOT_FOUND',
        hint: withToken
          ? `Check the name, and that the token may read it; if ${page} asks for a licence to be accepted, accept it.`
          : `Check the name; if it is private or asks for a licence to be accepted, do so at ${page} and set HF_TOKEN.`,
      },
    );
  }
  return malformed(context, `it answered ${status} for ${response.url}`);
}

/** The error for an answer that no hub should give. */
export function malformed(context: AnswerContext, what: string, cause?: unknown): PatinaError {
  return new DataError(`The hub's answer about ${context.repository.name} is broken: ${what}.`, {
    code: 'E_HUB_RESPONSE',
    hint: `Check that HF_ENDPOINT (${context.endpoint}) is a Hugging Face hub or a mirror of it.`,
    cause,
  });
}

/** Where a person reads about the repository and accepts its licence. */
function repositoryPage({ endpoint, repository }: AnswerContext): string {
  return `${endpoint}/${repository.kind === 'dataset' ? 'datasets/' : ''}${repository.name}`;
}
