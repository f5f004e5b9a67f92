/** Fewer chunks in a stream whose source pushes many small ones: each takes hundreds of bytes of memory. */
import { Readable } from "node:stream";

/**
 * Makes a stream join the chunks that are pushed to it in one tick.
 *
 * @param note called with each of them
 */
export function joinPushes(stream: Readable, note: (chunk: Uint8Array) => void = () => {}): void {
  let chunks: Uint8Array[] = [];
  let isWanted = true;
  const pass = (): void => {
    if (chunks.length > 0) {
      const joined = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      chunks = [];
      isWanted = Readable.prototype.push.call(stream, joined);
    }
  };
  stream.push = (chunk: Uint8Array | null) => {
    if (chunk === null) {
      pass();
      return Readable.prototype.push.call(stream, null);
    }
    note(chunk);
    if (chunks.push(chunk) === 1) {
      process.nextTick(pass);
    }
    return isWanted;
  };
}
