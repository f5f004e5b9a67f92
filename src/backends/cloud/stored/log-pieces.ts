/** Lines, and parts of lines, in log records. */
import type { LogPiece } from "../contract/cloud-log.ts";
import type { LogRecord } from "./log-record.ts";

export const newline = 0x0a;

/**
 * Splits each record into the rest of its stream's open line and all that begins in it. An unterminated line ends with
 * the log.
 */
export async function* piecesOf(records: AsyncIterable<LogRecord>): AsyncGenerator<LogPiece> {
  const open = new Map<LogRecord["stream"], bigint>();
  for await (const { stream, timeNs, fresh, data } of records) {
    if (fresh) {
      open.delete(stream);
    }
    const begun = open.get(stream);
    const rest = begun === undefined ? 0 : endOfLine(data, 0);
    const ends = data.at(-1) === newline;
    if (begun !== undefined) {
      const endsHere = ends || rest < data.length;
      yield { stream, timeNs: begun, data: data.subarray(0, rest), begins: false, ends: endsHere };
    }
    if (rest < data.length) {
      yield { stream, timeNs, data: data.subarray(rest), begins: true, ends };
    }
    if (ends) {
      open.delete(stream);
    } else if (begun === undefined || rest < data.length) {
      open.set(stream, timeNs);
    }
  }
}

/** Number of lines that begin in a piece. */
export function linesBegun({ begins, data }: LogPiece): number {
  if (!begins) {
    return 0;
  }
  let lines = data.at(-1) === newline ? 0 : 1;
  for (let at = 0; at < data.length; at++) {
    lines += data[at] === newline ? 1 : 0;
  }
  return lines;
}

/** The position after the line at a position. Not by `indexOf`, whose call takes longer than most lines. */
export function endOfLine(data: Uint8Array, from: number): number {
  let at = from;
  while (at < data.length && data[at] !== newline) {
    at++;
  }
  return Math.min(at + 1, data.length);
}
