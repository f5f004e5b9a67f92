/**
 * Which part of a log a client is shown, and in what form: the same rules as the agent's own reader. A line's time is
 * that of the record in which it began; `tail` counts the lines of both streams in the order in which they end, also
 * where one stream alone is shown.
 */
import { Stream } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LogRecord } from "./log-record.ts";

/** What is shown. */
export interface LogSelection {
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Each line gets its time (RFC 3339, nanoseconds, UTC) and a space before it. */
  readonly timestamps: boolean;
  /** Inclusive. */
  readonly sinceNs: bigint | undefined;
  /** Inclusive. */
  readonly untilNs: bigint | undefined;
  /** Put before each line, after its time. */
  readonly prefix: string;
}

/** Output as it is sent: at most {@link maxChunk} bytes of one stream. */
export interface LogOutput {
  readonly stream: LogRecord["stream"];
  readonly data: Uint8Array;
}

const maxChunk = 1024 * 1024;
const newline = 0x0a;

/** A part of a line, or a whole one. */
export interface LogPiece {
  readonly stream: LogRecord["stream"];
  /** Of the record in which the line began. */
  readonly timeNs: bigint;
  readonly data: Uint8Array;
  /** It begins its line. */
  readonly begins: boolean;
  /** It ends its line, with or without a newline. */
  readonly ends: boolean;
}

/** Cuts records into lines and parts of lines. A line that nothing ends does so at the end of the log. */
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

/** The last lines of a log that can be read again and again. Three readings cost less than remembering lines. */
export async function* lastLines(
  open: () => AsyncIterable<LogRecord>,
  count: bigint,
): AsyncGenerator<LogPiece> {
  let begun = 0n;
  for await (const piece of piecesOf(open())) {
    begun += piece.begins ? 1n : 0n;
  }
  // Lines of one stream end in the order in which they begin: how many of each are left out says which.
  let left = begun > count ? begun - count : 0n;
  const skipped = new Map<LogRecord["stream"], bigint>();
  const unended = new Set<LogRecord["stream"]>();
  const skip = (stream: LogRecord["stream"]): void => {
    if (left > 0n) {
      left -= 1n;
      skipped.set(stream, (skipped.get(stream) ?? 0n) + 1n);
    }
  };
  for await (const { stream, begins, ends } of piecesOf(open())) {
    if (left === 0n) {
      break;
    }
    if (begins && unended.delete(stream)) {
      skip(stream); // A run's last line that had no end.
    }
    if (ends) {
      unended.delete(stream);
      skip(stream);
    } else {
      unended.delete(stream); // The order is that in which they were last added to.
      unended.add(stream);
    }
  }
  for (const stream of unended) {
    skip(stream);
  }
  for await (const piece of piecesOf(open())) {
    const still = skipped.get(piece.stream) ?? 0n;
    if (piece.begins && still === 0n) {
      skipped.set(piece.stream, -1n); // From here on all is shown.
    } else if (piece.begins && still > 0n) {
      skipped.set(piece.stream, still - 1n);
      continue;
    }
    if ((skipped.get(piece.stream) ?? 0n) === -1n) {
      yield piece;
    }
  }
}

/** What of some pieces is shown, in chunks. @throws what the pieces throw, behind all that came before */
export async function* shown(
  pieces: AsyncIterable<LogPiece>,
  selection: LogSelection,
): AsyncGenerator<LogOutput> {
  const wanted = (stream: LogRecord["stream"]): boolean =>
    stream === Stream.STDOUT ? selection.stdout : selection.stderr;
  let held: Uint8Array[] = [];
  let bytes = 0;
  let current: LogRecord["stream"] = Stream.STDOUT;
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const piece of pieces) {
      if (!wanted(piece.stream) || !isInTime(piece, selection)) {
        continue;
      }
      for (const part of partsOf(piece, selection)) {
        if (bytes > 0 && (piece.stream !== current || bytes + part.length > maxChunk)) {
          yield { stream: current, data: Buffer.concat(held) };
          [held, bytes] = [[], 0];
        }
        current = piece.stream;
        held.push(part);
        bytes += part.length;
      }
    }
  } catch (error) {
    failure = { error };
  }
  if (bytes > 0) {
    yield { stream: current, data: Buffer.concat(held) };
  }
  if (failure !== undefined) {
    throw failure.error;
  }
}

function isInTime({ timeNs }: LogPiece, { sinceNs, untilNs }: LogSelection): boolean {
  return (sinceNs === undefined || timeNs >= sinceNs) && (untilNs === undefined || timeNs <= untilNs);
}

function partsOf({ begins, timeNs, data }: LogPiece, { timestamps, prefix }: LogSelection): Uint8Array[] {
  const head = begins ? `${timestamps ? `${formatTime(timeNs)} ` : ""}${prefix}` : "";
  return head === "" ? [data] : [Buffer.from(head), data];
}

/** RFC 3339 with nine digits, UTC. */
function formatTime(timeNs: bigint): string {
  const ns = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = new Date(Number((timeNs - ns) / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${ns.toString().padStart(9, "0")}Z`;
}
