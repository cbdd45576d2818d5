/**
 * Who may talk to the page of runs: whoever has its token, and no page of another site in the same browser. A name that resolves to
 * loopback is refused too (DNS rebinding): the host that a browser asks for must be the one that is served.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';

import { type ErrorStatus, HttpError } from './http-error.js';
import { inAddress, isLoopback } from './listen.js';
import { bearerOf, isSecret } from './secret.js';

export interface Access {
  readonly token: string;
  /** Names that may stand in the address. @default any, for a server that others are to reach */
  readonly hosts?: readonly string[] | undefined;
}

/** Names by which a server that listens there may be asked for; any where others reach it. */
export function hostsOf(host: string): readonly string[] | undefined {
  return isLoopback(host) ? ['127.0.0.1', 'localhost', '[::1]', inAddress(host)] : undefined;
}

/**
 * A token comes once in the address, then in a cookie; programs send it as `Authorization: Bearer`.
 *
 * @throws HttpError `E_ACCESS`
 */
export function guarded({ token, hosts }: Access): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host')?.replace(/:\d+$/, '') ?? '';
    if (hosts !== undefined && !hosts.includes(host)) {
      throw refused(403, `This server is not ${host}.`, 'Open the address that was printed.');
    }
    const { method, url } = context.req;
    if (isSecret(new URL(url).searchParams.get('token'), token)) {
      if (method !== 'GET') {
        throw refused(405, 'The address opens the page alone.', 'Send the token as a header.');
      }
      setCookie(context, cookieName(context), token, {
        ...{ httpOnly: true, sameSite: 'Strict', path: '/', maxAge: 30 * 24 * 3600 },
      });
      const clean = new URL(url);
      clean.searchParams.delete('token');
      return context.redirect(clean.pathname + clean.search);
    }
    const bearer = bearerOf(context.req.header('authorization'));
    const cookie = getCookie(context, cookieName(context));
    if (![bearer, cookie].some((each) => isSecret(each, token))) {
      throw refused(
        401,
        'The token is missing or wrong.',
        'Open the address that `patina dashboard` printed; it holds the token of this start.',
      );
    }
    // A form of another site can send a cookie of a lax browser, but not a header of its own.
    if (method !== 'GET' && bearer === undefined && context.req.header('x-patina') === undefined) {
      throw refused(
        403,
        'This changes something, so that it needs the header x-patina.',
        'Send it.',
      );
    }
    return next();
  };
}

/** Cookies are shared by all ports of a host. */
function cookieName(context: Context): string {
  return `patina-${new URL(context.req.url).port || '80'}`;
}

function refused(status: ErrorStatus, message: string, hint: string): HttpError {
  return new HttpError(message, { status, code: 'E_ACCESS', hint });
}
