/**
 * The agent's streams as their users see them: opened, then data both ways, then exactly one end. A {@link StreamKind}
 * holds what differs between the kinds (session, logs, archive get and put, export, tunnel).
 */
import type { ConnectError } from "@connectrpc/connect";

import { type ErrorKind, fromUnknown } from "../common/errors.ts";
import { type BulkCall, BulkStream } from "./bulk-stream.ts";
import type { AgentConnection } from "./connection.ts";

/** Facts about a stream that are known once the agent has accepted it. */
export type Opened =
  | { readonly kind: "session"; readonly pid: number; readonly tty: boolean }
  | { readonly kind: "logs" }
  | { readonly kind: "export" }
  | { readonly kind: "tunnel" }
  | { readonly kind: "archive"; readonly stat: ArchivedPath }
  /** The agent is ready to receive the archive. */
  | { readonly kind: "archive-put" };

/** An offer of the agent to take over the client's connection: once, at a unix socket, from the holder of the token. */
export interface HandOverOffer {
  readonly socket: string;
  readonly token: string;
}

/** Bytes transferred over a connection that was handed over. */
export interface CarriedBytes {
  readonly input: number;
  readonly output: number;
}

/** A `PathStat` as plain data. */
export interface ArchivedPath {
  readonly name: string;
  readonly size: number;
  /** Go's `os.FileMode` bits. */
  readonly mode: number;
  readonly mtime: { readonly seconds: bigint; readonly nanos: number };
  readonly linkTarget: string;
}

/** The result of a stream that was not cut. */
export type Outcome =
  | { readonly kind: "exit"; readonly exitCode: number }
  /** The exec or attachment goes on without this client. */
  | { readonly kind: "detached" }
  | { readonly kind: "complete"; readonly totalBytes: number };

/** The failure of a stream, as plain data that crosses threads. */
export interface StreamFailure {
  readonly kind: ErrorKind;
  readonly message: string;
  /** 126 or 127 if a process could not start; otherwise 0. */
  readonly exitCode: number;
}

/** Receives the events of an {@link AgentStream}. `ended` or `failed` is called once, as the last event. */
export interface StreamListener {
  opened(opened: Opened): void;
  /** `source.subarray(start, end)` is only valid during the call. */
  data(channel: number, source: Uint8Array, start: number, end: number): void;
  /** No more data follows; input may continue. Only for kinds with independent directions. */
  outputEnded(): void;
  /** The agent has the client's connection, which now carries data and input. Only for sessions. */
  handed?(): void;
  /** The client's connection may be handed over, instead of sending data and input here; called before `opened`. */
  offered?(offer: HandOverOffer): void;
  /** Reports the bytes of such a connection; called before `ended` or `failed`. */
  carried?(bytes: CarriedBytes): void;
  ended(outcome: Outcome): void;
  failed(failure: StreamFailure): void;
}

/** The meaning of a message without bulk data. */
export type StreamSignal =
  | { readonly type: "heartbeat" }
  | { readonly type: "opened"; readonly opened: Opened; readonly offer?: HandOverOffer | undefined }
  | { readonly type: "offered"; readonly offer: HandOverOffer }
  | { readonly type: "handed" }
  | { readonly type: "carried"; readonly bytes: CarriedBytes }
  /** No more output; the stream ends once the input has ended too. */
  | { readonly type: "output-ended"; readonly totalBytes: number }
  | { readonly type: "ended"; readonly outcome: Outcome }
  | { readonly type: "failed"; readonly failure: StreamFailure };

/** One of the agent's streaming calls. */
export interface StreamKind extends Omit<BulkCall, "containerId" | "carriesInput"> {
  /** Set if no message says that the stream is open: the first message of any kind then does. */
  readonly openedByDefault?: Opened;
  /** Set if a response header says that the stream is open. For stored files of clouds it is not sent. */
  readonly openedByHeader?: { readonly name: string; readonly opened: Opened };
  /** The message for the end of input, and whether it is the last message of the request. */
  readonly inputEnd?: (inputBytes: number) => { readonly message: Uint8Array; readonly last: boolean };
  /** The message saying that the client has left, and that the input sent so far still counts. */
  readonly leave?: Uint8Array;
  /** The message that declines to hand over the client's connection. */
  readonly keep?: Uint8Array;
  /** @throws if the bytes are no message of this kind */
  readonly decode: (message: Uint8Array) => StreamSignal;
}

