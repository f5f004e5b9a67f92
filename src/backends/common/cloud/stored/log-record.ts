/** Log records as agents write them (docs/formats.md, "Log records"), read. */
import { systemError } from "../../../../common/errors.ts";
import { Stream } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { crc32c } from "./crc32c.ts";

/** One chunk of output. */
export interface LogRecord {
  readonly stream: Stream.STDOUT | Stream.STDERR;
  /** Unix time in nanoseconds. */
  readonly timeNs: bigint;
  /** The stream's first record in one run of the container: an unfinished line of an earlier run ends before it. */
  readonly fresh: boolean;
  readonly data: Uint8Array;
}

const magic = 0x4c53;
const headerBytes = 20;
const checkedBytes = 16;
const trailerBytes = 4;
/** The most that one record holds. */
const maxData = 1024 * 1024;

/** A record with its bytes as they stand in the file. */
export interface RawRecord extends LogRecord {
  readonly bytes: Uint8Array;
}

/**
 * The records of a log file, whose bytes come in chunks of any size.
 *
 * @throws system: what comes is not a sequence of whole records
 */
export async function* readRecords(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<RawRecord> {
  let rest: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    let at = 0;
    for (;;) {
      const record = recordAt(rest.subarray(at));
      if (record === undefined) {
        break;
      }
      at += record.bytes.length;
      yield record;
    }
    rest = rest.subarray(at);
  }
  if (rest.length > 0) {
    throw damaged("it ends within a record");
  }
}

/** The record that the bytes begin with; undefined: more are needed. */
function recordAt(bytes: Buffer): RawRecord | undefined {
  if (bytes.length < headerBytes) {
    return undefined;
  }
  const stream = bytes.readUInt8(2);
  const length = bytes.readUInt32LE(4);
  if (bytes.readUInt16LE(0) !== magic || (stream !== Stream.STDOUT && stream !== Stream.STDERR)) {
    throw damaged("no record begins where one should");
  }
  if (length === 0 || length > maxData) {
    throw damaged(`a record of ${length} bytes`);
  }
  const end = headerBytes + length + trailerBytes;
  if (bytes.length < end) {
    return undefined;
  }
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

function damaged(reason: string): Error {
  return systemError(`the stored log is damaged: ${reason}`);
}
