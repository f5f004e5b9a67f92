/**
 * Conversion of large bodies in a worker thread: a hostile body of 4 MB would block the event loop for a second. One is
 * converted at a time, and all that are in memory together are bounded.
 */
import { createRequire } from "node:module";

import type { Piscina } from "piscina";

import { type ErrorData, SockerlessError, systemError } from "../../common/errors.ts";
import { Slots } from "../http/slots.ts";
import type { ConversionName } from "./conversions.ts";

const require = createRequire(import.meta.url);

/** Milliseconds after which an incomplete body is cut. */
const bodyLimitMs = 60_000;

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

/** Large bodies in memory: the incomplete ones, and those that wait for their conversion. */
export class LargeBodies {
  readonly #most: number;
  #total = 0;
  /** The bytes of each that have come. */
  readonly #incomplete = new Map<LargeBody, number>();
  readonly #complete = new Set<LargeBody>();
  #freed = Promise.withResolvers<void>();

  /** @param most bytes of all bodies together, more than one may have */
  constructor(most: number) {
    this.#most = most;
  }

  /** @param cut disconnects the client that sends the body */
  begin(cut: () => void): LargeBody {
    let length = 0;
    const body: LargeBody = {
      grow: async (bytes) => {
        while (this.#incomplete.has(body) && this.#total + bytes > this.#most) {
          if (this.#complete.size > 0) {
            await this.#freed.promise;
          } else {
            this.#longest().cut();
          }
        }
        if (this.#incomplete.has(body)) {
          length += bytes;
          this.#total += bytes;
          this.#incomplete.set(body, length);
        }
      },
      complete: () => {
        clearTimeout(limit);
        this.#incomplete.delete(body);
        this.#complete.add(body);
      },
      cut: () => {
        body[Symbol.dispose]();
        cut();
      },
      [Symbol.dispose]: () => {
        body.complete();
        this.#complete.delete(body);
        this.#total -= length;
        length = 0;
        this.#freed.resolve();
        this.#freed = Promise.withResolvers();
      },
    };
    this.#incomplete.set(body, 0);
    const limit = setTimeout(() => body.cut(), bodyLimitMs);
    return body;
  }

  #longest(): LargeBody {
    return [...this.#incomplete].reduce((longest, each) => (each[1] > longest[1] ? each : longest))[0];
  }
}

/** One of {@link LargeBodies}. Disposed of once it is converted. */
export interface LargeBody extends Disposable {
  /**
   * Counts bytes that have come. Where all bodies together are too long, this waits until a complete one is disposed of;
   * if there is none, the longest incomplete one is cut. So nobody holds up others by sending slowly.
   */
  grow(bytes: number): Promise<void>;
  /** Nothing more comes; the body is not cut from now on. */
  complete(): void;
  cut(): void;
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
  // The shortest first: a crowd of long ones does not hold up others.
  using _turn = await turns.enter({ order: task.bytes.length });
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
