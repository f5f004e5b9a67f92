/** Bytes that a link has sent and that are not acknowledged yet: a hostile agent acknowledges none, on thousands of links. */
import { ByteBudget } from "../common/byte-budget.ts";

const mib = 1024 * 1024;

/** Limits for one link's bytes; agents acknowledge after 256 KiB, so that a smaller one would stall it. */
const [leastKept, mostKept] = [mib / 4, 2 * mib];
/** Shared by all links of a thread. */
const budget = new ByteBudget(64 * mib);
/** Most bytes of all links of a thread, those within the least limit included. */
const mostOfAll = 128 * mib;

/** Chunks of fewer bytes are copied, one after another: each costs some hundred bytes besides its own. */
const smallBytes = 16 * 1024;
/** Fewest bytes that are allocated for copies: many links keep little. */
const leastPack = 4 * 1024;

/** All of a thread that hold any bytes, and their sum. */
const holders = new Set<KeptBytes>();
let sum = 0;

/**
 * The bytes of one link, in order: those sent, then those to be sent. Of too many in a thread, the link with the most of
 * the agent with the most gives way.
 */
export class KeptBytes {
  /** Tells agents apart. */
  readonly agent: string | undefined;
  readonly #giveWay: () => void;
  #parts: Buffer[] = [];
  /** Place of the next byte to be sent. */
  #part = 0;
  #offset = 0;
  #length = 0;
  /** Free bytes behind the last copy. */
  #free: Buffer = Buffer.alloc(0);

  /**
   * @param agent tells agents apart
   * @param giveWay ends the link
   */
  constructor(agent: string | undefined, giveWay: () => void) {
    this.agent = agent;
    this.#giveWay = giveWay;
  }

  /** Number of bytes. */
  get length(): number {
    return this.#length;
  }

  /** True if more may be added. */
  get hasRoom(): boolean {
    return this.#length <= budget.share(leastKept, mostKept);
  }

  /** Adds bytes, which must stay unchanged; may make a link give way, this one included. */
  add(chunk: Buffer): void {
    if (chunk.length >= smallBytes) {
      this.#parts.push(chunk);
    } else {
      this.#copy(chunk);
    }
    this.#count(chunk.length);
    while (sum > mostOfAll) {
      const link = theLargest();
      link.clear();
      link.#giveWay();
    }
  }

  /** The next bytes to be sent, which count as sent from now on. */
  next(): Buffer | undefined {
    if (this.#offset === this.#parts[this.#part]?.length && this.#part < this.#parts.length - 1) {
      this.#part += 1;
      this.#offset = 0;
    }
    const unsent = this.#parts[this.#part]?.subarray(this.#offset) ?? Buffer.alloc(0);
    this.#offset += unsent.length;
    return unsent.length === 0 ? undefined : unsent;
  }

  /** Counts all bytes as unsent. */
  rewind(): void {
    this.#part = 0;
    this.#offset = 0;
  }

  /** Drops the first bytes. */
  drop(bytes: number): void {
    let rest = bytes;
    let whole = 0;
    for (const part of this.#parts) {
      if (part.length > rest) {
        break;
      }
      rest -= part.length;
      whole += 1;
    }
    this.#parts.splice(0, whole);
    this.#offset = whole > this.#part ? 0 : this.#offset;
    this.#part = Math.max(0, this.#part - whole);
    const [first] = this.#parts;
    if (first !== undefined && rest > 0) {
      this.#parts[0] = first.subarray(rest);
      this.#offset = this.#part === 0 ? Math.max(0, this.#offset - rest) : this.#offset;
    }
    this.#count(-bytes);
    if (this.#length === 0) {
      this.#free = Buffer.alloc(0); // A link may be quiet for days.
    }
  }

  /** Drops all bytes. */
  clear(): void {
    this.drop(this.#length);
  }

  #copy(chunk: Buffer): void {
    for (let copied = 0; copied < chunk.length; ) {
      if (this.#free.length === 0) {
        this.#free = Buffer.allocUnsafeSlow(Math.min(smallBytes, Math.max(leastPack, this.#length)));
      }
      const bytes = chunk.copy(this.#free, 0, copied);
      const last = this.#parts.at(-1);
      if (last?.buffer === this.#free.buffer) {
        const both = Buffer.from(last.buffer, last.byteOffset, last.length + bytes);
        this.#parts[this.#parts.length - 1] = both;
      } else {
        this.#parts.push(this.#free.subarray(0, bytes));
      }
      this.#free = this.#free.subarray(bytes);
      copied += bytes;
    }
  }

  #count(bytes: number): void {
    this.#length += bytes;
    sum += bytes;
    budget.take(bytes);
    if (this.#length > 0) {
      holders.add(this);
    } else {
      holders.delete(this);
    }
  }
}

/** The link with the most bytes of the agent with the most. */
function theLargest(): KeptBytes {
  const ofAgents = new Map<string | undefined, number>();
  for (const { agent, length } of holders) {
    ofAgents.set(agent, (ofAgents.get(agent) ?? 0) + length);
  }
  const most = Math.max(...ofAgents.values());
  return [...holders]
    .filter(({ agent }) => ofAgents.get(agent) === most)
    .reduce((largest, link) => (link.length > largest.length ? link : largest));
}
