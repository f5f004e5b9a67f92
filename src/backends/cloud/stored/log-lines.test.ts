import assert from "node:assert/strict";
import { describe, it } from "node:test";

import fc from "fast-check";

import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { lastLines, type LogSelection, shown } from "./log-lines.ts";
import { piecesOf } from "./log-pieces.ts";
import type { LogRecord } from "./log-record.ts";
import { Pace } from "./pace.ts";
import { wholeLines } from "./whole-lines.ts";
import { framesOf } from "../../../../test/support/raw-client.ts";

const out = (timeNs: number, text: string, fresh = false): LogRecord => ({
  stream: Stream.STDOUT,
  timeNs: BigInt(timeNs),
  fresh,
  data: Buffer.from(text),
});
const err = (timeNs: number, text: string, fresh = false): LogRecord => ({
  ...out(timeNs, text, fresh),
  stream: Stream.STDERR,
});

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const everything: LogSelection = {
  stdout: true,
  stderr: true,
  timestamps: false,
  sinceNs: undefined,
  untilNs: undefined,
  prefix: "",
  framed: false,
};

const unhurried = (): Pace => new Pace(new AbortController().signal);

/** Reads the records and returns the chunks shown, as `1:text` and `2:text`. */
async function show(
  records: readonly LogRecord[],
  selection: Partial<LogSelection> = {},
  tail?: number,
): Promise<string[]> {
  const open = () => piecesOf(each(records));
  const pieces = tail === undefined ? open() : lastLines(open, BigInt(tail));
  const chunks: string[] = [];
  for await (const { stream, data } of shown(pieces, { ...everything, ...selection }, unhurried())) {
    chunks.push(`${stream}:${Buffer.from(data).toString()}`);
  }
  return chunks;
}

