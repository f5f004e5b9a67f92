/** Reading a request's JSON body, bounded. */
import type { IncomingMessage } from "node:http";

import { invalid } from "../../common/errors.ts";
import { hasBody } from "../../common/has-body.ts";
import { describeSyntaxError } from "./json-syntax.ts";

/** Maximum size in bytes of a JSON body. Archives, images and build contexts are streams and have no such bound. */
const maxJsonBodyBytes = 4 * 1024 ** 2;

/** Bodies up to this size in bytes are parsed in this thread, larger ones in a worker thread. */
export const smallBodyBytes = 8 * 1024;

/**
 * Bytes of an oversized body that are read and dropped before the refusal: a client that still writes when its
 * connection closes would see a broken pipe instead of the reason.
 */
const maxDroppedBytes = 16 * maxJsonBodyBytes;

/** A number that is not written as an integer of at most 20 digits: Go takes it for no integer, whatever its value. */
export class NonInteger {
  /** The number as written. */
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }
}

/** Exceptions to the rule that a body is required and has the content type JSON. */
export interface JsonBodyOptions {
  /** True if a missing body counts as an empty object. */
  readonly optional?: boolean;
  /** True if the content type is ignored, as by dockerd's `/auth`. */
  readonly anyContentType?: boolean;
}

/**
 * Parses a body that was read already.
 *
 * @returns the parsed value; undefined for an empty body where that is allowed. Integers beyond 2^53 are `bigint`s, and
 *   numbers that are written as no integer {@link NonInteger}s.
 * @throws SockerlessError of kind `invalid`
 */
export function parseJsonBody(bytes: Buffer, options: JsonBodyOptions): unknown {
  const source = bytes.toString("utf8");
  if (source.trim() === "") {
    if (options.optional === true) {
      return undefined;
    }
    throw invalid("invalid JSON: got EOF while reading request body");
  }
  return parseJson(source);
}

/**
 * Parses JSON text, in a body or a query.
 *
 * @throws SockerlessError of kind `invalid`, in the words of Go's decoder where these are known
 */
export function parseJson(source: string): unknown {
  try {
    return (unusualNumber.test(source) ? JSON.parse(source, asWritten) : JSON.parse(source)) as unknown;
  } catch (error) {
    if (error instanceof RangeError) {
      throw invalid("invalid JSON: exceeded max depth", error);
    }
    const problem = describeSyntaxError(source);
    throw invalid(
      problem === undefined ? "unexpected content after JSON" : `invalid JSON: ${problem}`,
      error,
    );
  }
}

/**
 * Checks the content type as dockerd does: none is fine without a body, otherwise it has to be `application/json`.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function checkJsonContentType(request: IncomingMessage): void {
  const type = request.headers["content-type"] ?? "";
  if (type === "" && !hasBody(request)) {
    return;
  }
  // No two parts may both match a blank: on a header of a mebibyte of blanks the expression would backtrack over every
  // division.
  const mediaType =
    /^\s*([^\s;/]+\/[^\s;/]+)\s*(?:;\s*[^\s=;]+\s*=\s*(?:"[^"]*"|[^\s;"]+)\s*)*(?:;\s*)?$/.exec(type)?.[1];
  if (mediaType === undefined) {
    const reason = type === "" ? "mime: no media type" : "mime: invalid media parameter";
    throw invalid(`malformed Content-Type header (${type}): ${reason}`);
  }
  if (mediaType.toLowerCase() !== "application/json") {
    throw invalid(`unsupported Content-Type header (${type}): must be 'application/json'`);
  }
}

/** The memory of a large body. */
export interface BodyMemory {
  /** Counts bytes that have come. */
  received(bytes: number): void;
  /** All has come, and so many bytes are kept. */
  complete(bytes: number): void;
}

/**
 * Reads a body.
 *
 * @returns the memory of a large one
 * @param enter waits until there is room for a large body of at most so many bytes
 * @throws SockerlessError of kind `invalid` if it is too large
 */
export async function readBoundedBody(
  request: IncomingMessage,
  enter: (length: number) => Promise<BodyMemory>,
): Promise<{ readonly bytes: Buffer; readonly memory: BodyMemory | undefined }> {
  const announced = Number(request.headers["content-length"] ?? 0);
  let bytes = Buffer.alloc(0);
  let length = 0;
  let memory: BodyMemory | undefined;
  // Leaving the loop early must not destroy the request: the refusal must still be written to its socket.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const start = length;
    length += chunk.length;
    const size = Math.max(length, announced);
    if (size > maxJsonBodyBytes) {
      bytes = Buffer.alloc(0);
      memory?.complete(0);
      if (length > maxDroppedBytes) {
        break;
      }
      continue;
    }
    if (size > smallBodyBytes) {
      memory ??= await enter(announced > 0 ? announced : maxJsonBodyBytes);
      memory.received(chunk.length);
    }
    bytes = grown(bytes, size);
    bytes.set(chunk, start);
  }
  if (Math.max(length, announced) > maxJsonBodyBytes) {
    throw tooLarge();
  }
  memory?.complete(length);
  return { bytes: bytes.length === length ? bytes : Buffer.from(bytes.subarray(0, length)), memory };
}

/** A buffer of at least so many bytes, with those of another: a chunk that is kept by itself takes hundreds of bytes more. */
function grown(bytes: Buffer<ArrayBuffer>, least: number): Buffer<ArrayBuffer> {
  const wanted = Math.max(least, Math.min(2 * bytes.length, maxJsonBodyBytes));
  return bytes.length >= least ? bytes : Buffer.concat([bytes], wanted);
}

function tooLarge(): Error {
  return invalid(`invalid JSON: http: request body too large (more than ${maxJsonBodyBytes} bytes)`);
}

/** A number that {@link asWritten} may keep, or a text like one: that function takes most of the time of a long body. */
const unusualNumber = /(?:^|[\s:[,])-?(?:\d+[.eE]|\d{16})/;

/** Keeps integers exact that a `number` would round, and numbers that are written as no integer apart. */
function asWritten(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  const source = context?.source;
  if (typeof value !== "number" || source === undefined) {
    return value;
  }
  if (!/^-?\d{1,20}$/.test(source)) {
    return new NonInteger(source); // More digits are no 64-bit integer, and take long.
  }
  return Number.isSafeInteger(value) ? value : BigInt(source);
}
