/**
 * Fewer chunks in a stream whose source pushes many small ones: a chunk takes some hundred bytes besides its own, and may
 * be a view of 64 KiB that were received at once, all of which it keeps while it waits.
 */
import type { Readable } from "node:stream";

/** The `highWaterMark` of a socket that is only joined to another: what the other has no room for waits in the kernel. */
export const joinedHighWaterMark = 1;

/** Chunks of fewer bytes are copied, one after another; larger ones keep four times their bytes at most. */
const smallBytes = 16 * 1024;
/** Bytes that are allocated for copies at a time: as many as wait or came in this tick, within these. */
const [leastPack, mostPack] = [4 * 1024, 64 * 1024];

/**
 * Makes a stream join the small chunks that are pushed to it in one tick, and those that are not read at once.
 *
 * @param stream has a source that pushes, whether or not it is asked
 */
export function packWaiting(stream: Readable): void {
  const [push, read] = [stream.push.bind(stream), stream.read.bind(stream)];
  const destroy = stream.destroy.bind(stream);
  let pack = Buffer.alloc(0);
  let used = 0;
  /** Small chunks' bytes of this tick. */
  let came = 0;
  const pass = (): void => {
    if (used > 0) {
      const packed = pack.subarray(0, used);
      pack = pack.subarray(used);
      used = 0;
      push(packed);
      forget();
    }
  };
  const endTick = (): void => {
    came = 0;
    if (stream.readableLength === 0) {
      pass(); // Otherwise the next read passes it, with what waits.
    }
  };
  const add = (chunk: Uint8Array): boolean => {
    if (came === 0) {
      process.nextTick(endTick);
    }
    came += chunk.length;
    for (let added = 0; added < chunk.length; ) {
      if (used === pack.length) {
        pass();
        const bytes = Math.max(leastPack, stream.readableLength, came);
        pack = Buffer.allocUnsafeSlow(Math.min(mostPack, bytes));
      }
      const part = chunk.subarray(added, added + pack.length - used);
      pack.set(part, used);
      used += part.length;
      added += part.length;
    }
    return stream.readableLength + used < stream.readableHighWaterMark;
  };
  const pushPacked = (chunk: Uint8Array | null): boolean => {
    const isReadAtOnce = stream.readableFlowing === true && stream.readableLength === 0;
    if (chunk !== null && chunk.length < (isReadAtOnce ? leastPack : smallBytes)) {
      return add(chunk);
    }
    pass();
    return push(chunk);
  };
  /** Keeps no more than the least while nothing waits: a connection may be idle for days. */
  const forget = (): void => {
    if (used === 0 && stream.readableLength === 0 && pack.buffer.byteLength > leastPack) {
      pack = Buffer.alloc(0);
    }
  };
  const readPacked = (size?: number): unknown => {
    pass();
    const chunk: unknown = read(size);
    forget();
    return chunk;
  };
  const destroyPacked = (error?: Error): Readable => {
    pass(); // Bytes that came before the end may still be read.
    return destroy(error);
  };
  Object.assign(stream, { push: pushPacked, read: readPacked, destroy: destroyPacked });
}
