/** One stream as the main thread sees it; its other end is in a worker. */
import type {
  CarriedBytes,
  HandOverOffer,
  Opened,
  Outcome,
  StreamFailure,
} from "../../agent-client/agent-stream.ts";
import type { ByteBudget } from "../../common/byte-budget.ts";
import { SockerlessError } from "../../common/errors.ts";
import { type FromWorker, inputBatch, onItsWay, type ToWorker } from "./thread-messages.ts";
import type { StreamPort } from "./thread-ports.ts";

/** A stream that failed. */
export class StreamError extends SockerlessError {
  /** 126 or 127 where the process could not start; else 0. */
  readonly exitCode: number;

  constructor({ kind, message, exitCode }: StreamFailure) {
    super(kind, message);
    this.exitCode = exitCode;
  }
}

/** Takes output. `written` must be called once the memory of `chunk` is not needed any more. */
export type OutputSink = (chunk: Uint8Array, written: () => void) => void;

/** A stream to an agent. */
export class StreamLink {
  readonly #port: StreamPort<FromWorker>;
  readonly #inputBudget: ByteBudget;
  readonly #opened = Promise.withResolvers<Opened>();
  readonly #ended = Promise.withResolvers<Outcome>();
  readonly #handed = Promise.withResolvers<void>();
  /** Output that came before somebody took it; the budget of the worker bounds it. */
  #waiting: { readonly buffer: Uint8Array; readonly length: number }[] = [];
  #sink: OutputSink | undefined;
  /** Input that leaves together, at the end of this turn of the event loop at the latest. */
  #batch: Uint8Array[] = [];
  #flush: NodeJS.Immediate | undefined;
  /** Bytes of input that the worker has not acknowledged. */
  #inputOnItsWay = 0;
  #drained: (() => void) | undefined;
  #outputEnd: (() => void) | undefined;
  #isOpen: boolean = false;
  #over: boolean = false;
  #offer: HandOverOffer | undefined;
  #carried: CarriedBytes | undefined;

