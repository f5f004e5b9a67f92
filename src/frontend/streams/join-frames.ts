/** Fewer messages of a WebSocket whose client's bytes are a stream: it may send each byte as a message. */
import type { Readable } from "node:stream";

import { pingAllowance } from "../../common/allowance.ts";

/** The first byte of a whole binary message. */
const binary = 0x82;
/** The part of a frame's first byte that tells its kind, and the last kind of data: continuation, text, binary. */
const [kindBits, lastDataKind] = [0x7f, 2];
/** The bit of the second byte by which a mask follows the length. */
const maskBit = 0x80;
const maskBytes = 4;
/** Values of the short length in whose place a longer one follows, of two or eight bytes. */
const [lengthOf2, lengthOf8] = [126, 127];

/**
 * Makes a connection deliver the data of a client's frames as one message for each chunk that arrives. Control frames, and
 * what is no frame of a client's, are delivered as they come; too many of them cut the connection.
 *
 * @returns the frames that it has read before
 */
export function joinFrames(connection: Readable): Buffer {
  const frames = new FrameJoiner();
  const push = connection.push.bind(connection);
  const join = (chunk: Buffer): Buffer => {
    const joined = frames.join(chunk);
    if (joined === undefined) {
      connection.destroy();
    }
    return joined ?? Buffer.alloc(0);
  };
  const pushJoined = (chunk: Buffer | null): boolean => push(chunk === null ? null : join(chunk));
  const waiting = connection.read() as Buffer | null;
  Object.assign(connection, { push: pushJoined });
  return join(waiting ?? Buffer.alloc(0));
}

class FrameJoiner {
  /** The beginning of a header that is incomplete. */
  #header = Buffer.alloc(0);
  /** Bytes of the current frame that are still to come. */
  #left = 0;
  #isData = false;
  /** The data's mask: that of the next byte is the lowest, and those of later ones follow. */
  #mask = 0;
  readonly #others = pingAllowance();

  /** @returns undefined if too many frames have no data */
  join(chunk: Buffer): Buffer | undefined {
    const bytes = Buffer.concat([this.#header, chunk]);
    const joined: Buffer[] = [];
    let at = 0;
    // Data, moved together to where the first of them were.
    let [from, to] = [0, 0];
    const endMessage = (): void => {
      if (to > from) {
        joined.push(headerOf(to - from), bytes.subarray(from, to));
      }
    };
    for (let header = 0; header >= 0; header = this.#begin(bytes, at)) {
      const end = Math.min(at + header + this.#left, bytes.length);
      this.#left -= end - at - header;
      if (this.#isData) {
        for (at += header; at < end; at++) {
          bytes[to++] = (bytes[at] ?? 0) ^ this.#mask;
          this.#mask = (this.#mask >>> 8) | (this.#mask << 24);
        }
      } else {
        if (header > 0 && !this.#others.take()) {
          return undefined;
        }
        endMessage();
        joined.push(bytes.subarray(at, end));
        [at, from, to] = [end, end, end];
      }
    }
    endMessage();
    this.#header = Buffer.from(bytes.subarray(at));
    return Buffer.concat(joined);
  }

  /** Takes up the frame that begins there. @returns the length of its header; -1: it is incomplete */
  #begin(bytes: Buffer, at: number): number {
    const [first, second] = [bytes[at] ?? 0, bytes[at + 1] ?? 0];
    const short = second & ~maskBit;
    const long = short === lengthOf2 ? 2 : short === lengthOf8 ? 8 : 0;
    const mask = 2 + long;
    const length = mask + (second >= maskBit ? maskBytes : 0);
    if (at + length > bytes.length) {
      return -1;
    }
    this.#left = short;
    if (long > 0) {
      this.#left = long === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    }
    this.#isData = second >= maskBit && (first & kindBits) <= lastDataKind;
    this.#mask = this.#isData ? bytes.readInt32LE(at + mask) : 0;
    return length;
  }
}

/** The header of a message whose bytes are masked with zeros. */
function headerOf(length: number): Buffer {
  const header = Buffer.alloc(2 + 8 + maskBytes);
  header.set([binary, maskBit | lengthOf8]);
  header.writeBigUInt64BE(BigInt(length), 2);
  return header;
}
