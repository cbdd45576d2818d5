/**
 * Who may talk to a server on this machine: whoever has its token, and no page of another site in the same browser. A name that
 * resolves to loopback is refused too (DNS rebinding): the host that a browser asks for must be the one that is served.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

import type { Context, MiddlewareHandler } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';

export interface Access {
  readonly token: string;
  /** Names that may stand in the address. @default any, for a server that others are to reach */
  readonly hosts?: readonly string[];
}

export const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

export function newToken(): string {
  return randomBytes(24).toString('base64url');
}

/** A token comes once in the address, then in a cookie; programs send it as `Authorization: Bearer`. */
export function guarded({ token, hosts }: Access): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host')?.replace(/:\d+$/, '') ?? '';
    if (hosts !== undefined && !hosts.includes(host)) {
      return refused(context, 403, `This server is not ${host}.`);
    }
    const { method, url } = context.req;
    const given = new URL(url).searchParams.get('token');
    if (given !== null && isSame(given, token)) {
      if (method !== 'GET') return refused(context, 405, 'The address opens the page alone.');
      setCookie(context, cookieName(context), token, {
        ...{ httpOnly: true, sameSite: 'Strict', path: '/', maxAge: 30 * 24 * 3600 },
      });
      const clean = new URL(url);
      clean.searchParams.delete('token');
      return context.redirect(clean.pathname + clean.search);
    }
    const bearer = context.req.header('authorization')?.replace(/^Bearer /i, '');
    const cookie = getCookie(context, cookieName(context));
    if (![bearer, cookie].some((each) => each !== undefined && isSame(each, token))) {
      return refused(
        context,
        401,
        'The token is missing or wrong: open the address that was printed.',
      );
    }
    // A form of another site can send a cookie of a lax browser, but not a header of its own.
    if (method !== 'GET' && bearer === undefined && context.req.header('x-patina') === undefined) {
      return refused(context, 403, 'A request that changes something needs the header x-patina.');
    }
    return next();
  };
}

/** Cookies are shared by all ports of a host. */
function cookieName(context: Context): string {
  return `patina-${new URL(context.req.url).port || '80'}`;
}

function refused(context: Context, status: 401 | 403 | 405, message: string): Response {
  return context.json({ error: { code: 'E_ACCESS', message } }, status);
}

function isSame(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
