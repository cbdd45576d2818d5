/**
 * A hub on loopback for tests: two servers (the hub and the store that it redirects large files to), repositories in
 * memory, and faults on demand. Speaks the parts of the hub's interface that downloads use.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface LoopbackFile {
  content: Buffer;
  /** Kept in the store and hashed by SHA-256, like files of Git LFS. */
  large?: boolean;
}

export interface LoopbackRepository {
  kind?: 'model' | 'dataset';
  commit: string;
  files: Record<string, LoopbackFile | string>;
  /** Only this token may read the files. */
  gatedFor?: string;
  /** Only this token may know of the repository. */
  privateFor?: string;
}

/** A fault of the next answers for a path; `times` counts down. */
export interface Fault {
  times: number;
  /** Closes the connection after this many bytes of the body. */
  dropAfter?: number;
  /** Stops sending, without closing, after this many bytes. */
  stallAfter?: number;
  /** Answers with this status. */
  status?: number;
  headers?: Record<string, string>;
  /** Sends other bytes of the same length. */
  corrupt?: boolean;
  /** Sends the whole file whatever range is asked for. */
  ignoreRange?: boolean;
}

export interface SeenRequest {
  server: 'hub' | 'store';
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

export class LoopbackHub {
  readonly requests: SeenRequest[] = [];
  readonly repositories = new Map<string, LoopbackRepository>();
  /** By path inside the repository, or by `api` for questions about it. */
  readonly faults = new Map<string, Fault>();
  readonly #hub: Server;
  readonly #store: Server;

  private constructor() {
    this.#hub = createServer((request, response) => this.#answerHub(request, response));
    this.#store = createServer((request, response) => this.#answerStore(request, response));
  }

