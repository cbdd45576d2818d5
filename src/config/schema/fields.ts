/** Small parts that several sections of the recipe share. */
import { z } from 'zod';

export const count = z.int().min(1);
export const countOrZero = z.int().min(0);
export const text = z.string().min(1);

/** A path, relative to the recipe's file, or a name on the hub with an optional `@revision`. */
export const pathOrName = text;
