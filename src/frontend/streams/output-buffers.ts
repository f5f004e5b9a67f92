/** Output on its way out of a worker: framed into large buffers that are handed over and come back. */
import { type Framing, outputBufferSize, outputCredits } from "./thread-messages.ts";

const headerLength = 8;

/** Buffers that are free, shared by all streams of a worker, so that an idle stream holds none. */
export class BufferSupply {
  readonly #free: Uint8Array[] = [];
  readonly #limit: number;

  /** @param limit how many free buffers are kept */
  constructor(limit: number) {
    this.#limit = limit;
  }

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(outputBufferSize);
  }

  give(buffer: Uint8Array): void {
    if (this.#free.length < this.#limit && buffer.byteLength === outputBufferSize) {
      this.#free.push(buffer);
    }
  }
}

/** What an {@link OutputBuffers} does to its surroundings. */
export interface OutputPort {
  /** Hands a buffer over: its first `length` bytes are output. */
  post(buffer: Uint8Array, length: number): void;
  /** Too much is on its way: nothing more should be written. */
  exhausted(): void;
  /** There is room again. */
  available(): void;
}

/**
 * Frames the output of one stream. What is written in one turn of the event loop leaves as one buffer, or as soon as a
 * buffer is full; consecutive output of one channel in a buffer is one frame. Every buffer ends with a frame, so that
 * wherever a stream is cut a client has whole frames.
 */
export class OutputBuffers {
  readonly #framing: Framing;
  readonly #supply: BufferSupply;
  readonly #port: OutputPort;
  #buffer: Uint8Array | undefined;
  #length = 0;
  /** Where the header of the frame at hand is; -1: none is open. */
  #frameStart = -1;
  #frameChannel = 0;
  #credits = outputCredits;
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
        // Without credits the buffer waits: what is written meanwhile leaves with it.
        if (this.#credits > 0) {
          this.#post();
        }
      });
    }
  }

  /** A buffer came back. */
  returned(buffer: Uint8Array): void {
    this.#supply.give(buffer);
    this.#credits++;
    if (this.#credits > 0 && this.#flush === undefined) {
      this.#post();
    }
    if (this.#paused && this.#credits >= outputCredits / 2) {
      this.#paused = false;
      this.#port.available();
    }
  }

  /** Nothing more is written: what is left goes out now. */
  end(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#post();
  }

  /** Nobody wants the output any more. */
  discard(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#length = 0;
    if (this.#buffer !== undefined) {
      this.#supply.give(this.#buffer);
      this.#buffer = undefined;
    }
  }

  /** The buffer at hand with room for at least one byte of this channel. */
  #room(channel: number): Uint8Array {
    if (this.#framing === "raw") {
      this.#buffer ??= this.#supply.take();
      return this.#buffer;
    }
    if (this.#buffer !== undefined && this.#frameStart >= 0 && this.#frameChannel === channel) {
      return this.#buffer;
    }
    if (this.#buffer !== undefined && this.#length + headerLength >= this.#buffer.length) {
      this.#post();
    }
    this.#closeFrame();
    const buffer = this.#buffer ?? this.#supply.take();
    this.#buffer = buffer;
    this.#frameStart = this.#length;
    this.#frameChannel = channel;
    this.#length += headerLength;
    return buffer;
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

  #post(): void {
    const buffer = this.#buffer;
    if (buffer === undefined || this.#length === 0) {
      return;
    }
    this.#closeFrame();
    const length = this.#length;
    this.#buffer = undefined;
    this.#length = 0;
    this.#credits--;
    this.#port.post(buffer, length);
    if (this.#credits <= 0 && !this.#paused) {
      this.#paused = true;
      this.#port.exhausted();
    }
  }
}
