/** Lines, and parts of lines, in log records. */
import type { LogPiece } from "../contract/cloud-log.ts";
import type { LogRecord } from "./log-record.ts";

const newline = 0x0a;

/** Splits records into lines and parts of lines. An unterminated line ends with the log. */
export async function* piecesOf(records: AsyncIterable<LogRecord>): AsyncGenerator<LogPiece> {
  const open = new Map<LogRecord["stream"], bigint>();
  for await (const { stream, timeNs, fresh, data } of records) {
    if (fresh) {
      open.delete(stream);
    }
    for (let at = 0; at < data.length; ) {
      const found = data.indexOf(newline, at);
      const end = found === -1 ? data.length : found + 1;
      const begun = open.get(stream);
      yield {
        stream,
        timeNs: begun ?? timeNs,
        data: data.subarray(at, end),
        begins: begun === undefined,
        ends: found !== -1,
      };
      if (found === -1) {
        open.set(stream, begun ?? timeNs);
      } else {
        open.delete(stream);
      }
      at = end;
    }
  }
}
