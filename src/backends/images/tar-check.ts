/**
 * Whether a stream is a whole tar, told block by block while it passes: nothing of it is kept but a header. It refuses
 * and allows what Go's archive/tar does, which is what dockerd unpacks with: an empty stream, blocks of zeros that are
 * missing at the end and anything behind them are allowed.
 */
import { invalid } from "../../common/errors.ts";

const blockSize = 512;
/** The most that PAX records and long names may take, bytes. */
const maxSpecialBytes = 1024 ** 2;
/** Types whose entries have no content, whatever size they name: links, devices, directories and FIFOs. */
const withoutContent = "123456";

/** A tar that is checked. */
export class TarCheck {
  /** The part awaited: a header, one behind a block of zeros, PAX records, part of a hole map, or none. */
  #state: "header" | "zeros" | "records" | "holes" | "end" = "header";
  /** The header or the records that are awaited, filled as they come. */
  #held = Buffer.alloc(blockSize);
  #filled = 0;
  /** Bytes to pass over: they must come, and their padding, which need not. */
  #content = 0;
  #padding = 0;
  /** Bytes of content behind the map of holes. */
  #afterHoles = 0;
  /** The size that PAX records name for the next entry. */
  #size: number | undefined;

  /** Takes the next bytes. @throws invalid: not a tar */
  write(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length && this.#state !== "end"; ) {
      const left = chunk.length - at;
      if (this.#content > 0) {
        const step = Math.min(this.#content, left);
        this.#content -= step;
        at += step;
      } else if (this.#padding > 0) {
        const step = Math.min(this.#padding, left);
        this.#padding -= step;
        at += step;
      } else {
        const step = Math.min(this.#held.length - this.#filled, left);
        this.#held.set(chunk.subarray(at, at + step), this.#filled);
        this.#filled += step;
        at += step;
        if (this.#filled === this.#held.length) {
          this.#take(this.#held);
        }
      }
    }
  }

  /** The stream is over. @throws invalid: too early */
  end(): void {
    const awaits = this.#state === "records" || this.#state === "holes";
    if (this.#state !== "end" && (this.#content > 0 || this.#filled > 0 || awaits)) {
      throw invalid("unexpected EOF");
    }
  }

  #take(block: Buffer): void {
    switch (this.#state) {
      case "header":
        this.#expect(block.every((byte) => byte === 0) ? "zeros" : this.#takeHeader(block));
        return;
      case "zeros":
        if (block.some((byte) => byte !== 0)) {
          throw invalidHeader();
        }
        this.#expect("end");
        return;
      case "records":
        this.#size = sizeRecord(block) ?? this.#size;
        this.#padding = paddingOf(block.length);
        this.#expect("header");
        return;
      case "holes":
        if (block[504] === 0) {
          this.#skip(this.#afterHoles);
          this.#expect("header");
        } else {
          this.#expect("holes");
        }
        return;
      case "end":
    }
  }

  /** Takes a header and returns the part behind it and its content. @throws invalid: it is no header */
  #takeHeader(header: Buffer): "header" | "records" | "holes" {
    const named = sizeIn(header);
    const type = header[156] === 0 ? "\0" : header.toString("latin1", 156, 157);
    if (type === "x" || type === "g" || type === "L" || type === "K") {
      if (named > maxSpecialBytes) {
        throw invalid("archive/tar: header field too long");
      }
      if (type === "x" && named > 0) {
        this.#held = Buffer.alloc(named);
        return "records";
      }
      this.#skip(named);
      return "header";
    }
    const isOldDirectory = type === "\0" && textIn(header, 0, 100).endsWith("/");
    const size = withoutContent.includes(type) || isOldDirectory ? 0 : (this.#size ?? named);
    this.#size = undefined;
    if (type === "S" && header[482] !== 0) {
      this.#afterHoles = size;
      return "holes";
    }
    this.#skip(size);
    return "header";
  }

  #skip(size: number): void {
    this.#content = size;
    this.#padding = paddingOf(size);
  }

  #expect(state: "header" | "zeros" | "records" | "holes" | "end"): void {
    if (state !== "records" && this.#held.length !== blockSize) {
      this.#held = Buffer.alloc(blockSize);
    }
    this.#state = state;
    this.#filled = 0;
  }
}

/** A tar's bytes as they are, checked while they pass. @throws invalid: not a whole tar; what the source throws */
export async function* checkedTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const check = new TarCheck();
  for await (const chunk of source) {
    check.write(chunk);
    yield chunk;
  }
  check.end();
}

/** The size that a header names. @throws invalid: it is none, or the header's sum is wrong */
function sizeIn(header: Buffer): number {
  const sum = octal(header, 148, 8);
  let unsigned = 0;
  let signed = 0;
  for (let index = 0; index < blockSize; index++) {
    const isSum = index >= 148 && index < 156; // Counts as blanks.
    unsigned += isSum ? 0x20 : header.readUInt8(index);
    signed += isSum ? 0x20 : header.readInt8(index);
  }
  if (sum !== unsigned && sum !== signed) {
    throw invalidHeader();
  }
  return header.readUInt8(124) < 0x80 ? octal(header, 124, 12) : binary(header);
}

/** A size too large for octal digits: a number of bits, the first of which says that it is one. */
function binary(header: Buffer): number {
  const isLarge = header.readUInt8(124) !== 0x80 || header.readUInt32BE(125) >>> 8 !== 0;
  const size = header.readBigUInt64BE(128);
  if (isLarge || size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalidHeader(); // Negative, or larger than anything.
  }
  return Number(size);
}

function octal(header: Buffer, start: number, length: number): number {
  const digits = header
    .toString("latin1", start, start + length)
    .replace(/^[ \0]+|[ \0]+$/g, "")
    .replace(/\0.*$/s, "");
  if (!/^[0-7]*$/.test(digits)) {
    throw invalidHeader();
  }
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function textIn(header: Buffer, start: number, length: number): string {
  return header.toString("latin1", start, start + length).replace(/\0.*$/s, "");
}

/** The size among PAX records, each of them `LENGTH KEY=VALUE\n`. @throws invalid: they are none */
function sizeRecord(records: Buffer): number | undefined {
  let size: number | undefined;
  for (let at = 0; at < records.length; ) {
    const blank = records.indexOf(" ", at, "latin1");
    const length = Number(/^\d+$/.exec(records.toString("latin1", at, Math.max(at, blank)))?.[0]);
    const end = at + length;
    if (!(end > blank) || end > records.length || records[end - 1] !== 0x0a) {
      throw invalidHeader();
    }
    const value = /^size=(.*)\n$/s.exec(records.toString("latin1", blank + 1, end))?.[1];
    if (value !== undefined) {
      size = Number(/^\d+$/.exec(value)?.[0]);
      if (!Number.isSafeInteger(size)) {
        throw invalidHeader();
      }
    }
    at = end;
  }
  return size;
}

function paddingOf(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

function invalidHeader(): Error {
  return invalid("archive/tar: invalid tar header");
}
