/** Extracts gRPC's length-prefixed messages from the chunks of a response. */
import { Code, ConnectError } from "@connectrpc/connect";

import { type BulkShape, decodeBulkHead, maxBulkHead } from "./bulk-messages.ts";
import { FillingBytes } from "../common/filling-bytes.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";

/** The proto limits data to 1 MiB; the rest is tags and lengths. */
const maxBulkMessage = 1024 * 1024 + 64;
/** Size limit for messages that are decoded whole; the longest is an error's text. */
const maxOtherMessage = 64 * 1024;
/** Bytes that such a message counts besides its own: a stream has a thousand short ones at once, and about one a second. */
const otherMessageCost = 64;
/** The most of a stream's other messages at once, and what each second adds: heartbeats may wait for hours. */
const [othersAtOnce, othersPerSecond] = [maxOtherMessage + 8 * 1024, 64];

/** Receives the messages. Slices are only valid during the call. */
export interface FrameReceiver {
  /** A piece of a bulk message's data as it arrives: `source.subarray(start, end)`, never empty. */
  data(channel: number, source: Uint8Array, start: number, end: number): void;
  /** A complete message of another kind. */
  message(bytes: Uint8Array): void;
}

/**
 * An incremental decoder. It passes on the data of bulk messages chunk by chunk, without waiting for the message's end,
 * and checks offsets, so that a gap is an error.
 */
export class FrameReader {
  readonly #shape: BulkShape;
  readonly #receiver: FrameReceiver;
  /** The prefix and the message's first bytes, until its kind is known. */
  readonly #head = new Uint8Array(prefixLength + maxBulkHead);
  #headLength = 0;
  /** Length of the current message in bytes; undefined until its prefix is complete. */
  #messageLength: number | undefined;
  /** A message that is collected whole. */
  #whole: FillingBytes | undefined;
  /** Bytes of the current bulk message still to come. */
  #dataLeft = 0;
  #channel = 0;
  /**
   * Expected offset of the next data: by channel for a session; one for all channels if the stream number is the
   * channel.
   */
  readonly #nextOffsets = new Map<number, number>();
  readonly #begunAt = performance.now();
  #others = 0;

  constructor(shape: BulkShape, receiver: FrameReceiver) {
    this.#shape = shape;
    this.#receiver = receiver;
  }

  /** True if the stream may end here, between two messages. */
  get atBoundary(): boolean {
    return this.#headLength === 0 && this.#whole === undefined && this.#dataLeft === 0;
  }

  /**
   * Decodes the next chunk.
   *
   * @throws ConnectError `DataLoss` for anything but valid messages, and for too many without data; the stream cannot be
   *   read further
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
      throw new ConnectError("the agent sent an unrequested compressed message", Code.DataLoss);
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
    if (dataLength === 0) {
      this.#countOther(length);
    }
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
    this.#countOther(length);
    const whole = new FillingBytes(length);
    this.#whole = whole;
    this.#collect(whole, head, 0);
  }

  #countOther(length: number): void {
    this.#others += length + otherMessageCost;
    const seconds = (performance.now() - this.#begunAt) / 1_000;
    if (this.#others > othersAtOnce + seconds * othersPerSecond) {
      throw new ConnectError("the agent sends too many messages besides its data", Code.DataLoss);
    }
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
