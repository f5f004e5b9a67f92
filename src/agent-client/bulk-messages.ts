/**
 * Messages with bulk data, encoded and decoded by hand: the payload is copied once, from HTTP/2's buffer to its
 * destination, and never becomes an object. The proto fixes their field order for this purpose. protobuf-es handles all
 * other messages.
 *
 * All have the same layout: an outer message with one field (the oneof's tag and the inner length); in it, in this
 * order, an optional stream number, an optional offset (absent if 0, as in proto3) and the data.
 */

const varintMore = 0x80;
const varintBits = 0x7f;

/** The tags of one kind of bulk message; a tag is `field number << 3 | wire type`. */
export interface BulkShape {
  /** The channel of each outer tag; `fromStream` if the inner stream number is the channel. */
  readonly channelOfTag: ReadonlyMap<number, number | "fromStream">;
  readonly streamTag: number | undefined;
  readonly offsetTag: number;
  readonly dataTag: number;
}

/** Channel numbers of Docker's frame headers. */
const stdoutChannel = 1;
/** See {@link stdoutChannel}. */
const stderrChannel = 2;
/** Frames of both channels with their headers; only in logs. */
export const framesChannel = 3;

/** `SessionResponse.stdout` and `.stderr`. */
export const sessionOutput: BulkShape = {
  channelOfTag: new Map([
    [0x12, stdoutChannel],
    [0x1a, stderrChannel],
  ]),
  streamTag: undefined,
  offsetTag: 0x08,
  dataTag: 0x12,
};

/** `LogsResponse.chunk`. */
export const logsOutput: BulkShape = {
  channelOfTag: new Map([[0x0a, "fromStream"]]),
  streamTag: 0x08,
  offsetTag: 0x10,
  dataTag: 0x1a,
};

/** The same where a chunk may be records, which are of no stream. */
export const recordsOutput: BulkShape = { ...logsOutput, channelOfTag: new Map([[0x0a, stdoutChannel]]) };

/** `ArchiveGetResponse.chunk`. */
export const archiveOutput: BulkShape = {
  channelOfTag: new Map([[0x12, stdoutChannel]]),
  streamTag: undefined,
  offsetTag: 0x08,
  dataTag: 0x12,
};

/** `ExportResponse.chunk`. */
export const exportOutput: BulkShape = { ...archiveOutput, channelOfTag: new Map([[0x0a, stdoutChannel]]) };

/** `TunnelResponse.data`. */
export const tunnelOutput: BulkShape = archiveOutput;

/** The outer tag of `SessionRequest.stdin`. */
export const stdinTag = 0x1a;
/** The outer tag of `ArchivePutRequest.chunk`. */
export const archiveChunkTag = 0x12;

/** The outer tag of `TunnelRequest.data`. */
export const tunnelDataTag = 0x12;

/** Upper limit for the bytes of a bulk message before its data. */
export const maxBulkHead = 32;

/** The fields of a bulk message before its data. */
export interface BulkHead {
  readonly channel: number;
  /** Offset of the data's first byte in its direction of the stream. */
  readonly offset: number;
  /** Index of the data in the message; the data extends to the message's end. */
  readonly dataStart: number;
}

/**
 * Decodes the fields before the data.
 *
 * @param head the message's first bytes: all of them, or at least {@link maxBulkHead}
 * @param messageLength of the whole message
 * @returns undefined if it is another message, or a bulk message in another form, for protobuf-es to decode
 */
export function decodeBulkHead(
  head: Uint8Array,
  messageLength: number,
  shape: BulkShape,
): BulkHead | undefined {
  const reader = new VarintReader(head);
  const byTag = shape.channelOfTag.get(reader.next());
  if (byTag === undefined || reader.next() !== messageLength - reader.position) {
    return undefined;
  }
  let channel = byTag === "fromStream" ? 0 : byTag;
  let offset = 0;
  let tag = reader.next();
  if (shape.streamTag !== undefined && tag === shape.streamTag) {
    channel = reader.next();
    tag = reader.next();
  }
  if (tag === shape.offsetTag) {
    offset = reader.next();
    tag = reader.next();
  }
  if (tag !== shape.dataTag || reader.next() !== messageLength - reader.position || reader.overrun) {
    return undefined;
  }
  if (channel < stdoutChannel || channel > framesChannel) {
    return undefined;
  }
  return { channel, offset, dataStart: reader.position };
}

/**
 * Encodes the fields of a bulk request before its data, with gRPC's prefix of five bytes.
 *
 * @param outerTag {@link stdinTag}, {@link archiveChunkTag} or {@link tunnelDataTag}
 */
export function encodeBulkHead(outerTag: number, offset: number, dataLength: number): Uint8Array {
  const inner: number[] = [];
  if (offset > 0) {
    inner.push(0x08);
    appendVarint(inner, offset);
  }
  inner.push(0x12);
  appendVarint(inner, dataLength);
  const outer: number[] = [outerTag];
  appendVarint(outer, inner.length + dataLength);
  const head = Buffer.allocUnsafe(5 + outer.length + inner.length);
  head[0] = 0;
  head.writeUInt32BE(outer.length + inner.length + dataLength, 1);
  head.set(outer, 5);
  head.set(inner, 5 + outer.length);
  return head;
}

/** Reads varints up to 2^53; past the end it returns zeros and sets `overrun`. */
class VarintReader {
  readonly #bytes: Uint8Array;
  position = 0;
  overrun: boolean = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  next(): number {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = this.#bytes[this.position++];
      if (byte === undefined || factor > 2 ** 49) {
        this.overrun = true;
        return 0;
      }
      value += (byte & varintBits) * factor;
      if ((byte & varintMore) === 0) {
        return value;
      }
      factor *= 128;
    }
  }
}

function appendVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest > varintBits) {
    bytes.push((rest % 128) | varintMore);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
}