describe("the lines of a stored log", () => {
  const log = [out(1, "a\nb"), err(2, "x\n"), out(3, "c\nd\n"), err(4, "y"), out(5, "e\n"), err(6, "z\n")];

  it("are all there, in order, one stream after the other", async () => {
    assert.deepEqual(await show(log), ["1:a\nb", "2:x\n", "1:c\nd\n", "2:y", "1:e\n", "2:z\n"]);
    assert.deepEqual(await show(log, { stdout: false }), ["2:x\nyz\n"]);
  });

  it("are all shown that came before what cannot be read", async () => {
    async function* broken(): AsyncGenerator<LogRecord> {
      yield* log;
      throw new Error("the rest is refused");
    }
    const chunks: string[] = [];
    const reading = (async () => {
      const selection = { ...everything, stderr: false };
      for await (const { data } of shown(piecesOf(broken()), selection, unhurried())) {
        chunks.push(Buffer.from(data).toString());
      }
    })();
    await assert.rejects(reading, /the rest is refused/);
    assert.deepEqual(chunks, ["a\nbc\nd\ne\n"]);
  });

  it("have the time of the record in which they began, and their prefix, once", async () => {
    assert.deepEqual(await show(log.slice(0, 3), { timestamps: true, stderr: false, prefix: "p " }), [
      "1:1970-01-01T00:00:00.000000001Z p a\n1970-01-01T00:00:00.000000001Z p bc\n1970-01-01T00:00:00.000000003Z p d\n",
    ]);
  });

  it("are chosen by that time, both ends included", async () => {
    assert.deepEqual(await show(log, { sinceNs: 3n, stderr: false }), ["1:d\ne\n"]);
    assert.deepEqual(await show(log, { untilNs: 2n }), ["1:a\nb", "2:x\n", "1:c\n"]);
    assert.deepEqual(await show(log, { sinceNs: 4n, untilNs: 4n }), ["2:yz\n"]);
  });

  it("are counted from the end over both streams in the order in which they end", async () => {
    assert.deepEqual(await show(log, {}, 1), ["2:yz\n"]);
    assert.deepEqual(await show(log, {}, 2), ["2:y", "1:e\n", "2:z\n"]);
    assert.deepEqual(await show(log, { stderr: false }, 3), ["1:d\ne\n"]);
    assert.deepEqual(await show(log, {}, 0), []);
    assert.deepEqual(await show(log, {}, 100), await show(log));
  });

  it("end with a run, also without a newline", async () => {
    const two = [out(1, "first", true), out(2, "second\n", true)];
    assert.deepEqual(await show(two, { timestamps: true }), [
      "1:1970-01-01T00:00:00.000000001Z first1970-01-01T00:00:00.000000002Z second\n",
    ]);
    assert.deepEqual(await show(two, {}, 1), ["1:second\n"]);
    assert.deepEqual(await show([out(1, "a\nb")], {}, 1), ["1:b"]);
  });

  it("do not count one that begins before the log does", async () => {
    const piece = (stream: LogRecord["stream"], text: string, begins = true) =>
      ({ stream, timeNs: 1n, data: Buffer.from(text), begins, ends: true }) as const;
    const pieces = [
      piece(Stream.STDOUT, "the end of another", false),
      piece(Stream.STDERR, "a"),
      piece(Stream.STDOUT, "b"),
      piece(Stream.STDOUT, "c"),
    ];
    for (let count = 0; count <= 4; count++) {
      const last: string[] = [];
      for await (const { data } of lastLines(() => each(pieces), BigInt(count))) {
        last.push(Buffer.from(data).toString());
      }
      assert.deepEqual(last, count === 0 ? [] : ["a", "b", "c"].slice(-count));
    }
  });

  it("that nothing ended are in the order in which they were last added to", async () => {
    const log = [err(1, "a"), out(2, "a"), err(3, "b")];
    assert.deepEqual(await show(log, {}, 1), ["2:ab"]);
  });

  it("are sent in bounded chunks", async () => {
    const big = "x".repeat(50_000);
    const sizes = (await show([out(1, big), out(2, big)])).map(({ length }) => length - 2);
    assert.deepEqual(sizes, [50_000, 50_000]);
    const [first, ...others] = await show([out(3, "x".repeat(2 ** 20))]);
    assert.ok(others.length >= 15 && (first?.length ?? 0) <= 65_538, "a record may be larger");
  });

  it("of the tail are the end of all lines, however the output was cut into records", async () => {
    const record = fc.record({
      isError: fc.boolean(),
      text: fc.stringMatching(/^[ab\n]{1,6}$/),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(record, { maxLength: 20 }), fc.nat(12), async (cut, count) => {
        const records = cut.map(({ isError, text }, index) => (isError ? err : out)(index, text));
        const lines: { stream: number; text: string }[] = [];
        const open = new Map<number, string>();
        for (const { stream, data } of records) {
          const [first = "", ...rest] = ((open.get(stream) ?? "") + Buffer.from(data).toString()).split(
            /(?<=\n)/,
          );
          for (const line of [first, ...rest]) {
            if (line.endsWith("\n")) {
              lines.push({ stream, text: line });
              open.delete(stream);
            } else {
              open.set(stream, line);
            }
          }
        }
        // Lines that nothing ended are in the order in which they were last added to.
        const last = [...open].sort(([a], [b]) => lastOf(records, a) - lastOf(records, b));
        lines.push(...last.map(([stream, text]) => ({ stream, text })));
        const wanted = count === 0 ? [] : lines.slice(-count);
        for (const stream of [Stream.STDOUT, Stream.STDERR]) {
          const only = { stdout: stream === Stream.STDOUT, stderr: stream === Stream.STDERR };
          assert.equal(
            (await show(records, only, count)).map((chunk) => chunk.slice(2)).join(""),
            wanted
              .filter((line) => line.stream === stream)
              .map(({ text }) => text)
              .join(""),
          );
        }
      }),
    );
  });

  it("are byte for byte the same in each form, however the output was cut into records", async () => {
    const text = fc.array(
      fc.constantFrom("\n", "a", "b\n", "\n\ncd", "x".repeat(5_000), "y".repeat(16_383), "z".repeat(16_384)),
      { minLength: 1, maxLength: 6 },
    );
    const record = fc.record({
      isError: fc.boolean(),
      isFresh: fc.nat(4).map((n) => n === 0),
      text: text.map((parts) => parts.join("")),
    });
    const time = fc.option(fc.bigInt(0n, 8n), { nil: undefined });
    const selections = fc.record({
      stdout: fc.boolean(),
      stderr: fc.boolean(),
      timestamps: fc.boolean(),
      sinceNs: time,
      untilNs: time,
      prefix: fc.constantFrom("", "p "),
    });
    const forms = fc.constantFrom<Form>("raw", "lines", "frames");
    const tails = fc.option(fc.nat(12), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { maxLength: 8 }),
        selections,
        forms,
        tails,
        async (cut, chosen, form, tail) => {
          const records = cut.map(({ isError, isFresh, text }, index) =>
            (isError ? err : out)(index, text, isFresh),
          );
          const selection = { ...chosen, framed: form === "frames" };
          const open = () => piecesOf(each(records));
          const pieces = tail === undefined ? open() : lastLines(open, BigInt(tail));
          const chunks: Uint8Array[] = [];
          const told = form === "raw" ? pieces : wholeLines(pieces);
          for await (const { data } of shown(told, selection, unhurried())) {
            chunks.push(data);
          }
          const expected = expectedOutput(records, selection, form, tail);
          assert.ok(Buffer.concat(chunks).toString("latin1") === expected, "the output differs");
        },
      ),
    );
  });

  it("give the event loop a turn for each 64 KiB of them", async () => {
    const records = Array.from({ length: 64 }, (_, index) => out(index, "\n".repeat(65_536)));
    let turns = 0;
    let isOver: boolean = false;
    const count = (): void => {
      turns += 1;
      if (!isOver) {
        setImmediate(count);
      }
    };
    setImmediate(count);
    const pace = unhurried();
    const pieces = wholeLines(piecesOf(pace.each(each(records))));
    let bytes = 0;
    for await (const { data } of shown(pieces, { ...everything, framed: true }, pace)) {
      bytes += data.length;
    }
    isOver = true;
    assert.equal(bytes, 64 * 65_536 * 9);
    assert.ok(turns >= 64, `${turns} turns`);
  });

  it("are read no further once their request has ended", async () => {
    const ending = new AbortController();
    let read = 0;
    async function* endless(): AsyncGenerator<LogRecord> {
      for (;;) {
        read += 1;
        if (read === 100) {
          ending.abort(new Error("left"));
        }
        yield out(1, "\n".repeat(65_536));
      }
    }
    const pace = new Pace(ending.signal);
    const last = lastLines(() => piecesOf(pace.each(endless())), 1n);
    await assert.rejects(last.next(), /left/);
    assert.ok(read <= 102, `${read} records`);
  });

  it("are told whole, in the order in which they end, and long ones in pieces", async () => {
    const told = async (records: readonly LogRecord[]): Promise<string[]> => {
      const lines: string[] = [];
      for await (const { stream, data } of wholeLines(piecesOf(each(records)))) {
        const text = Buffer.from(data).toString();
        lines.push(...text.split(/(?<=\n)/).map((line) => `${stream}:${line}`));
      }
      return lines;
    };
    assert.deepEqual(await told(log), ["1:a\n", "2:x\n", "1:bc\n", "1:d\n", "1:e\n", "2:yz\n"]);
    assert.deepEqual(await told([out(1, "first", true), out(2, "second\nend", true)]), [
      "1:first",
      "1:second\n",
      "1:end",
    ]);
    const x = (count: number): string => "x".repeat(count);
    assert.deepEqual(
      (await told([out(1, x(20_000)), out(2, `${x(12_768)}\n${x(16_383)}\n`)])).map(
        ({ length }) => length - 2,
      ),
      [16_384, 16_384, 1, 16_384],
    );
  });

  it("stand in frames with their heads where that is asked for", async () => {
    const chunks: Buffer[] = [];
    const lines = wholeLines(piecesOf(each(log.slice(0, 3))));
    const selection = { ...everything, prefix: "p ", framed: true };
    for await (const { stream, data } of shown(lines, selection, unhurried())) {
      assert.equal(stream, Stream.FRAMES);
      chunks.push(Buffer.from(data));
    }
    assert.deepEqual(
      framesOf(Buffer.concat(chunks)).map(({ channel, data }) => `${channel}:${data.toString()}`),
      ["1:p a\n", "2:p x\n", "1:p bc\n", "1:p d\n"],
    );
  });
});