/** A stream's first request. */
export interface StreamRequest {
  /** Full ID; needed if the address serves several containers. */
  readonly containerId: string | undefined;
  /** The encoded first request message. */
  readonly first: Uint8Array;
  /** True if input will be sent. */
  readonly carriesInput: boolean;
  /** True if the agent was asked to offer to take the client's connection; default: false. */
  readonly handOver?: boolean;
}

/** A stream in progress. Once it has ended, methods have no effect. */
export class AgentStream {
  readonly #kind: StreamKind;
  readonly #listener: StreamListener;
  readonly #mayOffer: boolean;
  #stream: BulkStream | undefined;
  #received = 0;
  #inputEnded: boolean = false;
  #outputEnded: boolean = false;
  #over: boolean = false;
  #openedByDefault: boolean = false;
  /** True if data may bypass this stream after a hand-over. */
  #isOffered: boolean = false;
  /** Signals that have come: none but heartbeats comes twice. */
  readonly #said = new Set<StreamSignal["type"]>();

  /**
   * Opens a stream. The agent's failures are reported to the listener.
   *
   * @throws ConnectError `Unavailable` if the agent cannot be reached
   */
  static async open(
    connection: AgentConnection,
    kind: StreamKind,
    request: StreamRequest,
    listener: StreamListener,
  ): Promise<AgentStream> {
    const { containerId, first, carriesInput, handOver } = request;
    const stream = new AgentStream(kind, listener, handOver === true);
    stream.#stream = await BulkStream.open(connection, { ...kind, containerId, carriesInput }, first, {
      data: (channel, source, start, end) => {
        if (!stream.#over) {
          stream.#openByDefault();
          stream.#received += end - start;
          listener.data(channel, source, start, end);
        }
      },
      message: (bytes) => stream.#understand(bytes),
      answered: (headers) => {
        const { openedByHeader } = kind;
        if (openedByHeader !== undefined && !stream.#over && headers[openedByHeader.name] !== undefined) {
          listener.opened(openedByHeader.opened);
        }
      },
      closed: (error) => stream.#closed(error),
    });
    return stream;
  }

  private constructor(kind: StreamKind, listener: StreamListener, mayOffer: boolean) {
    this.#kind = kind;
    this.#listener = listener;
    this.#mayOffer = mayOffer;
  }

  /**
   * Sends input; the bytes must stay unchanged until `taken` is called.
   *
   * @param taken called when there may be room for more, or the stream takes no more input
   */
  sendInput(data: Uint8Array, taken: () => void): void {
    if (this.#over || this.#inputEnded || this.#stream === undefined) {
      taken();
    } else {
      this.#stream.sendData(data, taken);
    }
  }

  /** Ends the input: the process reads end of file, or the archive is complete. */
  endInput(): void {
    const { inputEnd } = this.#kind;
    if (this.#over || this.#inputEnded || this.#stream === undefined || inputEnd === undefined) {
      return;
    }
    this.#inputEnded = true;
    const { message, last } = inputEnd(this.#stream.inputLength);
    this.#stream.send(message);
    if (last) {
      this.#stream.endSending();
    }
    this.#endIfBothEnded();
  }

  /** Declines the offer made with `opened`. */
  keep(): void {
    const { keep } = this.#kind;
    if (keep !== undefined && !this.#over) {
      this.#stream?.send(keep);
    }
  }

  /** Stops reading; flow control then stops the agent. */
  pause(): void {
    if (!this.#over) {
      this.#stream?.pause();
    }
  }

  /** Resumes reading. */
  resume(): void {
    if (!this.#over) {
      this.#stream?.resume();
    }
  }

  /** Cancels the stream without further events. The process keeps running. */
  cancel(): void {
    if (!this.#over) {
      this.#finish();
      this.#stream?.cancel();
    }
  }

  /**
   * Detaches when the client has gone: there are no further events, and the process keeps running. Input already sent
   * still reaches it if the stream's kind has a `leave` message.
   */
  leave(): void {
    const { leave } = this.#kind;
    if (leave === undefined) {
      this.cancel();
    } else if (!this.#over) {
      this.#finish();
      this.#stream?.leave(leave);
    }
  }

  #openByDefault(): void {
    const { openedByDefault } = this.#kind;
    if (openedByDefault !== undefined && !this.#openedByDefault && !this.#over) {
      this.#openedByDefault = true;
      this.#listener.opened(openedByDefault);
    }
  }

  #finish(): void {
    this.#over = true;
  }

  #understand(bytes: Uint8Array): void {
    if (this.#over) {
      return;
    }
    const signal = this.#kind.decode(bytes);
    if (!this.#mayBeSaid(signal)) {
      this.#finish();
      this.#stream?.cancel();
      const message = "the agent said what it was not asked, or the same twice";
      this.#listener.failed({ kind: "system", message, exitCode: 0 });
      return;
    }
    if ("offer" in signal && signal.offer !== undefined) {
      this.#isOffered = true;
      this.#listener.offered?.(signal.offer);
    }
    this.#openByDefault();
    switch (signal.type) {
      case "heartbeat":
      case "offered":
        break;
      case "opened":
        this.#listener.opened(signal.opened);
        break;
      case "handed":
        this.#listener.handed?.();
        break;
      case "carried":
        this.#listener.carried?.(signal.bytes);
        break;
      case "output-ended":
        this.#endOutput(signal.totalBytes);
        break;
      case "ended":
        this.#end(signal.outcome);
        break;
      case "failed":
        this.#finish();
        this.#stream?.release();
        this.#listener.failed(signal.failure);
        break;
    }
  }

  /** Refuses what a lying agent could say without end, or have this process connect to. */
  #mayBeSaid(signal: StreamSignal): boolean {
    const isRepeated = signal.type !== "heartbeat" && this.#said.has(signal.type);
    this.#said.add(signal.type);
    const isOffer = "offer" in signal && signal.offer !== undefined;
    const isOfTaken = signal.type === "handed" || signal.type === "carried";
    return !isRepeated && !(isOffer && !this.#mayOffer) && !(isOfTaken && !this.#isOffered);
  }

  #endOutput(totalBytes: number): void {
    if (totalBytes !== this.#received) {
      this.#finish();
      this.#stream?.cancel();
      this.#failIncomplete(this.#received, totalBytes);
      return;
    }
    this.#outputEnded = true;
    this.#listener.outputEnded();
    this.#endIfBothEnded();
  }

  #endIfBothEnded(): void {
    if (this.#outputEnded && this.#inputEnded && !this.#over) {
      this.#finish();
      this.#stream?.release();
      this.#listener.ended({ kind: "complete", totalBytes: this.#received });
    }
  }

  #end(outcome: Outcome): void {
    this.#finish();
    this.#stream?.release();
    const expected = this.#kind.inputTag === undefined ? this.#received : this.#stream?.inputLength;
    if (outcome.kind === "complete" && outcome.totalBytes !== expected && !this.#isOffered) {
      this.#failIncomplete(expected ?? 0, outcome.totalBytes);
    } else {
      this.#listener.ended(outcome);
    }
  }

  #failIncomplete(transferred: number, total: number): void {
    this.#listener.failed({
      kind: "system",
      message: `bytes of the stream are missing: ${transferred} of ${total} were transferred`,
      exitCode: 0,
    });
  }

  #closed(error: ConnectError | undefined): void {
    if (this.#over) {
      return;
    }
    this.#finish();
    const { kind, message } = fromUnknown(
      error ?? new Error("the agent's stream ended before its last message"),
    );
    this.#listener.failed({ kind, message, exitCode: 0 });
  }
}
