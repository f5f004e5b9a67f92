/**
 * Slows peers that answer in many small frames: each costs the thread microseconds, whatever it carries. A window bounds
 * bytes alone, and a frame may have one.
 */
import type { Readable } from "node:stream";

import { Allowance } from "../common/allowance.ts";

/** Frames of fewer bytes count. */
const smallBytes = 256;
const mostAtOnce = 1_000;
/** Milliseconds of a frame: 20,000 a second, some percent of the thread. */
const refillMs = 0.05;
/** Longest time before a stream is looked at again. */
const longestWaitMs = 1_000;

/**
 * The small frames of a session. Beyond the allowance its streams' windows are not opened again until they have grown
 * back; what the windows let through arrives at once, so that a stream of less than its window is never late.
 */
export class SmallFrames {
  readonly #allowance = new Allowance(mostAtOnce, refillMs);

  /** True while the windows are not opened again. */
  get areTooMany(): boolean {
    return this.#allowance.waitMs > 0;
  }

  /** @param stream makes a chunk of each frame, and opens its window when it is asked for more */
  watch(stream: Readable): void {
    const [push, read] = [stream.push.bind(stream), stream._read.bind(stream)];
    let waits = false;
    const readLater = (bytes: number): void => {
      if (waits) {
        return;
      }
      const { waitMs } = this.#allowance;
      if (waitMs === 0 || stream.destroyed) {
        read(bytes);
        return;
      }
      waits = true;
      setTimeout(
        () => {
          waits = false;
          readLater(bytes);
        },
        Math.min(waitMs, longestWaitMs),
      ).unref();
    };
    const countAndPush = (chunk: Uint8Array | null): boolean => {
      const isGranted = chunk === null || chunk.length >= smallBytes || this.#allowance.take();
      return push(chunk) && isGranted;
    };
    Object.assign(stream, { push: countAndPush, _read: readLater });
  }
}
