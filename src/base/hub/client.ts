/**
 * Requests to the hub: token, retries, dead connections and typed errors around `@huggingface/hub`, which knows the
 * addresses and forms of the answers.
 */
import { datasetInfo, listFiles, modelInfo } from '@huggingface/hub';
import { setTimeout as sleep } from 'node:timers/promises';

import { EnvironmentError, PatinaError } from '../errors.js';
import { malformed, PassingFailure, refusal, type AnswerContext } from './answer.js';
import type { HubSettings } from './settings.js';
import { staysInside, type Repository } from './source.js';

/** One file of a repository at a commit, as the hub lists it. */
export interface HubFile {
  path: string;
  /** Bytes of the content. */
  size: number;
  /** Hash of the git object: of the content itself, or of the pointer where `sha256` is given. */
  gitHash: string;
  /** Hash of the content of a large file (Git LFS or Xet). */
  sha256?: string;
  xetHash?: string;
}

export interface ClientOptions {
  signal?: AbortSignal | undefined;
  /** Told about each retry. */
  onNotice?: (message: string) => void;
  /** Seconds before the first retry; doubled for each further one. @default 1 */
  retryDelay?: number;
}

const ANSWER_TRIES = 3;
const DOWNLOAD_TRIES = 6;
const LONGEST_WAIT = 60;

export class HubClient {
  readonly context: AnswerContext;
  readonly #token: string | undefined;
  readonly #stallLimit: number;
  readonly signal: AbortSignal | undefined;
  readonly #onNotice: (message: string) => void;
  readonly #retryDelay: number;

  constructor(
    repository: Repository,
    { endpoint, token, stallLimit }: Pick<HubSettings, 'endpoint' | 'token' | 'stallLimit'>,
    { signal, onNotice = () => undefined, retryDelay = 1 }: ClientOptions = {},
  ) {
    this.context = { repository, endpoint, withToken: token !== undefined, gated: false };
    this.#token = token?.value;
    this.#stallLimit = stallLimit;
    this.signal = signal;
    this.#onNotice = onNotice;
    this.#retryDelay = retryDelay;
  }

  /** The commit that the repository's revision stands for. */
  async commit(): Promise<string> {
    const { kind, name, revision } = this.context.repository;
    const query = { name, revision, hubUrl: this.context.endpoint, fetch: this.#fetch };
    const info = await this.#reading(
      kind === 'dataset'
        ? datasetInfo({ ...query, additionalFields: ['sha'] })
        : modelInfo({ ...query, additionalFields: ['sha'] }),
    );
    this.context.gated = Boolean(info.gated);
    if (!/^[0-9a-f]{40}$/.test(info.sha)) throw malformed(this.context, 'it names no commit');
    return info.sha;
  }

  /** All files of the repository at `commit`. */
  async list(commit: string): Promise<HubFile[]> {
    const { kind, name } = this.context.repository;
    const entries = listFiles({
      repo: { type: kind, name },
      recursive: true,
      revision: commit,
      hubUrl: this.context.endpoint,
      fetch: this.#fetch,
    });
    const files: HubFile[] = [];
    await this.#reading(
      (async () => {
        for await (const entry of entries) {
          if (entry.type === 'file') files.push(this.#checked(entry));
        }
      })(),
    );
    return files;
  }

  /** Address of a file's content. */
  address(path: string, commit: string): string {
    const { kind, name } = this.context.repository;
    const repository = kind === 'dataset' ? `datasets/${name}` : name;
    const file = path.split('/').map(encodeURIComponent).join('/');
    return `${this.context.endpoint}/${repository}/resolve/${commit}/${file}`;
  }

