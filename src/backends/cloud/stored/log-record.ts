/** Reader for agents' log records (docs/formats.md, "Log records"). */
import { systemError } from "../../../common/errors.ts";
import { FillingBytes } from "../../../common/filling-bytes.ts";
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { crc32c } from "../../../common/crc32c.ts";

/** One chunk of output. */
export interface LogRecord {
  readonly stream: Stream.STDOUT | Stream.STDERR;
  /** Unix time in nanoseconds. */
  readonly timeNs: bigint;
  /**
   * True for the stream's first record in a run of the container: an unfinished line of an earlier run ends before it.
   */
  readonly fresh: boolean;
  readonly data: Uint8Array;
}

const magic = 0x4c53;
const headerBytes = 20;
const checkedBytes = 16;
const trailerBytes = 4;
/** Maximum bytes of a record's data: agents write no larger ones, and each reader who does not go on holds one. */
const maxData = 64 * 1024 - headerBytes - trailerBytes;

/** A record with its original bytes. */
export interface RawRecord extends LogRecord {
  readonly bytes: Uint8Array;
}

/**
 * The records of a log file, in chunks of any size, as an untrusted agent may split them arbitrarily.
 *
 * @throws system: not a sequence of whole records
 */
export async function* readRecords(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<RawRecord> {
  /** The record that continues in the next chunk: first its header, then all of it. */
  let cut: FillingBytes | undefined;
  for await (const chunk of chunks) {
    let at = 0;
    while (at < chunk.length) {
      let record: RawRecord | undefined;
      if (cut === undefined) {
        record = recordAt(chunk.subarray(at));
        at += record?.bytes.length ?? 0;
        cut = record === undefined ? new FillingBytes(headerBytes) : undefined;
      } else {
        at = cut.take(chunk, at);
        record = cut.isFull ? recordAt(cut.bytes) : undefined;
        cut = record === undefined ? grown(cut) : undefined;
      }
      if (record !== undefined) {
        yield record;
      }
    }
  }
  if (cut !== undefined) {
    throw damaged("it ends within a record");
  }
}

/** The buffer for the rest of a record, sized by the header once that is complete. */
function grown(cut: FillingBytes): FillingBytes {
  if (!cut.isFull) {
    return cut;
  }
  const whole = new FillingBytes(lengthOf(viewOf(cut.bytes)));
  whole.take(cut.bytes, 0);
  return whole;
}

/** Size of the record with this header. @throws system: invalid header */
function lengthOf(header: Buffer): number {
  const stream = header.readUInt8(2);
  const length = header.readUInt32LE(4);
  if (header.readUInt16LE(0) !== magic || (stream !== Stream.STDOUT && stream !== Stream.STDERR)) {
    throw damaged("no record begins where one should");
  }
  if (length === 0 || length > maxData) {
    throw damaged(`a record of ${length} bytes`);
  }
  return headerBytes + length + trailerBytes;
}

/** The record at the beginning of some bytes; undefined if more are needed. @throws system: not a record */
function recordAt(source: Uint8Array): RawRecord | undefined {
  const bytes = viewOf(source);
  if (bytes.length < headerBytes) {
    return undefined;
  }
  const end = lengthOf(bytes);
  if (bytes.length < end) {
    return undefined;
  }
  const stream = bytes.readUInt8(2) as LogRecord["stream"];
  const length = end - headerBytes - trailerBytes;
  const data = bytes.subarray(headerBytes, headerBytes + length);
  const sum = crc32c(data, crc32c(bytes.subarray(0, checkedBytes)));
  if (bytes.readUInt32LE(checkedBytes) !== sum || bytes.readUInt32LE(headerBytes + length) !== length) {
    throw damaged("a record's checksum is wrong");
  }
  return {
    stream,
    timeNs: bytes.readBigInt64LE(8),
    fresh: (bytes.readUInt8(3) & 1) === 1,
    data,
    bytes: bytes.subarray(0, end),
  };
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(reason: string): Error {
  return systemError(`the stored log is damaged: ${reason}`);
}
