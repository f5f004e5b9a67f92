/**
 * Selects and formats the requested part of a log, by the same rules as the agent's own reader. A line's time is that
 * of the record in which it began; `tail` counts the lines of both streams in the order of their ends, even if only one
 * stream is shown.
 */
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LogPiece } from "../contract/cloud-log.ts";
import { endOfLine, linesBegun, newline } from "./log-pieces.ts";
import type { LogRecord } from "./log-record.ts";
import type { Pace } from "./pace.ts";
import { maxPiece } from "./whole-lines.ts";

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

/** As much as an agent sends at once: each reader who does not go on holds some of them. */
const maxChunk = 64 * 1024;
/** Bytes of the header of one of Docker's frames. */
const headerBytes = 8;
/** Bytes below which a loop copies faster than a call. */
const fewBytes = 64;

/** The last lines of a rereadable log. Three passes cost less than buffering lines. */
export async function* lastLines(
  open: () => AsyncIterable<LogPiece>,
  count: bigint,
): AsyncGenerator<LogPiece> {
  let begun = 0;
  for await (const piece of open()) {
    begun += linesBegun(piece);
  }
  // Lines of one stream end in the order in which they begin, so a count per stream determines the skipped ones.
  let left = Math.max(0, begun - Number(count));
  const skipped = new Map<LogRecord["stream"], number>();
  const unended = new Set<LogRecord["stream"]>();
  const begunIn = new Set<LogRecord["stream"]>();
  const skip = (stream: LogRecord["stream"], lines: number): void => {
    const most = Math.min(left, lines);
    left -= most;
    skipped.set(stream, (skipped.get(stream) ?? 0) + most);
  };
  for await (const piece of open()) {
    const { stream, begins, ends } = piece;
    if (left === 0) {
      break;
    }
    if (begins) {
      begunIn.add(stream);
    } else if (!begunIn.has(stream)) {
      continue; // The rest of a line whose beginning is missing in the log.
    }
    if (unended.delete(stream) && begins) {
      skip(stream, 1); // The unterminated last line of a run.
    }
    skip(stream, (begins ? linesBegun(piece) : 1) - (ends ? 0 : 1));
    if (!ends) {
      unended.add(stream); // Sets are ordered by insertion: here, by the last record of each stream.
    }
  }
  for (const stream of unended) {
    skip(stream, 1);
  }
  const shownIn = new Set<LogRecord["stream"]>();
  for await (const piece of open()) {
    const { stream, begins, data } = piece;
    if (shownIn.has(stream)) {
      yield piece;
    } else if (begins) {
      const still = skipped.get(stream) ?? 0;
      const lines = linesBegun(piece);
      skipped.set(stream, still - lines);
      if (lines > still) {
        shownIn.add(stream);
        yield { ...piece, data: afterLines(data, still) };
      }
    }
  }
}

function afterLines(data: Uint8Array, lines: number): Uint8Array {
  let at = 0;
  for (let line = 0; line < lines; line++) {
    at = endOfLine(data, at);
  }
  return data.subarray(at);
}

/**
 * Yields the selected output of some pieces in chunks.
 *
 * @throws the pieces' error, after all earlier output
 */
export async function* shown(
  pieces: AsyncIterable<LogPiece>,
  selection: LogSelection,
  pace: Pace,
): AsyncGenerator<LogOutput> {
  const wanted = (stream: LogRecord["stream"]): boolean =>
    stream === Stream.STDOUT ? selection.stdout : selection.stderr;
  const chunk = new Chunk(selection);
  let failure: { readonly error: unknown } | undefined;
  try {
    for await (const piece of pieces) {
      if (!wanted(piece.stream) || !isInTime(piece, selection)) {
        continue;
      }
      for (let at = chunk.add(piece, 0); at !== undefined; at = chunk.add(piece, at)) {
        const output = chunk.take();
        await pace.handle(output.data);
        yield output;
      }
    }
  } catch (error) {
    failure = { error };
  }
  if (!chunk.isEmpty) {
    yield chunk.take();
  }
  if (failure !== undefined) {
    throw failure.error;
  }
}

/** Formats lines into a buffer, without an allocation for each. */
class Chunk {
  readonly #selection: LogSelection;
  readonly #buffer: Buffer;
  #stream: LogOutput["stream"] = Stream.STDOUT;
  #bytes = 0;

  constructor(selection: LogSelection) {
    this.#selection = selection;
    const largestFrame = headerBytes + headOf(0n, selection).length + maxPiece;
    this.#buffer = Buffer.allocUnsafe(Math.max(maxChunk, largestFrame));
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /**
   * Adds lines from a position in a piece on, as many as fit.
   *
   * @returns the position of the first one that does not; undefined if all did
   */
  add({ stream, begins, timeNs, data }: LogPiece, from: number): number | undefined {
    const { framed } = this.#selection;
    const output = framed ? Stream.FRAMES : stream;
    if (this.#bytes > 0 && output !== this.#stream) {
      return from;
    }
    this.#stream = output;
    const head = headOf(timeNs, this.#selection);
    const isSplit = framed || head.length > 0;
    let at = from;
    do {
      const hasHead = at === 0 ? begins : data[at - 1] === newline;
      const before = (framed ? headerBytes : 0) + (hasHead ? head.length : 0);
      const room = this.#buffer.length - this.#bytes - before;
      let end = isSplit ? endOfLine(data, at) : data.length;
      if (end - at > room) {
        if (this.#bytes > 0) {
          return at;
        }
        end = at + room; // Without frames a line may be as long as a chunk.
      }
      if (framed) {
        this.#addHeader(stream, before - headerBytes + end - at);
      }
      if (hasHead) {
        this.#copy(head, 0, head.length);
      }
      this.#copy(data, at, end);
      at = end;
    } while (at < data.length);
    return undefined;
  }

  take(): LogOutput {
    const data = Buffer.from(this.#buffer.subarray(0, this.#bytes));
    this.#bytes = 0;
    return { stream: this.#stream, data };
  }

  #addHeader(stream: LogRecord["stream"], length: number): void {
    this.#buffer.writeUInt32LE(stream, this.#bytes);
    this.#bytes = this.#buffer.writeUInt32BE(length, this.#bytes + 4);
  }

  #copy(source: Uint8Array, from: number, end: number): void {
    if (end - from > fewBytes) {
      this.#buffer.set(source.subarray(from, end), this.#bytes);
    } else {
      for (let at = from; at < end; at++) {
        this.#buffer[this.#bytes + at - from] = source[at] as number;
      }
    }
    this.#bytes += end - from;
  }
}

function isInTime({ timeNs }: LogPiece, { sinceNs, untilNs }: LogSelection): boolean {
  return (sinceNs === undefined || timeNs >= sinceNs) && (untilNs === undefined || timeNs <= untilNs);
}

/** The text before a line with this time. */
function headOf(timeNs: bigint, { timestamps, prefix }: LogSelection): Buffer {
  return Buffer.from(`${timestamps ? `${formatTime(timeNs)} ` : ""}${prefix}`);
}

/** RFC 3339 with nine digits, UTC. */
function formatTime(timeNs: bigint): string {
  const ns = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = new Date(Number((timeNs - ns) / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${ns.toString().padStart(9, "0")}Z`;
}
