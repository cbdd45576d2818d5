/**
 * libtorch's caching allocator for CUDA, imitated (c10/cuda/CUDACachingAllocator.cpp): how blocks are rounded, split, merged and given
 * out again, and with which segments that takes memory from the card. Addresses are offsets within segments.
 */

/** Blocks begin and end at multiples of this. */
const UNIT = 512;
/** Up to here blocks are small: they have a pool of their own, with segments of 2 MiB. */
const SMALL = 2 ** 20;
const SMALL_SEGMENT = 2 * 2 ** 20;
/** Below this, segments of large blocks have 20 MiB; from here on as many as the block, in steps of 2 MiB. */
const LARGE = 10 * 2 ** 20;
const LARGE_SEGMENT = 20 * 2 ** 20;
const STEP = 2 * 2 ** 20;

export interface AllocatorOptions {
  /** `expandable_segments:True`: one segment for each stream and pool, which grows. @default false */
  readonly expandable?: boolean;
  /** Bytes that may be reserved; cached segments are given back before it is passed. @default none */
  readonly limit?: number;
}

/** A stretch of a segment. */
export interface Block {
  readonly pool: Pool;
  readonly segment: Segment;
  readonly at: number;
  size: number;
  /** Neighbours within the segment. */
  before: Block | null;
  after: Block | null;
  isFree: boolean;
}

interface Segment {
  /** Among all segments, as they came. */
  readonly number: number;
  size: number;
  last: Block | null;
}

export class CachingAllocator {
  allocated = 0;
  reserved = 0;
  /** Whether more was reserved than there is. */
  exceeded = false;
  private readonly pools = new Map<string, Pool>();
  private readonly expandable: boolean;
  private readonly limit: number;
  private segments = 0;

  constructor({ expandable = false, limit = Infinity }: AllocatorOptions = {}) {
    this.expandable = expandable;
    this.limit = limit;
  }

  allocate(bytes: number, stream: number): Block {
    const size = Math.max(UNIT, roundUp(bytes, UNIT));
    const pool = this.poolOf(size <= SMALL, stream);
    const block = pool.take(size) ?? this.grow(pool, size);
    block.isFree = false;
    const rest = block.size - size;
    if (rest >= UNIT && (pool.isSmall || this.expandable || rest > SMALL)) {
      pool.add(cut(block, size));
    }
    this.allocated += block.size;
    return block;
  }

  free(block: Block): void {
    this.giveUp(block);
    this.giveOut(block);
  }

  /** It no longer counts as allocated, though another stream may still read it. */
  giveUp(block: Block): void {
    this.allocated -= block.size;
  }

  /** What was given up can be had again. */
  giveOut(block: Block): void {
    block.pool.add(block);
  }

  private poolOf(isSmall: boolean, stream: number): Pool {
    const key = `${isSmall} ${stream}`;
    let pool = this.pools.get(key);
    if (pool === undefined) this.pools.set(key, (pool = new Pool(isSmall)));
    return pool;
  }

  /** A free block of new memory, which is in no list. */
  private grow(pool: Pool, size: number): Block {
    if (this.expandable) return this.extend(pool, size);
    const bytes = pool.isSmall ? SMALL_SEGMENT : size < LARGE ? LARGE_SEGMENT : roundUp(size, STEP);
    this.reserve(bytes);
    const segment: Segment = { number: this.segments++, size: bytes, last: null };
    return append(pool, segment, bytes);
  }

  private extend(pool: Pool, size: number): Block {
    const segment = (pool.growing ??= { number: this.segments++, size: 0, last: null });
    const tail = segment.last?.isFree === true ? segment.last : null;
    const page = pool.isSmall ? SMALL_SEGMENT : LARGE_SEGMENT;
    const bytes = roundUp(size - (tail?.size ?? 0), page);
    this.reserve(bytes);
    segment.size += bytes;
    if (tail === null) return append(pool, segment, bytes);
    pool.remove(tail);
    tail.size += bytes;
    return tail;
  }

  private reserve(bytes: number): void {
    if (this.reserved + bytes > this.limit) this.emptyCache();
    this.reserved += bytes;
    if (this.reserved > this.limit) this.exceeded = true;
  }

  /** Gives back what nothing lies in. */
  emptyCache(): void {
    for (const pool of this.pools.values()) {
      this.reserved -= this.expandable ? pool.unmapTail() : pool.dropWhole();
    }
  }
}

/** The free blocks of one size class and stream, by size and address. */
class Pool {
  /** Of expandable segments. */
  growing: Segment | undefined;
  private readonly blocks: Block[] = [];

  constructor(readonly isSmall: boolean) {}

  /** The smallest that is large enough. */
  take(size: number): Block | undefined {
    const [found] = this.blocks.splice(
      this.indexOf(({ size: own }) => own >= size),
      1,
    );
    return found;
  }

  /** Joined with its free neighbours. */
  add(block: Block): void {
    let whole = block;
    const { before, after } = block;
    if (after?.isFree === true) {
      this.remove(after);
      join(block, after);
    }
    if (before?.isFree === true) {
      this.remove(before);
      join(before, block);
      whole = before;
    }
    whole.isFree = true;
    this.blocks.splice(this.indexOf(notBefore(whole)), 0, whole);
  }

  remove(block: Block): void {
    this.blocks.splice(this.indexOf(notBefore(block)), 1);
  }

  /** Forgets free blocks that are whole segments. @returns their bytes */
  dropWhole(): number {
    const whole = this.blocks.filter(({ size, segment }) => size === segment.size);
    for (const block of whole) this.remove(block);
    return whole.reduce((sum, { size }) => sum + size, 0);
  }

  /** Forgets what is free at the end of the segment that grows. @returns its bytes */
  unmapTail(): number {
    const tail = this.growing?.last;
    if (tail?.isFree !== true) return 0;
    this.remove(tail);
    const { segment, before, size } = tail;
    segment.last = before;
    segment.size -= size;
    if (before !== null) before.after = null;
    return size;
  }

  /** Of the first block of which that holds. */
  private indexOf(holds: (block: Block) => boolean): number {
    let [low, high] = [0, this.blocks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this.blocks[middle]!)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** In the order of a pool: by size, and where that is the same by address, for which later segments lie behind earlier ones. */
function notBefore({ size, segment, at }: Block): (block: Block) => boolean {
  return (other) => {
    if (other.size !== size) return other.size > size;
    const first = other.segment.number - segment.number;
    return first === 0 ? other.at >= at : first > 0;
  };
}

function append(pool: Pool, segment: Segment, size: number): Block {
  const before = segment.last;
  const at = before === null ? 0 : before.at + before.size;
  const block: Block = { pool, segment, at, size, before, after: null, isFree: true };
  if (before !== null) before.after = block;
  segment.last = block;
  return block;
}

/** Shortens a block, and gives what was behind. */
function cut(block: Block, size: number): Block {
  const { pool, segment, at, after } = block;
  // Written out: objects that are spread together would take a tenth of a plan's time.
  const rest: Block = {
    pool,
    segment,
    at: at + size,
    size: block.size - size,
    before: block,
    after,
    isFree: false,
  };
  if (after !== null) after.before = rest;
  else segment.last = rest;
  block.after = rest;
  block.size = size;
  return rest;
}

/** The second becomes part of the first. */
function join(first: Block, second: Block): void {
  first.size += second.size;
  first.after = second.after;
  if (second.after !== null) second.after.before = first;
  else first.segment.last = first;
}

const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;
