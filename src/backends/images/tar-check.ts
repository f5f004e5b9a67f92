/**
 * Checks block by block whether a stream is a complete tar, keeping only a header. It accepts and rejects the same as
 * Go's archive/tar, with which dockerd unpacks: an empty stream, missing zero blocks at the end and anything after them
 * are allowed.
 */
import { invalid } from "../../common/errors.ts";
import { blockSize, paddingOf } from "./tar-entries.ts";

/** Size limit for PAX records and long names, in bytes. */
const maxSpecialBytes = 1024 ** 2;
/** Types of entries without content, whatever size they state: links, devices, directories and FIFOs. */
const withoutContent = "123456";

export class TarCheck {
  /** The expected part: a header, a header or end after a zero block, PAX records, part of a hole map, or nothing. */
  #state: "header" | "zeros" | "records" | "holes" | "end" = "header";
  /** The current header or records, filled as they arrive. */
  #held = Buffer.alloc(blockSize);
  #filled = 0;
  /** Bytes to skip: content, which must arrive, and its padding, which need not. */
  #content = 0;
  #padding = 0;
  /** Bytes of content after the hole map. */
  #afterHoles = 0;
  /** The next entry's size from PAX records. */
  #size: number | undefined;

  /** Checks the next bytes. @throws invalid: not a tar */
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

  /** Checks the end of the stream. @throws invalid if it is premature */
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

  /** Parses a header and returns the part after it and its content. @throws invalid if it is not a header */
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

/**
 * Yields a tar's bytes unchanged while checking them. @throws invalid if it is not a complete tar; the source's error
 */
export async function* checkedTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const check = new TarCheck();
  for await (const chunk of source) {
    check.write(chunk);
    yield chunk;
  }
  check.end();
}

/** The size in a header. @throws invalid if it is not a size, or the header's checksum is wrong */
function sizeIn(header: Buffer): number {
  const sum = octal(header, 148, 8);
  let unsigned = 0;
  let signed = 0;
  for (let index = 0; index < blockSize; index++) {
    const isSum = index >= 148 && index < 156; // The checksum field counts as blanks.
    unsigned += isSum ? 0x20 : header.readUInt8(index);
    signed += isSum ? 0x20 : header.readInt8(index);
  }
  if (sum !== unsigned && sum !== signed) {
    throw invalidHeader();
  }
  return header.readUInt8(124) < 0x80 ? octal(header, 124, 12) : binary(header);
}

/** A size too large for octal digits, in binary form, marked by its first bit. */
function binary(header: Buffer): number {
  const isLarge = header.readUInt8(124) !== 0x80 || header.readUInt32BE(125) >>> 8 !== 0;
  const size = header.readBigUInt64BE(128);
  if (isLarge || size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalidHeader(); // Negative, or too large.
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

/** The size in PAX records, each of the form `LENGTH KEY=VALUE\n`. @throws invalid if they are malformed */
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

/** The refusal of a header that is none, in Go's words. */
export function invalidHeader(): Error {
  return invalid("archive/tar: invalid tar header");
}
