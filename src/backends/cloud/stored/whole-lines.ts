/** Lines in dockerd's form: complete, with long ones split. */
import type { LogPiece } from "../contract/cloud-log.ts";
import { newline } from "./log-pieces.ts";
import type { LogRecord } from "./log-record.ts";

/** Bytes after which dockerd splits a line. */
export const maxPiece = 16 * 1024;

interface OpenLine {
  readonly timeNs: bigint;
  readonly held: Uint8Array[];
  bytes: number;
}

/**
 * Joins pieces to lines, in the order of their ends; a line longer than 16 KiB becomes pieces of that size, each
 * reported as a line. Lines that follow each other share a piece of up to 16 KiB.
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
        const most = data.subarray(at, at + maxPiece - line.bytes);
        const ended = most.lastIndexOf(newline) + 1;
        const part = ended > 0 ? most.subarray(0, ended) : most;
        line.held.push(part);
        line.bytes += part.length;
        at += part.length;
        open.set(stream, line);
        if (line.bytes === maxPiece || ended > 0) {
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