  static async start(): Promise<LoopbackHub> {
    const hub = new LoopbackHub();
    for (const server of [hub.#hub, hub.#store]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    }
    return hub;
  }

  get endpoint(): string {
    return address(this.#hub);
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** Requests for the content of files, as `path` or `path@range`. */
  downloads(): string[] {
    return this.requests
      .filter(({ server, path }) => server === 'store' || !path.startsWith('/api/'))
      .map(({ server, path, range }) => {
        const file = path.replace(/^.*\/resolve\/\w+\//, '').replace(/^\//, '');
        return `${server}:${decodeURIComponent(file)}${range === undefined ? '' : `@${range}`}`;
      });
  }

  #answerHub(request: IncomingMessage, response: ServerResponse): void {
    const url = this.#see('hub', request);
    const api = /^\/api\/(models|datasets)\/(.+?)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const file = /^\/(datasets\/)?(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    if (api) {
      const [, kind, name, question, revision] = api;
      const repository = this.#repository(`${kind!}/${name!}`, request, response);
      if (repository === undefined || this.#refused('api', response)) return;
      if (![repository.commit, 'main'].includes(decodeURIComponent(revision!))) {
        refuse(response, 404, 'RevisionNotFound');
      } else if (question === 'revision') {
        const gated = repository.gatedFor === undefined ? false : 'manual';
        json(response, { _id: '1', id: name, sha: repository.commit, gated, lastModified: 0 });
      } else {
        this.#list(repository, url, response);
      }
    } else if (file) {
      const [, datasets, name, , encoded] = file;
      const path = decodeURIComponent(encoded!);
      const kind = datasets === undefined ? 'models' : 'datasets';
      const repository = this.#repository(`${kind}/${name!}`, request, response);
      if (repository === undefined) return;
      const found = repository.files[path];
      const token = repository.gatedFor;
      response.setHeader('x-repo-commit', repository.commit);
      if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
        refuse(response, request.headers.authorization === undefined ? 401 : 403, 'GatedRepo');
      } else if (found === undefined) {
        refuse(response, 404, 'EntryNotFound');
      } else if (typeof found === 'object' && found.large) {
        const store = `${address(this.#store)}/${kind}/${name!}/${encodeURIComponent(path)}`;
        const etag = `"${sha256(found.content)}"`;
        response.setHeader('x-linked-size', found.content.length);
        response.writeHead(302, { location: store, 'x-linked-etag': etag }).end();
      } else {
        response.setHeader('etag', `"${gitHash(contentOf(found))}"`);
        this.#send(path, contentOf(found), request, response);
      }
    } else {
      refuse(response, 404, 'RepoNotFound');
    }
  }

  #answerStore(request: IncomingMessage, response: ServerResponse): void {
    const url = this.#see('store', request);
    const [kind, ...rest] = url.pathname.slice(1).split('/');
    const path = decodeURIComponent(rest.pop()!);
    const found = this.repositories.get(`${kind!}/${rest.join('/')}`)?.files[path];
    if (found === undefined) refuse(response, 404, 'EntryNotFound');
    else this.#send(path, contentOf(found), request, response);
  }

  #see(server: 'hub' | 'store', request: IncomingMessage): URL {
    const { authorization, range } = request.headers;
    const url = new URL(request.url!, 'http://x');
    const path = server === 'store' ? `/${url.pathname.split('/').at(-1)!}` : url.pathname;
    this.requests.push({ server, path, range, authorization });
    return url;
  }

  #repository(
    key: string,
    { headers }: IncomingMessage,
    response: ServerResponse,
  ): LoopbackRepository | undefined {
    const repository = this.repositories.get(key);
    const token = repository?.privateFor;
    const known = token === undefined || headers.authorization === `Bearer ${token}`;
    if (repository !== undefined && known) return repository;
    if (headers.authorization === 'Bearer refused') {
      const message = 'Invalid credentials in Authorization header';
      response.writeHead(401, { 'x-error-message': message }).end();
    } else {
      refuse(response, headers.authorization === undefined ? 401 : 404, 'RepoNotFound');
    }
    return undefined;
  }

  /** Two entries a page, as the hub pages long listings. */
  #list(repository: LoopbackRepository, url: URL, response: ServerResponse): void {
    const entries: unknown[] = [{ type: 'directory', path: 'some', oid: '0'.repeat(40), size: 0 }];
    for (const [path, file] of Object.entries(repository.files)) {
      const content = contentOf(file);
      const large = typeof file === 'object' && file.large;
      const pointer = large ? `oid sha256:${sha256(content)}` : content;
      const lfs = { oid: sha256(content), size: content.length, pointerSize: pointer.length };
      const entry = { type: 'file', path, size: content.length, oid: gitHash(pointer) };
      entries.push(large ? { ...entry, lfs } : entry);
    }
    const start = Number(url.searchParams.get('cursor') ?? 0);
    const next = new URL(`${this.endpoint}${url.pathname}${url.search}`);
    next.searchParams.set('cursor', String(start + 2));
    if (start + 2 < entries.length) response.setHeader('link', `<${next.href}>; rel="next"`);
    json(response, entries.slice(start, start + 2));
  }

  #refused(key: string, response: ServerResponse): boolean {
    const fault = this.faults.get(key);
    if (fault?.status === undefined || fault.times-- <= 0) return false;
    response.writeHead(fault.status, fault.headers).end();
    return true;
  }

  #send(
    path: string,
    content: Buffer,
    { headers }: IncomingMessage,
    response: ServerResponse,
  ): void {
    if (this.#refused(path, response)) return;
    const known = this.faults.get(path);
    const fault = known !== undefined && known.times-- > 0 ? known : undefined;
    const range = fault?.ignoreRange ? null : /^bytes=(\d+)-$/.exec(headers.range ?? '');
    const start = range === null ? 0 : Number(range[1]);
    if (range !== null && start >= content.length) {
      response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
      return;
    }
    let body = content.subarray(start);
    if (fault?.corrupt) body = Buffer.from(body.map((byte) => byte ^ 1));
    response.writeHead(range === null ? 200 : 206, {
      'content-length': body.length,
      ...(range && {
        'content-range': `bytes ${start}-${content.length - 1}/${content.length}`,
      }),
    });
    const cut = fault?.dropAfter ?? fault?.stallAfter;
    if (cut === undefined) response.end(body);
    else if (fault?.stallAfter !== undefined) response.write(body.subarray(0, cut));
    else response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 20));
  }
}

/** Git's hash of a file with this content. */
export function gitHash(content: Buffer | string): string {
  const bytes = Buffer.from(content);
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function contentOf(file: LoopbackFile | string): Buffer {
  return typeof file === 'string' ? Buffer.from(file) : file.content;
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code }).end();
}