function lastOf(records: readonly LogRecord[], stream: number): number {
  return records.findLastIndex((record) => record.stream === stream);
}

type Form = "raw" | "lines" | "frames";

interface Line {
  readonly stream: LogRecord["stream"];
  readonly timeNs: bigint;
}

/** A part of a line, or one of the pieces in which a whole one is told. */
interface Part {
  readonly line: Line;
  text: string;
  readonly begins: boolean;
}

/** The output for some records as Latin-1, found byte by byte. */
function expectedOutput(
  records: readonly LogRecord[],
  { stdout, stderr, timestamps, sinceNs = 0n, untilNs = 100n, prefix }: LogSelection,
  form: Form,
  tail: number | undefined,
): string {
  const { parts, ended } = partsOf(records);
  const last = new Set(tail === undefined ? ended : ended.slice(ended.length - Math.min(tail, ended.length)));
  const ofTail = parts.filter(({ line }) => last.has(line));
  return (form === "raw" ? ofTail : wholeParts(ofTail))
    .filter(({ line: { stream, timeNs } }) => {
      const isWanted = stream === Stream.STDOUT ? stdout : stderr;
      return isWanted && timeNs >= sinceNs && timeNs <= untilNs;
    })
    .map(({ line: { stream, timeNs }, text, begins }) => {
      const time = timestamps ? `1970-01-01T00:00:00.${String(timeNs).padStart(9, "0")}Z ` : "";
      const told = begins ? `${time}${prefix}${text}` : text;
      const header = Buffer.from([stream, 0, 0, 0, 0, 0, told.length >> 8, told.length]);
      return form === "frames" ? header.toString("latin1") + told : told;
    })
    .join("");
}

