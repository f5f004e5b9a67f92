/** Output of a worker's streams, framed into large buffers that are transferred to the main thread and returned. */
import { framesChannel } from "../../agent-client/bulk-messages.ts";
import type { ByteBudget } from "../../common/byte-budget.ts";
import { type Framing, onItsWay, outputBufferSize, smallBufferSize } from "./thread-messages.ts";

const headerLength = 8;

/** The buffers of all streams of a worker: an idle stream holds none, and their total is bounded by the budget. */
export class BufferSupply {
  readonly #free: Uint8Array[] = [];
  readonly #limit: number;
  readonly #budget: ByteBudget;

  /** @param limit number of free buffers to keep */
  constructor(limit: number, budget: ByteBudget) {
    this.#limit = limit;
    this.#budget = budget;
  }

  /** Bytes of buffers that a stream may hold now. */
  get share(): number {
    return this.#budget.share(onItsWay.output.least, onItsWay.output.most);
  }

  /** @param held bytes that the stream holds already: one that has its share gets a small buffer */
  take(held: number): Uint8Array {
    const size = held + outputBufferSize <= this.share ? outputBufferSize : smallBufferSize;
    this.#budget.take(size);
    return (size === outputBufferSize ? this.#free.pop() : undefined) ?? new Uint8Array(size);
  }

  give(buffer: Uint8Array): void {
    this.#budget.give(buffer.byteLength);
    if (this.#free.length < this.#limit && buffer.byteLength === outputBufferSize) {
      this.#free.push(buffer);
    }
  }

  /** Records buffers that will not be returned. @param bytes their total size */
  forget(bytes: number): void {
    this.#budget.give(bytes);
  }
}

/** Callbacks of an {@link OutputBuffers}. */
export interface OutputPort {
  /** Transfers a buffer whose first `length` bytes are output. */
  post(buffer: Uint8Array, length: number): void;
  /** Too much is in flight: nothing more should be written. */
  exhausted(): void;
  /** There is room again. */
  available(): void;
}

/**
 * Frames the output of one stream. Output written in one turn of the event loop leaves as one buffer, or as soon as a
 * buffer is full; consecutive output of one channel in a buffer is one frame. Every buffer ends at the end of a frame,
 * so that a client has whole frames wherever a stream is cut. Output that arrives in frames keeps them; only a frame
 * larger than a small buffer is split.
 */
export class OutputBuffers {
  readonly #framing: Framing;
  readonly #supply: BufferSupply;
  readonly #port: OutputPort;
  #buffer: Uint8Array | undefined;
  #length = 0;
  /** The offset of the open frame's header in the buffer; -1: none is open. */
  #frameStart = -1;
  #frameChannel = 0;
  /** True if the buffer has frames that arrived as such, the last of them perhaps incomplete. */
  #hasCutFrames: boolean = false;
  /** Bytes at the beginning of the buffer that belong to a frame of an earlier one. */
  #restOfFrame = 0;
  /** Bytes of buffers that were transferred and not returned yet. */
  #handedOver = 0;
  #paused: boolean = false;
  #flush: NodeJS.Immediate | undefined;

  constructor(framing: Framing, supply: BufferSupply, port: OutputPort) {
    this.#framing = framing;
    this.#supply = supply;
    this.#port = port;
  }

  /** Copies `source.subarray(start, end)` into buffers. */
  write(channel: number, source: Uint8Array, start: number, end: number): void {
    let position = start;
    while (position < end) {
      const buffer = this.#room(channel);
      const take = Math.min(end - position, buffer.length - this.#length);
      buffer.set(source.subarray(position, position + take), this.#length);
      this.#length += take;
      position += take;
      if (this.#length === buffer.length) {
        this.#post();
      }
    }
    if (this.#length > 0) {
      this.#flush ??= setImmediate(() => {
        this.#flush = undefined;
        // Without room the buffer stays here, and further output is added to it.
        if (this.#hasRoom) {
          this.#post();
        }
      });
    }
  }

