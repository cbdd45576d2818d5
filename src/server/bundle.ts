/** The pages that `web/` is bundled to at set-up, as they are served. */
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';

import type { Handler } from 'hono';

import { EnvironmentError } from '../base/errors.js';
import { packageRoot } from '../base/native-path.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Nothing from elsewhere runs in a page, and no other page holds it in a frame. */
const POLICY =
  "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/** Files of the bundle; its page for every path that is none. */
export function bundle(page: string): Handler {
  const folder = join(packageRoot(), 'dist', 'web');
  return async (context) => {
    const path = normalize(decodeURIComponent(new URL(context.req.url).pathname));
    const isAsset = path.startsWith('/assets/') && TYPES[extname(path)] !== undefined;
    const file = join(folder, isAsset ? path : `${page}.html`);
    const bytes = await readFile(file).catch((cause: unknown) => {
      if (isAsset) return undefined;
      throw new EnvironmentError(`The page ${file} has not been built.`, {
        code: 'E_NOT_SET_UP',
        hint: 'Run `npm run setup`.',
        cause,
      });
    });
    if (bytes === undefined) return context.notFound();
    return context.body(new Uint8Array(bytes), 200, {
      'content-type': TYPES[extname(file)]!,
      'content-security-policy': POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      // Names of assets hold a hash of what is in them.
      'cache-control': isAsset ? 'private, max-age=31536000, immutable' : 'no-store',
    });
  };
}
