/** Reading the body of a request from a raw socket, to its last byte and not one further. */
import type { IncomingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";

import { invalid } from "../../common/errors.ts";

/** Maximum bytes of all lines around a body's chunks, which are read one by one and discarded. */
const maxFramingBytes = 1024;

/**
 * Reads the body that the header announces. Nobody else reads the socket; what follows the body stays in it.
 *
 * @param headers of a request that has no transfer coding but `chunked`
 * @param limit maximum bytes of the body
 * @throws SockerlessError of kind `invalid` for a body that is cut, too long or not framed as HTTP says
 */
export async function readRawBody(
  socket: Duplex,
  headers: IncomingHttpHeaders,
  limit: number,
): Promise<Buffer> {
  const reader = new ExactReader(socket);
  try {
    if (headers["transfer-encoding"] !== undefined) {
      return await readChunks(reader, limit);
    }
    const length = Number(headers["content-length"] ?? 0);
    if (length > limit) {
      throw tooLarge(limit);
    }
    return await reader.read(length);
  } finally {
    reader.release();
  }
}

async function readChunks(reader: ExactReader, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const line = await reader.readLine();
    const size = /^[0-9a-f]{1,8}(?=\s*(;|$))/i.exec(line)?.[0];
    if (size === undefined) {
      throw invalid("invalid byte in chunk length");
    }
    const length = Number.parseInt(size, 16);
    total += length;
    if (total > limit) {
      throw tooLarge(limit);
    }
    if (length === 0) {
      break;
    }
    chunks.push(await reader.read(length));
    if ((await reader.readLine()) !== "") {
      throw invalid("malformed chunked encoding");
    }
  }
  while ((await reader.readLine()) !== "") {
    // Trailer fields are ignored.
  }
  return Buffer.concat(chunks, total);
}

function tooLarge(limit: number): Error {
  return invalid(`invalid JSON: http: request body too large (more than ${limit} bytes)`);
}

/** Reads exactly the requested number of bytes from a stream. */
class ExactReader {
  readonly #stream: Duplex;
  #framingBytes = 0;
  #wake: () => void = () => {};
  readonly #changed = (): void => this.#wake();

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("readable", this.#changed);
    stream.on("end", this.#changed);
    stream.on("close", this.#changed);
  }

  async read(length: number): Promise<Buffer> {
    if (length === 0) {
      return Buffer.alloc(0);
    }
    const parts: Buffer[] = [];
    let left = length;
    for (;;) {
      // All that has come: behind bytes that stay unread the stream packs further ones, and emits no 'readable'.
      const bytes = (this.#stream.read(left) ?? this.#stream.read()) as Buffer | null;
      if (bytes !== null) {
        parts.push(bytes);
        left -= bytes.length;
        if (left === 0) {
          return Buffer.concat(parts, length);
        }
        continue;
      }
      if (this.#stream.readableEnded || this.#stream.destroyed) {
        throw invalid("invalid JSON: unexpected EOF");
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Reads a line, without its end. */
  async readLine(): Promise<string> {
    let line = "";
    while (!line.endsWith("\n")) {
      if (this.#framingBytes >= maxFramingBytes) {
        throw invalid("chunked encoding contains too much non-data");
      }
      this.#framingBytes += 1;
      line += (await this.read(1)).toString("latin1");
    }
    return line.replace(/\r?\n$/, "");
  }

  release(): void {
    this.#stream.off("readable", this.#changed);
    this.#stream.off("end", this.#changed);
    this.#stream.off("close", this.#changed);
  }
}
