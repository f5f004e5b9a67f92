/**
 * Streams of the agent as their users see them: opened, data both ways, and exactly one end. The differences
 * between the kinds (session, logs, archive get and put, export, tunnel) stand in a {@link StreamKind} each.
 */
import type { ConnectError } from "@connectrpc/connect";

import { type ErrorKind, fromUnknown } from "../common/errors.ts";
import { BulkStream } from "./bulk-stream.ts";
import type { BulkShape } from "./bulk-messages.ts";
import type { AgentConnection } from "./connection.ts";

/** Facts about a stream that are known once the agent has taken it. */
export type Opened =
  | { readonly kind: "session"; readonly pid: number; readonly tty: boolean }
  | { readonly kind: "logs" }
  | { readonly kind: "export" }
  | { readonly kind: "tunnel" }
  | { readonly kind: "archive"; readonly stat: ArchivedPath }
  /** The archive that is to come is taken. */
  | { readonly kind: "archive-put" };

/** The agent takes the client's connection at a unix socket, once, from whoever has the token. */
export interface HandOverOffer {
  readonly socket: string;
  readonly token: string;
}

/** Bytes that went over a connection that was handed on. */
export interface CarriedBytes {
  readonly input: number;
  readonly output: number;
}

/** A `PathStat`, as plain data. */
export interface ArchivedPath {
  readonly name: string;
  readonly size: number;
  /** Go's `os.FileMode` bits. */
  readonly mode: number;
  readonly mtime: { readonly seconds: bigint; readonly nanos: number };
  readonly linkTarget: string;
}

/** The end of a stream that was not cut. */
export type Outcome =
  | { readonly kind: "exit"; readonly exitCode: number }
  /** The exec or attachment goes on without us. */
  | { readonly kind: "detached" }
  | { readonly kind: "complete"; readonly totalBytes: number };

/** Why a stream failed, as plain data that crosses threads. */
export interface StreamFailure {
  readonly kind: ErrorKind;
  readonly message: string;
  /** 126 or 127 where a process could not start; else 0. */
  readonly exitCode: number;
}

/** Takes the events of an {@link AgentStream}. `ended` or `failed` is called once and last. */
export interface StreamListener {
  opened(opened: Opened): void;
  /** `source.subarray(start, end)` is only valid during the call. */
  data(channel: number, source: Uint8Array, start: number, end: number): void;
  /** No more data comes; input may go on. Only of kinds whose directions end apart. */
  outputEnded(): void;
  /** The agent has the client's connection: data and input no longer come this way. Only of sessions. */
  handed?(): void;
  /** The client's connection may be handed on, in place of all data and input; told before `opened`. */
  offered?(offer: HandOverOffer): void;
  /** Told of such a connection before `ended` or `failed`. */
  carried?(bytes: CarriedBytes): void;
  ended(outcome: Outcome): void;
  failed(failure: StreamFailure): void;
}

/** Meaning of a message that is not bulk data. */
export type StreamSignal =
  | { readonly type: "heartbeat" }
  | { readonly type: "opened"; readonly opened: Opened; readonly offer?: HandOverOffer | undefined }
  | { readonly type: "offered"; readonly offer: HandOverOffer }
  | { readonly type: "handed" }
  | { readonly type: "carried"; readonly bytes: CarriedBytes }
  /** No more output: the stream ends when the input has ended too. */
  | { readonly type: "output-ended"; readonly totalBytes: number }
  | { readonly type: "ended"; readonly outcome: Outcome }
  | { readonly type: "failed"; readonly failure: StreamFailure };

/** One of the agent's streaming calls. */
export interface StreamKind {
  readonly path: string;
  readonly shape: BulkShape;
  readonly inputTag: number | undefined;
  readonly heartbeat: Uint8Array | undefined;
  readonly expectsHeartbeats: boolean;
  /** Set where no message says that the stream is open: then the first message of any kind does. */
  readonly openedByDefault?: Opened;
  /** Set where a field of the answer's header says that the stream is open. Agents of earlier versions say nothing. */
  readonly openedByHeader?: { readonly name: string; readonly opened: Opened };
  /** The message that says that no more input comes, and whether the request ends with it. */
  readonly inputEnd?: (inputBytes: number) => { readonly message: Uint8Array; readonly last: boolean };
  /** The message that says that the client has gone, and that its input so far still counts. */
  readonly leave?: Uint8Array;
  /** The message that says that the client's connection is not handed on. */
  readonly keep?: Uint8Array;
  /** @throws where the bytes are no message of this kind */
  readonly decode: (message: Uint8Array) => StreamSignal;
}

/** First request of a stream. */
export interface StreamRequest {
  /** Full ID; needed where the address serves several containers. */
  readonly containerId: string | undefined;
  /** The encoded first request message. */
  readonly first: Uint8Array;
  /** True if input will be sent. */
  readonly carriesInput: boolean;
}

/** A stream in progress. After its end every method does nothing. */
export class AgentStream {
  readonly #kind: StreamKind;
  readonly #listener: StreamListener;
  #stream: BulkStream | undefined;
  #received = 0;
  #inputEnded: boolean = false;
  #outputEnded: boolean = false;
  #over: boolean = false;
  #openedByDefault: boolean = false;
  /** Set where the data may go another way, unseen here. */
  #isOffered: boolean = false;

  /**
   * Opens a stream. Failures of the agent are told to the listener.
   *
   * @throws ConnectError `Unavailable` when the agent cannot be reached
   */
  static async open(
    connection: AgentConnection,
    kind: StreamKind,
    request: StreamRequest,
    listener: StreamListener,
  ): Promise<AgentStream> {
    const { containerId, first, carriesInput } = request;
    const stream = new AgentStream(kind, listener);
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

  private constructor(kind: StreamKind, listener: StreamListener) {
    this.#kind = kind;
    this.#listener = listener;
  }

  /**
   * Sends input; the bytes must stay unchanged until `taken`.
   *
   * @param taken called once there may be room for more, or no use for it
   */
  sendInput(data: Uint8Array, taken: () => void): void {
    if (this.#over || this.#inputEnded || this.#stream === undefined) {
      taken();
    } else {
      this.#stream.sendData(data, taken);
    }
  }

  /** No more input: the process reads end of file, the archive is complete. */
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

  /** Nobody takes the offer that came with `opened`. */
  keep(): void {
    const { keep } = this.#kind;
    if (keep !== undefined && !this.#over) {
      this.#stream?.send(keep);
    }
  }

  /** Stops reading, so that the agent stops sending. */
  pause(): void {
    if (!this.#over) {
      this.#stream?.pause();
    }
  }

  /** Reads on. */
  resume(): void {
    if (!this.#over) {
      this.#stream?.resume();
    }
  }

  /** Gives up; the listener hears no more. The process goes on. */
  cancel(): void {
    if (!this.#over) {
      this.#finish();
      this.#stream?.cancel();
    }
  }

  /**
   * The client has gone: the listener hears no more, the process goes on, and what was sent still reaches it where the
   * kind of the stream knows of leaving.
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
