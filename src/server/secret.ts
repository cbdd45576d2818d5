/** What a client has to know: drawn here, and compared so that the time it takes tells nothing. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** 32 characters that stand unchanged in an address. */
export function newSecret(): string {
  return randomBytes(24).toString('base64url');
}

/** Digests have one length, so that neither it nor the beginning of the secret can be told from the time that this takes. */
export function isSecret(given: string | null | undefined, secret: string): boolean {
  return given != null && timingSafeEqual(digest(given), digest(secret));
}

/** What a client sent as `Authorization: Bearer`. */
export function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer (.+)$/i.exec(header ?? '')?.[1];
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