  /** Takes a returned buffer. */
  returned(buffer: Uint8Array): void {
    this.#handedOver -= buffer.byteLength;
    this.#supply.give(buffer);
    if (this.#hasRoom && this.#flush === undefined) {
      this.#post();
    }
    if (this.#paused && this.#handedOver <= this.#supply.share / 2) {
      this.#paused = false;
      this.#port.available();
    }
  }

  /** Flushes the rest; nothing more is written. */
  end(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#post();
  }

  /** True if the client has taken so much that the rest is negligible. */
  get isMostlyTaken(): boolean {
    return this.#handedOver <= outputBufferSize;
  }

  /** Discards the output; no buffer will be returned. */
  discard(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#length = 0;
    this.#supply.forget(this.#handedOver);
    this.#handedOver = 0;
    if (this.#buffer !== undefined) {
      this.#supply.give(this.#buffer);
      this.#buffer = undefined;
    }
  }

  /** The current buffer, with room for at least one byte of this channel. */
  #room(channel: number): Uint8Array {
    if (this.#framing === "raw") {
      this.#buffer ??= this.#supply.take(this.#handedOver);
      return this.#buffer;
    }
    if (this.#buffer !== undefined && this.#frameStart >= 0 && this.#frameChannel === channel) {
      return this.#buffer;
    }
    if (this.#buffer !== undefined && this.#length + headerLength >= this.#buffer.length) {
      this.#post();
    }
    this.#closeFrame();
    const buffer = this.#buffer ?? this.#supply.take(this.#handedOver);
    this.#buffer = buffer;
    if (channel === framesChannel) {
      this.#hasCutFrames = true;
      return buffer;
    }
    this.#frameStart = this.#length;
    this.#frameChannel = channel;
    this.#length += headerLength;
    return buffer;
  }

  get #hasRoom(): boolean {
    return this.#handedOver < this.#supply.share;
  }

  #closeFrame(): void {
    if (this.#buffer === undefined || this.#frameStart < 0) {
      return;
    }
    const header = new DataView(this.#buffer.buffer, this.#frameStart, headerLength);
    header.setUint32(0, this.#frameChannel << 24);
    header.setUint32(4, this.#length - this.#frameStart - headerLength);
    this.#frameStart = -1;
  }

  /** The number of bytes that can be sent: to the end of the last whole frame, or all of a very large one. */
  #wholeFrames(buffer: Uint8Array): number {
    const view = new DataView(buffer.buffer, buffer.byteOffset, this.#length);
    let whole = this.#restOfFrame;
    let next = whole;
    while (next <= this.#length) {
      whole = next;
      next =
        whole + headerLength <= this.#length ? whole + headerLength + view.getUint32(whole + 4) : Infinity;
    }
    if (whole > this.#length) {
      this.#restOfFrame = whole - this.#length;
      return this.#length;
    }
    if (this.#length - whole >= smallBufferSize) {
      this.#restOfFrame = next - this.#length;
      return this.#length;
    }
    this.#restOfFrame = 0;
    return whole;
  }

  #post(): void {
    const buffer = this.#buffer;
    if (buffer === undefined || this.#length === 0) {
      return;
    }
    this.#closeFrame();
    const length = this.#hasCutFrames ? this.#wholeFrames(buffer) : this.#length;
    if (length === 0) {
      return; // The rest of the frame is to come.
    }
    const begun = buffer.slice(length, this.#length);
    this.#buffer = undefined;
    this.#length = 0;
    this.#hasCutFrames = false;
    this.#handedOver += buffer.byteLength;
    this.#port.post(buffer, length);
    if (begun.length > 0) {
      this.#buffer = this.#supply.take(this.#handedOver);
      this.#buffer.set(begun);
      this.#length = begun.length;
      this.#hasCutFrames = true;
    }
    if (!this.#hasRoom && !this.#paused) {
      this.#paused = true;
      this.#port.exhausted();
    }
  }
}
