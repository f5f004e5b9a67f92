/** Fewer messages of a WebSocket whose client's bytes are a stream: it may send each byte as a message. */
import type { Readable } from "node:stream";

/** Bytes of a header before the length and the mask that may follow. */
const leastHeader = 2;
/** Values of a header's short length in whose place a longer one follows, of two or eight bytes. */
const [lengthOf2, lengthOf8] = [126, 127];
const [maskBit, maskBytes] = [0x80, 4];
/** The first byte of a whole binary message. */
const binary = 0x82;
/** Bits of a frame's first byte that only its place in a message tells apart from others of data: continuation, text, binary. */
const [finalBit, lastDataOpcode] = [0x80, 2];

/**
 * Makes a connection deliver the data of a client's frames as one message for each chunk that arrives. Control frames, and
 * what is no frame of a client's, are delivered as they come.
 *
 * @param head bytes that have been read from it
 * @returns these, joined
 */
export function joinFrames(connection: Readable, head: Buffer): Buffer {
  const frames = new FrameJoiner();
  const push = connection.push.bind(connection);
  const pushJoined = (chunk: Buffer | null): boolean =>
    chunk === null ? push(null) : push(frames.join(chunk));
  const waiting = connection.read() as Buffer | null;
  Object.assign(connection, { push: pushJoined });
  return frames.join(Buffer.concat([head, waiting ?? Buffer.alloc(0)]));
}

class FrameJoiner {
  readonly #header = Buffer.alloc(leastHeader + 8 + maskBytes);
  #headerUsed = 0;
  #headerLength = leastHeader;
  /** Bytes of the frame that are still to come, of which so many have come. */
  #left = 0;
  #come = 0;
  #isData = false;

  /** The frames of a chunk, whose bytes are overwritten. */
  join(chunk: Buffer): Buffer {
    const joined: Buffer[] = [];
    let [from, to] = [0, 0];
    const endMessage = (): void => {
      if (to > from) {
        joined.push(headerOf(to - from), chunk.subarray(from, to));
      }
    };
    for (let at = 0; at < chunk.length; ) {
      const data = at + leastHeader + maskBytes;
      const length = (chunk[at + 1] ?? 0) ^ maskBit;
      const isWhole = length < lengthOf2 && data + length <= chunk.length;
      if (isWhole && this.#left + this.#headerUsed === 0 && isOfData(chunk[at] ?? 0)) {
        // In one step: there may be thousands of a byte.
        const mask = chunk.readInt32LE(data - maskBytes);
        for (at = data; at < data + length; at++) {
          chunk[to++] = (chunk[at] ?? 0) ^ (mask >> (8 * ((at - data) & 3)));
        }
        continue;
      }
      if (this.#left === 0) {
        this.#header[this.#headerUsed++] = chunk[at++] ?? 0;
        if (this.#isHeaderWhole() && !this.#isData) {
          endMessage();
          joined.push(Buffer.from(this.#header.subarray(0, this.#headerLength)));
          from = at;
          to = at;
        }
        continue;
      }
      const end = at + Math.min(this.#left, chunk.length - at);
      this.#left -= end - at;
      if (this.#isData) {
        const mask = this.#headerLength - maskBytes;
        for (; at < end; at++) {
          chunk[to++] = (chunk[at] ?? 0) ^ (this.#header[mask + (this.#come++ & 3)] ?? 0);
        }
      } else {
        joined.push(chunk.subarray(at, end));
        at = end;
        from = end;
        to = end;
      }
    }
    endMessage();
    return Buffer.concat(joined);
  }

  /** Takes up the frame whose header has come. */
  #isHeaderWhole(): boolean {
    const [first = 0, second = 0] = this.#header;
    const short = second & ~maskBit;
    if (this.#headerUsed === leastHeader) {
      const long = short === lengthOf2 ? 2 : short === lengthOf8 ? 8 : 0;
      this.#headerLength = leastHeader + long + (second >= maskBit ? maskBytes : 0);
    }
    if (this.#headerUsed < this.#headerLength) {
      return false;
    }
    this.#headerUsed = 0;
    this.#come = 0;
    this.#isData = second >= maskBit && isOfData(first);
    this.#left =
      short === lengthOf2
        ? this.#header.readUInt16BE(leastHeader)
        : short === lengthOf8
          ? Number(this.#header.readBigUInt64BE(leastHeader))
          : short;
    return true;
  }
}

/** True for the first byte of a part of a message, or of a whole one. */
function isOfData(first: number): boolean {
  return (first & ~finalBit) <= lastDataOpcode;
}

/** The header of a message whose bytes are masked with zeros. */
function headerOf(length: number): Buffer {
  const header = Buffer.alloc(leastHeader + 8 + maskBytes);
  header.set([binary, maskBit | lengthOf8]);
  header.writeBigUInt64BE(BigInt(length), leastHeader);
  return header;
}