/** The parts of lines in each record, and the lines in the order of their ends. */
function partsOf(records: readonly LogRecord[]): { readonly parts: Part[]; readonly ended: Line[] } {
  const parts: Part[] = [];
  const ended: Line[] = [];
  const open = new Map<LogRecord["stream"], Line>();
  for (const { stream, timeNs, fresh, data } of records) {
    const cutOff = fresh ? open.get(stream) : undefined;
    if (cutOff !== undefined) {
      ended.push(cutOff);
      open.delete(stream);
    }
    for (const text of Buffer.from(data)
      .toString()
      .split(/(?<=\n)/)) {
      const begun = open.get(stream);
      const line = begun ?? { stream, timeNs };
      parts.push({ line, text, begins: begun === undefined });
      open.delete(stream);
      if (text.endsWith("\n")) {
        ended.push(line);
      } else {
        open.set(stream, line);
      }
    }
  }
  return { parts, ended: [...ended, ...open.values()] };
}

/** Lines joined from their parts and split at 16 KiB, in the order of their ends. */
function wholeParts(parts: readonly Part[]): Part[] {
  const whole: Part[] = [];
  const open = new Map<LogRecord["stream"], Part>();
  const end = (stream: LogRecord["stream"]): void => {
    whole.push(...[open.get(stream)].filter((part) => part !== undefined));
    open.delete(stream);
  };
  for (const { line, text, begins } of parts) {
    if (begins) {
      end(line.stream);
    }
    for (const byte of text) {
      const part = open.get(line.stream) ?? { line, text: "", begins: true };
      open.set(line.stream, part);
      part.text += byte;
      if (byte === "\n" || part.text.length === 16_384) {
        end(line.stream);
      }
    }
  }
  for (const stream of [...open.keys()]) {
    end(stream);
  }
  return whole;
}
