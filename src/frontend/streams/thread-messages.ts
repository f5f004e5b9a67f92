/**
 * The whole contract between the main thread and the stream workers: one {@link StreamTask} starts a stream, then these
 * messages go over the port that came with it. Errors are data.
 *
 * Why threads: a worker talks to agents and frames their output for Docker clients, which is most of the work per byte;
 * the main thread owns the clients' sockets, which cannot move, and only writes what it is given. A session whose client is to
 * be handed over is opened in the main thread, by the same messages: none of its bytes come there.
 *
 * INVARIANTS:
 * - `opened` comes at most once and before any `output`; `ended` or `failed` comes once and last.
 * - The main thread gives each output buffer back with `returned`, once the client took it. How many a stream has there
 *   is the worker's to say; `ended` and `failed` wait until they are few.
 * - The worker acknowledges each `input` with `input-taken`. How many bytes it has is the main thread's to say.
 */
import type { DialTarget } from "../../agent-client/address.ts";
import type {
  CarriedBytes,
  HandOverOffer,
  Opened,
  Outcome,
  StreamFailure,
} from "../../agent-client/agent-stream.ts";
import type { StreamPort } from "./thread-ports.ts";

/** The size of an output buffer in bytes. */
export const outputBufferSize = 256 * 1024;
/** Size in bytes of the output buffers of a stream that has little left of the memory that all share. */
export const smallBufferSize = 64 * 1024;

/**
 * Bytes of one stream that may be on their way in one direction: what is sure, and what brings no more speed.
 */
export const onItsWay = {
  output: { least: 2 * smallBufferSize, most: 16 * outputBufferSize },
  input: { least: 128 * 1024, most: 2 * 1024 * 1024 },
} as const;

/** Chunks that travel as one message: a message costs as much as the bytes of several chunks. */
export const inputBatch = 8;

/** How output is laid out for the client. */
export type Framing =
  /** The bytes as they are: a terminal's output, a tar stream. */
  | "raw"
  /** Docker's headers of eight bytes: stream number, three zeros, big-endian length. */
  | "multiplexed";

/** The agent's call to make. Requests are encoded messages. */
export type StreamOperation =
  | {
      readonly kind: "session";
      readonly open: Uint8Array;
      /** True if the client's bytes go to the process. */
      readonly carriesInput: boolean;
      /** Keys in the input that end the session; empty: none. */
      readonly detachKeys: Uint8Array;
    }
  | { readonly kind: "logs"; readonly request: Uint8Array }
  | { readonly kind: "archive-get"; readonly request: Uint8Array }
  | { readonly kind: "archive-put"; readonly open: Uint8Array }
  | { readonly kind: "export"; readonly request: Uint8Array }
  | { readonly kind: "tunnel"; readonly open: Uint8Array };

/** The start of a stream in a worker. */
export interface StreamTask {
  readonly target: DialTarget;
  readonly operation: StreamOperation;
  readonly framing: Framing;
  /** The client's request that the stream is for. */
  readonly requestId: string | undefined;
  readonly port: StreamPort<ToWorker>;
}

/** From the main thread to the worker. */
export type ToWorker =
  | { readonly type: "input"; readonly chunks: readonly Uint8Array[] }
  | { readonly type: "input-end" }
  /** The client's connection is not handed on, whatever was offered. */
  | { readonly type: "keep" }
  | { readonly type: "returned"; readonly buffer: Uint8Array }
  /** The stream is given up. The worker answers nothing more. */
  | { readonly type: "cancel" }
  /** The client is gone: what it sent before is still for the process. The worker answers nothing more. */
  | { readonly type: "leave" };

/** From the worker to the main thread. */
export type FromWorker =
  | { readonly type: "opened"; readonly opened: Opened }
  /** The client's connection may be handed on, in place of all output and input. Before `opened`. */
  | { readonly type: "offered"; readonly offer: HandOverOffer }
  /** The agent has the client's connection: of output and input nothing more comes this way. */
  | { readonly type: "handed" }
  | { readonly type: "carried"; readonly bytes: CarriedBytes }
  | { readonly type: "output"; readonly buffer: Uint8Array; readonly length: number }
  | { readonly type: "input-taken"; readonly bytes: number }
  /** No more output; input may go on. */
  | { readonly type: "output-end" }
  | { readonly type: "ended"; readonly outcome: Outcome }
  | { readonly type: "failed"; readonly failure: StreamFailure };