  /**
   * Asks once and hands the answer to `consume`, which calls `alive` for every piece of the body that arrives.
   *
   * @throws PassingFailure for what may be gone at the next try, PatinaError for a refusal, the signal's reason.
   */
  async once<T>(
    url: string,
    init: RequestInit,
    consume: (response: Response, alive: () => void) => Promise<T>,
    accepted: (status: number) => boolean = (status) => status >= 200 && status < 300,
  ): Promise<T> {
    const dead = new AbortController();
    const stalled = setTimeout(() => dead.abort(), this.#stallLimit);
    const signals = this.signal === undefined ? [dead.signal] : [dead.signal, this.signal];
    try {
      const response = await fetch(url, {
        ...init,
        headers: this.#headers(url, init.headers),
        signal: AbortSignal.any(signals),
      });
      if (!accepted(response.status)) {
        await response.body?.cancel();
        throw refusal(response, this.context);
      }
      return await consume(response, () => stalled.refresh());
    } catch (error) {
      this.signal?.throwIfAborted();
      if (dead.signal.aborted) {
        const message = `no data for ${this.#stallLimit / 1000} seconds`;
        throw new PassingFailure(message, { cause: error });
      }
      // `fetch` and its body report every fault of the network as a TypeError with the cause below.
      if (error instanceof TypeError) throw new PassingFailure(causes(error), { cause: error });
      throw error;
    } finally {
      clearTimeout(stalled);
    }
  }

  /**
   * Repeats `attempt` while it fails in passing, with growing pauses.
   *
   * @param position Bytes got so far: an attempt that moved it counts as a success, and the tries begin anew.
   */
  async persist<T>(
    what: string,
    attempt: () => Promise<T>,
    {
      tries = DOWNLOAD_TRIES,
      position = () => 0,
    }: { tries?: number; position?: () => number } = {},
  ): Promise<T> {
    let before = position();
    for (let failures = 1; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof PassingFailure)) throw error;
        if (position() > before) failures = 1;
        before = position();
        if (failures >= tries) throw this.#unreachable(what, error);
        const pause = Math.max(this.#retryDelay * 2 ** (failures - 1), error.retryAfter);
        const seconds = Math.min(pause, LONGEST_WAIT);
        this.#onNotice(`${what}: ${error.message}; trying again in ${seconds} s`);
        await sleep(
          seconds * 1000,
          undefined,
          this.signal === undefined ? {} : { signal: this.signal },
        ).catch((reason: unknown) => {
          this.signal?.throwIfAborted();
          throw reason;
        });
      }
    }
  }

  /** `fetch` for the library: whole answers only, so that a retry covers the body too. */
  readonly #fetch: typeof fetch = (input, init = {}) => {
    const url = input instanceof Request ? input.url : String(input);
    const { kind, name } = this.context.repository;
    return this.persist(
      `Asking ${new URL(url).host} for the ${kind} ${name} (no folder here has that name)`,
      () =>
        this.once(url, init, async (response) => {
          const { status, headers } = response;
          return new Response(await response.arrayBuffer(), { status, headers });
        }),
      { tries: ANSWER_TRIES },
    );
  };

  #headers(url: string, given: RequestInit['headers']): Headers {
    const headers = new Headers(given);
    headers.set('user-agent', 'patina');
    // Pages of a listing and mirrors may lead to other hosts, which must not see the token.
    const ours = new URL(url).origin === new URL(this.context.endpoint).origin;
    if (ours && this.#token !== undefined) headers.set('authorization', `Bearer ${this.#token}`);
    return headers;
  }

  /** Awaits an answer through the library, whose own faults mean that it could not read it. */
  async #reading<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      this.signal?.throwIfAborted();
      if (error instanceof PatinaError) throw error;
      throw malformed(this.context, error instanceof Error ? error.message : String(error), error);
    }
  }

  #checked(entry: {
    path: string;
    size: number;
    oid?: string;
    lfs?: { oid: string; size: number };
    xetHash?: string;
  }): HubFile {
    const { path, oid: gitHash = '', lfs, xetHash } = entry;
    const size = lfs?.size ?? entry.size;
    const valid =
      typeof path === 'string' &&
      staysInside(path) &&
      Number.isSafeInteger(size) &&
      size >= 0 &&
      /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(gitHash) &&
      (lfs === undefined || /^[0-9a-f]{64}$/.test(lfs.oid));
    if (!valid) throw malformed(this.context, `it lists ${JSON.stringify(entry).slice(0, 300)}`);
    return { path, size, gitHash, ...(lfs && { sha256: lfs.oid }), ...(xetHash && { xetHash }) };
  }

  #unreachable(what: string, failure: PassingFailure): EnvironmentError {
    return new EnvironmentError(`${what} failed: ${failure.message}.`, {
      code: 'E_HUB_UNREACHABLE',
      hint:
        'Check the network and run the same command again: it goes on where it stopped. Behind a proxy set ' +
        'NODE_USE_ENV_PROXY=1 (Node 24 or newer), or HF_ENDPOINT to a mirror.',
      cause: failure,
    });
  }
}

/** The innermost message of an error: `fetch failed` alone tells nothing. */
function causes(error: Error): string {
  let innermost: Error = error;
  while (innermost.cause instanceof Error) innermost = innermost.cause;
  return innermost.message || innermost.name;
}
