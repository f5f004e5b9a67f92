/**
 * Conversion of large bodies in a thread of its own: a hostile body of 4 MB would keep everybody else waiting
 * for a second. One is converted at a time, and few are in memory.
 */
import { Worker } from "node:worker_threads";

import { type ErrorData, SockerlessError, systemError } from "../../common/errors.ts";
import type { ConversionName } from "./conversions.ts";
import { Slots } from "../http/slots.ts";

/** Milliseconds for which a body that does not come holds one of the places for large ones. */
const bodyLimitMs = 60_000;

/** A body of 4 MB becomes at most some hundred bytes a value. */
const resourceLimits = { maxOldGenerationSizeMb: 512, stackSizeMb: 4 } as const;

/** A large body and the name of its conversion, as given to the thread. */
export interface ConversionTask {
  readonly name: ConversionName;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly isOptional: boolean;
}

/** The thread's answer: the encoded fields, or why there are none. */
export type ConversionOutcome =
  | { readonly fields: Uint8Array; readonly warnings: readonly string[] }
  | { readonly error: ErrorData };

/** Places for large bodies in memory. */
const places = new Slots(32);
/** Places for threads that convert. */
const threads = new Slots(1);

/**
 * Reads a large body once there is a place for it.
 *
 * @param cut ends a client that does not send its body
 */
export async function withLargeBody<Result>(cut: () => void, read: () => Promise<Result>): Promise<Result> {
  using _place = await places.enter();
  const limit = setTimeout(cut, bodyLimitMs);
  try {
    return await read();
  } finally {
    clearTimeout(limit);
  }
}

/**
 * Converts a body in a thread.
 *
 * @throws SockerlessError that the conversion threw
 */
export async function convertInThread(
  task: ConversionTask,
): Promise<Exclude<ConversionOutcome, { readonly error: ErrorData }>> {
  using _thread = await threads.enter();
  const outcome = await outcomeOf(
    new Worker(new URL("./conversion-thread.js", import.meta.url), { workerData: task, resourceLimits }),
  );
  if ("error" in outcome) {
    throw new SockerlessError(outcome.error.kind, outcome.error.message);
  }
  return outcome;
}

function outcomeOf(worker: Worker): Promise<ConversionOutcome> {
  return new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", (error) => reject(systemError("a body could not be converted", error)));
    worker.once("exit", () => reject(systemError("a body could not be converted"))); // After a message it changes nothing.
  });
}
