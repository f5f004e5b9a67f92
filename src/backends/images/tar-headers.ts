/**
 * Bounds the headers of a tar that belong to other headers, PAX records and long names, before tar-stream reads them:
 * it makes an object of all records of a PAX header, and copies those of the global one for each further header. The
 * positions of headers are found as tar-stream finds them, so that neither takes content for a header.
 */
import { invalid } from "../../common/errors.ts";
import { invalidHeader } from "./tar-check.ts";
import { blockSize, paddingOf } from "./tar-entries.ts";

const zeros = Buffer.alloc(blockSize);
/** The most bytes of a PAX header or long name: Linux's longest attribute has 64 KiB, and hardly a file has one. */
const maxLongBytes = 64 * 1024;
/** The most bytes of a global PAX header; that of `git archive` has 52. */
const maxGlobalBytes = 4 * 1024;
/** The most bytes of all PAX headers and long names together, beyond {@link bytesPerEntry} for each entry. */
const maxBytes = 16 * 1024 ** 2;
const bytesPerEntry = 1_024;

/** Types of headers whose content belongs to the next entry, or to all. */
const longTypes = "xgLKN";

class HeaderBounds {
  /** The current header or records, filled as they arrive. */
  #held = Buffer.alloc(blockSize);
  #filled = 0;
  /** The type of the PAX header whose records are held; undefined: a header is. */
  #records: "x" | "g" | undefined;
  /** Bytes to skip. */
  #skipped = 0;
  /** Sizes from records: of the next entry, and of entries with a PAX header of their own. */
  #size: string | undefined;
  #globalSize: string | undefined;
  #left = maxBytes;

  /** Looks at the next bytes. @throws invalid: headers too long, or an impossible size */
  write(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const awaited = this.#skipped > 0 ? this.#skipped : this.#held.length - this.#filled;
      const step = Math.min(awaited, chunk.length - at);
      if (this.#skipped > 0) {
        this.#skipped -= step;
      } else {
        this.#held.set(chunk.subarray(at, at + step), this.#filled);
        this.#filled += step;
        if (this.#filled === this.#held.length) {
          this.#take(this.#held);
        }
      }
      at += step;
    }
  }

  #take(held: Buffer): void {
    this.#filled = 0;
    if (this.#records === undefined) {
      this.#takeHeader(held);
      return;
    }
    const size = sizeRecord(held);
    if (this.#records === "g") {
      this.#globalSize = size;
    } else {
      this.#size = size ?? this.#globalSize;
    }
    this.#records = undefined;
    this.#skipped = paddingOf(held.length);
    this.#held = Buffer.alloc(blockSize);
  }

  #takeHeader(header: Buffer): void {
    if (zeros.compare(header, 0, 148, 0, 148) === 0 && zeros.compare(header, 156, 512, 156, 512) === 0) {
      return; // All but the checksum is zero: the end, after which tar-stream reads on.
    }
    const type = header.toString("latin1", 156, 157);
    if (longTypes.includes(type)) {
      this.#takeLong(type, sizeIn(header));
      return;
    }
    const size = this.#size ? Number.parseInt(this.#size, 10) : sizeIn(header);
    if (!(Number.isSafeInteger(size) && size >= 0)) {
      throw invalidHeader();
    }
    this.#size = undefined;
    this.#left += bytesPerEntry;
    this.#skipped = type === "5" ? 0 : size + paddingOf(size);
  }

  #takeLong(type: string, size: number): void {
    if (!(Number.isInteger(size) && size > 0)) {
      throw invalidHeader(); // Behind an empty one, tar-stream would take padding for a header's content.
    }
    const most = type === "g" ? maxGlobalBytes : maxLongBytes;
    if (size > most) {
      const kind = type === "g" ? "global PAX header" : "PAX header or long name";
      throw invalid(`archive has a ${kind} of more than ${most} bytes`);
    }
    this.#left -= size + paddingOf(size);
    if (this.#left < 0) {
      throw invalid(`archive has PAX headers and long names of more than ${maxBytes} bytes together`);
    }
    if (type === "x" || type === "g") {
      this.#records = type;
      this.#held = Buffer.alloc(size);
    } else {
      this.#skipped = size + paddingOf(size);
    }
  }
}

/**
 * Yields a tar's bytes unchanged, each before which the headers are within bounds; whether it is a tar is left to its
 * reader.
 *
 * @throws invalid: PAX headers or long names that are too long, or an impossible size; the source's error
 */
export async function* boundedHeaders(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const bounds = new HeaderBounds();
  for await (const chunk of source) {
    bounds.write(chunk);
    yield chunk;
  }
}

/** The size in a header, as tar-stream reads it; not a size: NaN, negative or larger than a safe integer. */
function sizeIn(header: Buffer): number {
  const field = header.subarray(124, 136);
  const first = field[0] ?? 0;
  if (first >= 0x80) {
    return first === 0x80 ? Number(field.readUIntBE(1, 5)) * 2 ** 48 + field.readUIntBE(6, 6) : Number.NaN;
  }
  const [digits = ""] = field.toString().replace(/^ +/, "").split(" ", 1);
  const octal = digits.replace(/^\0+/, "");
  return octal === "" ? 0 : Number.parseInt(octal, 8);
}

/** The last size in PAX records, as tar-stream reads them: up to the first that is malformed. */
function sizeRecord(records: Buffer): string | undefined {
  let size: string | undefined;
  for (let left = records; left.length > 0; ) {
    const blank = left.indexOf(0x20);
    const start = blank === -1 ? left.length : blank;
    const length = Number.parseInt(left.toString("utf8", 0, start), 10);
    const record = left.subarray(start + 1, length - 1).toString();
    const equals = record.indexOf("=");
    if (!length || equals === -1) {
      return size;
    }
    if (record.slice(0, equals) === "size") {
      size = record.slice(equals + 1);
    }
    left = left.subarray(length);
  }
  return size;
}