  /**
   * @param died rejects when the worker's thread ends before the stream does
   * @param inputBudget what the input of all streams is taken from
   */
  constructor(port: StreamPort<FromWorker>, died: Promise<never>, inputBudget: ByteBudget) {
    this.#port = port;
    this.#inputBudget = inputBudget;
    // A failure is heard by the caller that waits for one of them; the other must not count as unhandled.
    this.#opened.promise.catch(() => {});
    this.#ended.promise.catch(() => {});
    this.#handed.promise.catch(() => {});
    port.on("message", (message: FromWorker) => this.#receive(message));
    died.catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#fail({ kind: "system", message: `the stream's worker thread ended: ${reason}`, exitCode: 0 });
    });
  }

  /** Resolves once the agent has taken the stream. Rejects with a {@link StreamError}. */
  get opened(): Promise<Opened> {
    return this.#opened.promise;
  }

  /**
   * Once the stream has ended and all its output has been given to the sink. Rejects with a {@link StreamError} when it
   * failed or was cut: then it is not known how the process ended.
   */
  get ended(): Promise<Outcome> {
    return this.#ended.promise;
  }

  /** Resolves once the agent has the client's connection. Rejects with a {@link StreamError} when it never will. */
  get handed(): Promise<void> {
    return this.#handed.promise;
  }

  /** The agent's offer to take the client's connection, once the stream is open; undefined: it made none. */
  get offer(): HandOverOffer | undefined {
    return this.#offer;
  }

  /** Bytes that the agent carried, once the stream has ended; undefined: it told none. */
  get carried(): CarriedBytes | undefined {
    return this.#carried;
  }

  /** Says that the client's connection is not handed on, before any input. */
  keep(): void {
    this.#post({ type: "keep" });
  }

  /** Takes the output, what came before included. May be called once. */
  pipeTo(sink: OutputSink): void {
    this.#sink = sink;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { buffer, length } of waiting) {
      this.#deliver(sink, buffer, length);
    }
  }

  /**
   * Sends input. The chunk is given away where its memory is its own.
   *
   * @returns whether there is room for more; if not, `onDrain` tells when
   */
  write(chunk: Uint8Array): boolean {
    if (this.#over) {
      return true;
    }
    const whole = chunk.byteLength === chunk.buffer.byteLength;
    const own = whole ? chunk : new Uint8Array(chunk);
    this.#inputOnItsWay += own.byteLength;
    this.#inputBudget.take(own.byteLength);
    this.#batch.push(own);
    if (this.#batch.length >= inputBatch) {
      this.#sendBatch();
    } else {
      this.#flush ??= setImmediate(() => this.#sendBatch());
    }
    return this.#hasRoom;
  }

  /** Sets the callback for when input that did not find room has left. */
  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  /** Sets the callback for when no more output comes, though input may; called before the stream opens. */
  onOutputEnd(ended: () => void): void {
    this.#outputEnd = ended;
  }

  /** No more input. */
  endInput(): void {
    this.#sendBatch();
    this.#post({ type: "input-end" });
  }

  /**
   * The client is gone: the process goes on, and gets what the client sent before.
   *
   * @param reason what `opened` and `ended` reject with, where they are still pending
   */
  leave(reason: StreamFailure = { kind: "system", message: "the client is gone", exitCode: 0 }): void {
    this.#sendBatch();
    this.#post({ type: "leave" });
    this.#fail(reason);
  }

  /**
   * Gives the stream up; what was sent last may be lost. The process goes on.
   *
   * @param reason what `opened` and `ended` reject with, where they are still pending
   */
  cancel(reason: StreamFailure = { kind: "system", message: "the client is gone", exitCode: 0 }): void {
    this.#post({ type: "cancel" });
    this.#fail(reason);
  }

  get #hasRoom(): boolean {
    const { least, most } = onItsWay.input;
    return this.#inputOnItsWay < this.#inputBudget.share(least, most);
  }

  #receive(message: FromWorker): void {
    if (this.#over) {
      return;
    }
    switch (message.type) {
      case "opened":
        this.#isOpen = true;
        this.#opened.resolve(message.opened);
        break;
      case "offered":
        this.#offer = message.offer;
        break;
      case "output":
        if (this.#sink === undefined) {
          this.#waiting.push(message);
        } else {
          this.#deliver(this.#sink, message.buffer, message.length);
        }
        break;
      case "handed":
        this.#handed.resolve();
        break;
      case "carried":
        this.#carried = message.bytes;
        break;
      case "output-end":
        this.#outputEnd?.();
        break;
      case "input-taken":
        this.#inputOnItsWay -= message.bytes;
        this.#inputBudget.give(message.bytes);
        if (this.#hasRoom) {
          this.#drained?.();
        }
        break;
      case "ended":
        if (!this.#isOpen) {
          this.#opened.reject(
            new StreamError({ kind: "system", message: "the stream ended unopened", exitCode: 0 }),
          );
        }
        this.#handed.reject(
          new StreamError({
            kind: "system",
            message: "the stream ended before it was handed on",
            exitCode: 0,
          }),
        );
        this.#ended.resolve(message.outcome);
        this.#close();
        break;
      case "failed":
        this.#fail(message.failure);
        break;
    }
  }

  #sendBatch(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    const chunks = this.#batch;
    if (chunks.length > 0) {
      this.#batch = [];
      this.#post({ type: "input", chunks }, ...chunks);
    }
  }

  #deliver(sink: OutputSink, buffer: Uint8Array, length: number): void {
    sink(buffer.subarray(0, length), () => this.#post({ type: "returned", buffer }, buffer));
  }

  #fail(failure: StreamFailure): void {
    if (this.#over) {
      return;
    }
    const error = new StreamError(failure);
    this.#opened.reject(error);
    this.#ended.reject(error);
    this.#handed.reject(error);
    this.#close();
  }

  #close(): void {
    this.#over = true;
    clearImmediate(this.#flush);
    this.#batch = [];
    this.#inputBudget.give(this.#inputOnItsWay);
    this.#inputOnItsWay = 0;
    this.#drained?.();
    this.#port.close();
  }

  #post(message: ToWorker, ...transfer: readonly Uint8Array[]): void {
    if (!this.#over) {
      this.#port.postMessage(
        message,
        transfer.map(({ buffer }) => buffer as ArrayBuffer),
      );
    }
  }
}
