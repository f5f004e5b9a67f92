/** The main thread's end of a stream that runs in a worker. */
import type {
  CarriedBytes,
  HandOverOffer,
  Opened,
  Outcome,
  StreamFailure,
} from "../../agent-client/agent-stream.ts";
import type { ByteBudget } from "../../common/byte-budget.ts";
import { SockerlessError } from "../../common/errors.ts";
import { streamBytes, streamEnded } from "../../common/metrics/measure.ts";
import { type FromWorker, inputBatch, onItsWay, type ToWorker, weightOf } from "./thread-messages.ts";
import type { StreamPort } from "./thread-ports.ts";

/** A stream that failed. */
export class StreamError extends SockerlessError {
  /** 126 or 127 if the process could not start; else 0. */
  readonly exitCode: number;

  constructor({ kind, message, exitCode }: StreamFailure) {
    super(kind, message);
    this.exitCode = exitCode;
  }
}

/** Takes output. `written` must be called once the memory of `chunk` is no longer needed. */
export type OutputSink = (chunk: Uint8Array, written: () => void) => void;

/** A stream to an agent. */
export class StreamLink {
  readonly #port: StreamPort<FromWorker>;
  readonly #inputBudget: ByteBudget;
  readonly #opened = Promise.withResolvers<Opened>();
  readonly #ended = Promise.withResolvers<Outcome>();
  readonly #handed = Promise.withResolvers<void>();
  /** Output that arrived before there was a sink; the worker's budget bounds it. */
  #waiting: { readonly buffer: Uint8Array; readonly length: number }[] = [];
  #sink: OutputSink | undefined;
  /** Input that is sent together, at the latest at the end of this turn of the event loop. */
  #batch: Uint8Array[] = [];
  #flush: NodeJS.Immediate | undefined;
  /** Weight ({@link weightOf}) of input that the worker has not acknowledged. */
  #inputOnItsWay = 0;
  #drained: (() => void) | undefined;
  #outputEnd: (() => void) | undefined;
  #isOpen: boolean = false;
  #over: boolean = false;
  #offer: HandOverOffer | undefined;
  #carried: CarriedBytes | undefined;

  /**
   * @param died rejects when the worker's thread ends before the stream does
   * @param inputBudget shared budget for the input of all streams
   */
  constructor(port: StreamPort<FromWorker>, died: Promise<never>, inputBudget: ByteBudget) {
    this.#port = port;
    this.#inputBudget = inputBudget;
    // The caller that waits for one of them handles the failure; the other must not count as unhandled.
    this.#opened.promise.catch(() => {});
    this.#ended.promise.catch(() => {});
    this.#handed.promise.catch(() => {});
    port.on("message", (message: FromWorker) => this.#receive(message));
    died.catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#fail({ kind: "system", message: `the stream's worker thread ended: ${reason}`, exitCode: 0 });
    });
  }

  /** Resolves once the agent has accepted the stream. Rejects with a {@link StreamError}. */
  get opened(): Promise<Opened> {
    return this.#opened.promise;
  }

  /**
   * Resolves once the stream has ended and the sink has got all its output. Rejects with a {@link StreamError} if it
   * failed or was cut: how the process ended is then unknown.
   */
  get ended(): Promise<Outcome> {
    return this.#ended.promise;
  }

  /** Resolves once the agent has the client's connection. Rejects with a {@link StreamError} if it never will. */
  get handed(): Promise<void> {
    return this.#handed.promise;
  }

  /** The agent's offer to take the client's connection, once the stream is open; undefined if it made none. */
  get offer(): HandOverOffer | undefined {
    return this.#offer;
  }

  /** Bytes that the agent transferred, once the stream has ended; undefined if it reported none. */
  get carried(): CarriedBytes | undefined {
    return this.#carried;
  }

  /** Declines the hand-over of the client's connection, before any input. */
  keep(): void {
    this.#post({ type: "keep" });
  }

  /** Sets the sink for the output, earlier output included. May be called once. */
  pipeTo(sink: OutputSink): void {
    this.#sink = sink;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { buffer, length } of waiting) {
      this.#deliver(sink, buffer, length);
    }
  }

  /**
   * Sends input. The chunk's memory is transferred if the chunk owns it.
   *
   * @returns whether there is room for more; if not, `onDrain` is called when there is
   */
  write(chunk: Uint8Array): boolean {
    if (this.#over) {
      return true;
    }
    const whole = chunk.byteLength === chunk.buffer.byteLength;
    const own = whole ? chunk : new Uint8Array(chunk);
    const weight = weightOf([own]);
    this.#inputOnItsWay += weight;
    streamBytes.report(() => ({ direction: "input", bytes: own.byteLength }));
    this.#inputBudget.take(weight);
    this.#batch.push(own);
    if (this.#batch.length >= inputBatch) {
      this.#sendBatch();
    } else {
      this.#flush ??= setImmediate(() => this.#sendBatch());
    }
    return this.#hasRoom;
  }

  /** Sets the callback for when queued input has been sent. */
  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  /** Sets the callback for the end of output, after which input may continue; called before the stream opens. */
  onOutputEnd(ended: () => void): void {
    this.#outputEnd = ended;
  }

  /** Ends the input. */
  endInput(): void {
    this.#sendBatch();
    this.#post({ type: "input-end" });
  }

  /**
   * Reports that the client is gone: the process continues, and gets what the client sent before.
   *
   * @param reason the error with which `opened` and `ended` reject, if still pending
   */
  leave(reason: StreamFailure = { kind: "system", message: "the client is gone", exitCode: 0 }): void {
    this.#sendBatch();
    this.#post({ type: "leave" });
    this.#fail(reason);
  }

  /**
   * Abandons the stream; the last input may be lost. The process continues.
   *
   * @param reason the error with which `opened` and `ended` reject, if still pending
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
        streamBytes.report(() => ({ direction: "input", bytes: message.bytes.input }));
        streamBytes.report(() => ({ direction: "output", bytes: message.bytes.output }));
        break;
      case "output-end":
        this.#outputEnd?.();
        break;
      case "input-taken":
        this.#inputOnItsWay -= message.weight;
        this.#inputBudget.give(message.weight);
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
        streamEnded.report(() => ({ outcome: "ended" }));
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
    streamBytes.report(() => ({ direction: "output", bytes: length }));
    sink(buffer.subarray(0, length), () => this.#post({ type: "returned", buffer }, buffer));
  }

  #fail(failure: StreamFailure): void {
    if (this.#over) {
      return;
    }
    const error = new StreamError(failure);
    streamEnded.report(() => ({ outcome: "failed" }));
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
