/** Lines in dockerd's form: one by one, complete, with long ones split. */
import type { LogRecord } from "./log-record.ts";
import type { LogPiece } from "../contract/cloud-log.ts";

/** Bytes after which dockerd splits a line. */
const maxPiece = 16 * 1024;
const newline = 0x0a;

interface OpenLine {
  readonly timeNs: bigint;
  readonly held: Uint8Array[];
  bytes: number;
}

/**
 * Joins pieces to lines, in the order of their ends; a line longer than 16 KiB becomes pieces of that size, each
 * reported as a line.
 *
 * @throws the pieces' error, after all earlier lines
 */
export async function* wholeLines(pieces: AsyncIterable<LogPiece>): AsyncGenerator<LogPiece> {
  const open = new Map<LogRecord["stream"], OpenLine>();
  const take = (stream: LogRecord["stream"], { timeNs, held }: OpenLine): LogPiece => {
    open.delete(stream);
    return { stream, timeNs, data: Buffer.concat(held), begins: true, ends: true };
  };
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const { stream, timeNs, data, begins } of pieces) {
      const unended = open.get(stream);
      if (begins && unended !== undefined) {
        yield take(stream, unended); // Its run has ended.
      }
      for (let at = 0; at < data.length; ) {
        const line = open.get(stream) ?? { timeNs, held: [], bytes: 0 };
        const part = data.subarray(at, at + maxPiece - line.bytes);
        line.held.push(part);
        line.bytes += part.length;
        at += part.length;
        open.set(stream, line);
        if (line.bytes === maxPiece || part.at(-1) === newline) {
          yield take(stream, line);
        }
      }
    }
  } catch (error) {
    failure = { error };
  }
  for (const [stream, line] of open) {
    yield take(stream, line);
  }
  if (failure !== undefined) {
    throw failure.error;
  }
}

/** A line with Docker's frame header. */
export function frameOf(stream: LogRecord["stream"], parts: readonly Uint8Array[]): Uint8Array {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(
    parts.reduce((sum, { length }) => sum + length, 0),
    4,
  );
  return Buffer.concat([header, ...parts]);
}
