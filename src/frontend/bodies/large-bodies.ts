/**
 * Conversion of large bodies in a worker thread: a hostile body of 4 MB would block the event loop for a second. One is
 * converted at a time, and all that are in memory together are bounded.
 */
import { createRequire } from "node:module";

import type { Piscina } from "piscina";

import { type ErrorData, SockerlessError, systemError } from "../../common/errors.ts";
import { type BodyMemory, smallBodyBytes } from "../http/json-body.ts";
import { Slots } from "../http/slots.ts";
import type { ConversionName } from "./conversions.ts";

const require = createRequire(import.meta.url);

/** Milliseconds for which the thread waits for another body. */
const idleMs = 10_000;

/** Converted, a body of 4 MB takes at most some hundred bytes per value. */
const resourceLimits = { maxOldGenerationSizeMb: 512, stackSizeMb: 4 } as const;

/** A large body and the name of its conversion, as sent to the thread. */
export interface ConversionTask {
  readonly name: ConversionName;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly isOptional: boolean;
}

/** The thread's answer: the encoded fields, or an error. */
export type ConversionOutcome =
  | { readonly fields: Uint8Array; readonly warnings: readonly string[] }
  | { readonly error: ErrorData };

/** Milliseconds for which a body may be slow while others wait. */
const patienceMs = 500;

/** Bytes per millisecond below which a body is slow: the longest takes four seconds. */
const slowRate = 1_024;

/** Interval in milliseconds of looking for slow ones while others wait. */
const lookEveryMs = 100;

/** A large body in memory. Disposed of once it is converted, or has failed. */
export interface LargeBody extends BodyMemory, Disposable {}

/**
 * Large bodies in memory. Those that have no room beside others wait, and slow ones are cut meanwhile: so nobody holds up
 * others by sending slowly.
 */
export class LargeBodies {
  readonly #memory: Slots;
  #waiting = 0;
  readonly #incomplete = new Set<{ readonly cut: () => void; readonly begun: number; bytes: number }>();
  readonly #now: () => number;
  #looks: NodeJS.Timeout | undefined;

  /**
   * @param most bytes of all bodies together, more than one may have
   * @param now milliseconds of a clock that nobody sets
   */
  constructor(most: number, now = (): number => performance.now()) {
    this.#memory = new Slots(most);
    this.#now = now;
  }

  /**
   * Waits until there is room for a body.
   *
   * @param length its bytes, or as many as it may have
   * @param cut disconnects its client
   */
  async enter(length: number, cut: () => void): Promise<LargeBody> {
    const order = orderOf(length, this.#now());
    this.#waiting += 1;
    // After a stall, what has come meanwhile is read first.
    this.#looks ??= setInterval(() => setImmediate(() => this.#cutSlow()), lookEveryMs).unref();
    const room = await this.#memory.enter({ weight: length, order: () => order });
    this.#waiting -= 1;
    if (this.#waiting === 0) {
      clearInterval(this.#looks);
      this.#looks = undefined;
    }
    const body = { cut, begun: this.#now(), bytes: 0 };
    this.#incomplete.add(body);
    const complete = (bytes: number): void => {
      this.#incomplete.delete(body);
      room.reduceTo(bytes);
    };
    return {
      received: (bytes) => {
        body.bytes += bytes;
      },
      complete,
      [Symbol.dispose]: () => complete(0),
    };
  }

  #cutSlow(): void {
    for (const { cut, begun, bytes } of this.#incomplete) {
      const age = this.#now() - begun;
      if (age > patienceMs && bytes < slowRate * age) {
        cut();
      }
    }
  }
}

/** Milliseconds of queueing that each doubling above 8 KiB adds: 6.3 s for a body of 4 MiB. */
const delayPerDoublingMs = 700;

/** The order of a body that comes now: a crowd of long ones does not hold up others. */
function orderOf(length: number, now: number): number {
  return now + delayPerDoublingMs * Math.log2(length / smallBodyBytes);
}

/** Turns at the thread. */
const turns = new Slots(1);

/** The thread, which starts with the first large body. */
let thread: Piscina<ConversionTask, ConversionOutcome> | undefined;

function startedThread(): Piscina<ConversionTask, ConversionOutcome> {
  if (thread === undefined) {
    const { Piscina } = require("piscina") as typeof import("piscina");
    thread = new Piscina({
      filename: new URL("./conversion-thread.js", import.meta.url).href,
      name: "convertBody",
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: idleMs,
      resourceLimits,
    });
    thread.on("error", () => {}); // The next task replaces a thread that ended idle.
  }
  return thread;
}

/**
 * Converts a body in a worker thread.
 *
 * @throws the conversion's SockerlessError
 */
export async function convertInThread(
  task: ConversionTask,
): Promise<Exclude<ConversionOutcome, { readonly error: ErrorData }>> {
  const order = orderOf(task.bytes.length, performance.now());
  using _turn = await turns.enter({ order: () => order });
  const outcome = await startedThread()
    .run(task)
    .catch((error: unknown) => {
      throw systemError("a body could not be converted", error);
    });
  if ("error" in outcome) {
    throw new SockerlessError(outcome.error.kind, outcome.error.message);
  }
  return outcome;
}
