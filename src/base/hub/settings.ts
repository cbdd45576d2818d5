/**
 * Where the hub is, where its cache lies and which token opens it: the environment variables of the Python package
 * `huggingface_hub` (its page "Environment variables"), read the same way, so that both share one cache. (@huggingface/hub knows
 * neither `~` nor tokens, HF_ENDPOINT or HF_HUB_OFFLINE.)
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

import { UsageError } from '../errors.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A token and where it was found; the source is safe to print, the token is not. */
export interface HubToken {
  value: string;
  source: string;
}

export interface HubSettings {
  /** Base address of the hub, without a slash at the end. */
  endpoint: string;
  /** The folder that holds `models--org--name` and `datasets--org--name`. */
  cacheFolder: string;
  /** Whether `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) forbids the network. */
  offline: boolean;
  token: HubToken | undefined;
  /** Milliseconds without a byte after which a connection counts as dead. */
  stallLimit: number;
  /** Whether snapshots hold copies in place of symbolic links (`HF_HUB_DISABLE_SYMLINKS`). */
  copies: boolean;
}

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const DEFAULT_STALL_SECONDS = 10;
const TRUE_VALUES = new Set(['1', 'ON', 'YES', 'TRUE']);

/** Reads the hub's settings from the environment and from the files that `hf auth login` leaves. */
export function hubSettings(env: Environment = process.env): HubSettings {
  const home = folder(env, env['HF_HOME']) ?? join(cacheHome(env), 'huggingface');
  const seconds = Number(env['HF_HUB_DOWNLOAD_TIMEOUT'] ?? DEFAULT_STALL_SECONDS);
  return {
    endpoint: endpoint(env['HF_ENDPOINT'] ?? ''),
    cacheFolder:
      folder(env, env['HF_HUB_CACHE']) ??
      folder(env, env['HUGGINGFACE_HUB_CACHE']) ??
      join(home, 'hub'),
    offline: isTrue(env['HF_HUB_OFFLINE'] || env['TRANSFORMERS_OFFLINE']),
    token: isTrue(env['HF_HUB_DISABLE_IMPLICIT_TOKEN']) ? undefined : findToken(env, home),
    stallLimit: 1000 * (seconds > 0 ? seconds : DEFAULT_STALL_SECONDS),
    copies: isTrue(env['HF_HUB_DISABLE_SYMLINKS']),
  };
}

/** What `patina doctor` tells about the hub; holds no secret. */
export interface HubFacts {
  endpoint: string;
  cacheFolder: string;
  cacheExists: boolean;
  offline: boolean;
  /** Where the token comes from (a variable or a file), or null when there is none. */
  tokenSource: string | null;
}

/** Facts about the hub for people and for `doctor`; opens no connection. */
export function describeHub(env: Environment = process.env): HubFacts {
  const { endpoint, cacheFolder, offline, token } = hubSettings(env);
  return {
    endpoint,
    cacheFolder,
    cacheExists: existsSync(cacheFolder),
    offline,
    tokenSource: token?.source ?? null,
  };
}

/** The folder of caches of this user. */
export function cacheHome(env: Environment = process.env): string {
  return folder(env, env['XDG_CACHE_HOME']) ?? join(home(env), '.cache');
}

function home(env: Environment): string {
  return env['HOME'] || homedir();
}

/** A folder as Python reads it from a variable: `~` and `$NAME` are expanded. */
function folder(env: Environment, value: string | undefined): string | undefined {
  if (!value) return undefined;
  const expanded = value
    .replace(/^~(?=\/|$)/, home(env))
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, bare?: string, braced?: string) => {
      return env[bare ?? braced ?? ''] ?? whole;
    });
  return resolve(expanded);
}

function isTrue(value: string | undefined): boolean {
  return TRUE_VALUES.has((value ?? '').toUpperCase());
}

function endpoint(value: string): string {
  const address = (value || DEFAULT_ENDPOINT).replace(/\/+$/, '');
  if (!/^https?:/i.test(address) || !URL.canParse(address)) {
    throw new UsageError(`HF_ENDPOINT is "${value}", which is no http or https address.`, {
      code: 'E_HUB_ENDPOINT',
      hint: 'Set HF_ENDPOINT to an address such as https://huggingface.co, or unset it.',
    });
  }
  return address;
}

/** The first token of: `HF_TOKEN`, its old name, the file of the active login, a single stored login. */
function findToken(env: Environment, hfHome: string): HubToken | undefined {
  for (const source of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const value = clean(env[source]);
    if (value) return { value, source };
  }
  const active = folder(env, env['HF_TOKEN_PATH']) ?? join(hfHome, 'token');
  const value = clean(read(active));
  if (value) return { value, source: active };
  const stored = join(dirname(active), 'stored_tokens');
  const tokens = storedTokens(read(stored) ?? '');
  // Which of several logins is the active one stands only in the file that is missing here.
  return tokens.length === 1 ? { value: tokens[0]!, source: stored } : undefined;
}

/** The `hf_token` of every section of Python's `stored_tokens`, an INI file. */
function storedTokens(ini: string): string[] {
  return [...ini.matchAll(/^hf_token[ \t]*[=:](.*)$/gim)]
    .map((match) => clean(match[1]))
    .filter((token) => token !== undefined);
}

function clean(token: string | undefined): string | undefined {
  return token?.replace(/[\r\n]/g, '').trim() || undefined;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // No login, or one that this user may not read: the hub then answers as to a stranger.
  }
}
