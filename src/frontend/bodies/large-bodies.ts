/**
 * Conversion of large bodies in a worker thread: a hostile body of 4 MB would block the event loop for a second. One is
 * converted at a time, and few are held in memory.
 */
import { Worker } from "node:worker_threads";

import { type ErrorData, SockerlessError, systemError } from "../../common/errors.ts";
import type { ConversionName } from "./conversions.ts";
import { Slots } from "../http/slots.ts";

/** Milliseconds after which an incomplete body loses its slot for large ones. */
const bodyLimitMs = 60_000;

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

/** Slots for large bodies in memory. */
const places = new Slots(32);
/** Slots for converting threads. */
const threads = new Slots(1);

/**
 * Reads a large body once there is a free slot.
 *
 * @param cut disconnects a client that does not send its body
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
 * Converts a body in a worker thread.
 *
 * @throws the conversion's SockerlessError
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
    worker.once("exit", () => reject(systemError("a body could not be converted"))); // No effect after a message.
  });
}
