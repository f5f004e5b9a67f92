/** Takes gRPC's length-prefixed messages out of the chunks of a response. */
import { Code, ConnectError } from "@connectrpc/connect";

import { type BulkShape, decodeBulkHead, maxBulkHead } from "./bulk-messages.ts";
import { FillingBytes } from "../common/filling-bytes.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";

/** The proto bounds data to 1 MiB; the rest is tags and lengths. */
const maxBulkMessage = 1024 * 1024 + 64;
/** Bytes of a message that is decoded as a whole, at most: an error's text is the longest. */
const maxOtherMessage = 64 * 1024;

/** Takes the messages that are read. Slices are only valid during the call. */
export interface FrameReceiver {
  /** Bytes of a bulk message, as they come: `source.subarray(start, end)`, never empty. */
  data(channel: number, source: Uint8Array, start: number, end: number): void;
  /** A whole message of another kind. */
  message(bytes: Uint8Array): void;
}

/**
 * An incremental decoder. The data of bulk messages is passed on chunk by chunk without waiting for the message's end;
 * offsets are checked, so that a gap is an error and not a hole.
 */
export class FrameReader {
  readonly #shape: BulkShape;
  readonly #receiver: FrameReceiver;
  /** Prefix and the first bytes of the message, until its kind is known. */
  readonly #head = new Uint8Array(prefixLength + maxBulkHead);
  #headLength = 0;
  /** Length of the message at hand, in bytes; undefined: its prefix is not complete. */
  #messageLength: number | undefined;
  /** A message that is collected whole. */
  #whole: FillingBytes | undefined;
  /** Data that is still to come of the bulk message at hand. */
  #dataLeft = 0;
  #channel = 0;
  /**
   * Offset at which the next data has to begin: by channel for a session, over all channels where a stream
   * number tells them.
   */
  readonly #nextOffsets = new Map<number, number>();

  constructor(shape: BulkShape, receiver: FrameReceiver) {
    this.#shape = shape;
    this.#receiver = receiver;
  }

  /** True if the stream may end here: not in the middle of a message. */
  get atBoundary(): boolean {
    return this.#headLength === 0 && this.#whole === undefined && this.#dataLeft === 0;
  }

  /**
   * Takes the next chunk.
   *
   * @throws ConnectError `DataLoss` for what is not a message of the agreed form; the stream cannot be read on
   */
  push(chunk: Uint8Array): void {
    let position = 0;
    while (position < chunk.length) {
      if (this.#dataLeft > 0) {
        position = this.#passData(chunk, position);
      } else if (this.#whole !== undefined) {
        position = this.#collect(this.#whole, chunk, position);
      } else {
        position = this.#readHead(chunk, position);
      }
    }
  }

  #passData(chunk: Uint8Array, position: number): number {
    const end = Math.min(chunk.length, position + this.#dataLeft);
    this.#dataLeft -= end - position;
    this.#receiver.data(this.#channel, chunk, position, end);
    return end;
  }

  #collect(whole: FillingBytes, chunk: Uint8Array, position: number): number {
    const end = whole.take(chunk, position);
    if (whole.isFull) {
      this.#whole = undefined;
      this.#receiver.message(whole.bytes);
    }
    return end;
  }

  #readHead(chunk: Uint8Array, position: number): number {
    const wanted = prefixLength + Math.min(this.#messageLength ?? 0, maxBulkHead);
    const end = Math.min(chunk.length, position + wanted - this.#headLength);
    this.#head.set(chunk.subarray(position, end), this.#headLength);
    this.#headLength += end - position;
    if (this.#headLength < wanted) {
      return end;
    }
    if (this.#messageLength === undefined) {
      this.#messageLength = this.#readPrefix();
      if (this.#messageLength > 0) {
        return end;
      }
    }
    this.#beginMessage(this.#messageLength);
    return end;
  }

  #readPrefix(): number {
    if (this.#head[0] !== 0) {
      throw new ConnectError("the agent sent a compressed message that nobody asked for", Code.DataLoss);
    }
    const length = announcedLength(this.#head);
    if (length > maxBulkMessage) {
      throw new ConnectError(`the agent sent a message of ${length} bytes`, Code.DataLoss);
    }
    return length;
  }

  #beginMessage(length: number): void {
    const head = this.#head.subarray(prefixLength, this.#headLength);
    this.#headLength = 0;
    this.#messageLength = undefined;
    const bulk = decodeBulkHead(head, length, this.#shape);
    if (bulk === undefined) {
      this.#beginWhole(head, length);
      return;
    }
    const dataLength = length - bulk.dataStart;
    this.#checkOffset(bulk.channel, bulk.offset, dataLength);
    this.#channel = bulk.channel;
    this.#dataLeft = length - head.length;
    if (bulk.dataStart < head.length) {
      this.#receiver.data(bulk.channel, head, bulk.dataStart, head.length);
    }
  }

  #beginWhole(head: Uint8Array, length: number): void {
    if (length > maxOtherMessage) {
      throw new ConnectError(`the agent sent a message of ${length} bytes`, Code.DataLoss);
    }
    const whole = new FillingBytes(length);
    this.#whole = whole;
    this.#collect(whole, head, 0);
  }

  #checkOffset(channel: number, offset: number, length: number): void {
    const counter = this.#shape.streamTag === undefined ? channel : 0;
    const expected = this.#nextOffsets.get(counter) ?? 0;
    if (offset !== expected) {
      throw new ConnectError(
        `bytes of the stream are missing: the agent sent those at ${offset} after ${expected}`,
        Code.DataLoss,
      );
    }
    this.#nextOffsets.set(counter, expected + length);
  }
}
