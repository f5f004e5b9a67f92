/**
 * Selects and formats the requested part of a log, by the same rules as the agent's own reader. A line's time is that
 * of the record in which it began; `tail` counts the lines of both streams in the order of their ends, even if only one
 * stream is shown.
 */
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LogPiece } from "../contract/cloud-log.ts";
import type { LogRecord } from "./log-record.ts";
import { frameOf } from "./whole-lines.ts";

/** A client's choice of output. */
export interface LogSelection {
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Whether to prefix each line with its time (RFC 3339, nanoseconds, UTC) and a space. */
  readonly timestamps: boolean;
  /** Inclusive. */
  readonly sinceNs: bigint | undefined;
  /** Inclusive. */
  readonly untilNs: bigint | undefined;
  /** Prefix of each line, after its time. */
  readonly prefix: string;
  /** Whether each piece, with its prefix, is one of Docker's frames. */
  readonly framed: boolean;
}

/** A chunk of output: at most {@link maxChunk} bytes of one stream, or of frames. */
export interface LogOutput {
  readonly stream: LogRecord["stream"] | Stream.FRAMES;
  readonly data: Uint8Array;
}

const maxChunk = 1024 * 1024;

/** The last lines of a rereadable log. Three passes cost less than buffering lines. */
export async function* lastLines(
  open: () => AsyncIterable<LogPiece>,
  count: bigint,
): AsyncGenerator<LogPiece> {
  let begun = 0n;
  for await (const piece of open()) {
    begun += piece.begins ? 1n : 0n;
  }
  // Lines of one stream end in the order in which they begin, so a count per stream determines the skipped ones.
  let left = begun > count ? begun - count : 0n;
  const skipped = new Map<LogRecord["stream"], bigint>();
  const unended = new Set<LogRecord["stream"]>();
  const begunIn = new Set<LogRecord["stream"]>();
  const skip = (stream: LogRecord["stream"]): void => {
    if (left > 0n) {
      left -= 1n;
      skipped.set(stream, (skipped.get(stream) ?? 0n) + 1n);
    }
  };
  for await (const { stream, begins, ends } of open()) {
    if (left === 0n) {
      break;
    }
    if (begins) {
      begunIn.add(stream);
    } else if (!begunIn.has(stream)) {
      continue; // The rest of a line whose beginning is missing in the log.
    }
    if (begins && unended.delete(stream)) {
      skip(stream); // The unterminated last line of a run.
    }
    if (ends) {
      unended.delete(stream);
      skip(stream);
    } else {
      unended.delete(stream); // Sets are ordered by insertion: here, by the last record of each stream.
      unended.add(stream);
    }
  }
  for (const stream of unended) {
    skip(stream);
  }
  for await (const piece of open()) {
    const still = skipped.get(piece.stream) ?? 0n;
    if (piece.begins && still === 0n) {
      skipped.set(piece.stream, -1n); // From here on everything is shown.
    } else if (piece.begins && still > 0n) {
      skipped.set(piece.stream, still - 1n);
      continue;
    }
    if ((skipped.get(piece.stream) ?? 0n) === -1n) {
      yield piece;
    }
  }
}

/**
 * Yields the selected output of some pieces in chunks.
 *
 * @throws the pieces' error, after all earlier output
 */
export async function* shown(
  pieces: AsyncIterable<LogPiece>,
  selection: LogSelection,
): AsyncGenerator<LogOutput> {
  const wanted = (stream: LogRecord["stream"]): boolean =>
    stream === Stream.STDOUT ? selection.stdout : selection.stderr;
  let held: Uint8Array[] = [];
  let bytes = 0;
  let current: LogOutput["stream"] = Stream.STDOUT;
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const piece of pieces) {
      if (!wanted(piece.stream) || !isInTime(piece, selection)) {
        continue;
      }
      const stream = selection.framed ? Stream.FRAMES : piece.stream;
      for (const part of partsOf(piece, selection)) {
        if (bytes > 0 && (stream !== current || bytes + part.length > maxChunk)) {
          yield { stream: current, data: Buffer.concat(held) };
          [held, bytes] = [[], 0];
        }
        current = stream;
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

function partsOf(
  { stream, begins, timeNs, data }: LogPiece,
  { timestamps, prefix, framed }: LogSelection,
): Uint8Array[] {
  const head = begins ? `${timestamps ? `${formatTime(timeNs)} ` : ""}${prefix}` : "";
  const parts = head === "" ? [data] : [Buffer.from(head), data];
  return framed ? [frameOf(stream, parts)] : parts;
}

/** RFC 3339 with nine digits, UTC. */
function formatTime(timeNs: bigint): string {
  const ns = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = new Date(Number((timeNs - ns) / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${ns.toString().padStart(9, "0")}Z`;
}
