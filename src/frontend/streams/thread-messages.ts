/**
 * The contract between the main thread and the stream workers: a {@link StreamTask} starts a stream, then these
 * messages are exchanged over its port. Errors are data.
 *
 * Why threads: a worker talks to agents and frames their output for Docker clients, which is most of the work per byte;
 * the main thread owns the clients' sockets, which cannot be moved, and only writes. A session that is to be handed
 * over is opened in the main thread by the same messages, as none of its bytes pass there.
 *
 * INVARIANTS:
 * - `opened` comes at most once and before any `output`; `ended` or `failed` comes once and last.
 * - The main thread returns each output buffer with `returned`, once the client took it. The worker bounds how many a
 *   stream has there; `ended` and `failed` wait until they are few.
 * - The worker acknowledges each `input` with `input-taken`. The main thread bounds the unacknowledged weight.
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
/** The size in bytes of output buffers while the shared memory budget is nearly used up. */
export const smallBufferSize = 32 * 1024;

/**
 * Bytes of one stream in flight in one direction: the guaranteed minimum, and the maximum beyond which throughput no
 * longer grows.
 */
export const onItsWay = {
  output: { least: 2 * smallBufferSize, most: 16 * outputBufferSize },
  input: { least: 128 * 1024, most: 2 * 1024 * 1024 },
} as const;

/** Chunks that are sent as one message: a message costs as much as the bytes of several chunks. */
export const inputBatch = 8;

/** Bytes that a chunk of input takes on its way besides its own: its buffer, and two writes to an HTTP/2 stream. */
const chunkBytes = 2_048;

/** Bytes that chunks of input take on their way: a client may send each byte by itself. */
export function weightOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, { byteLength }) => sum + byteLength, chunkBytes * chunks.length);
}

/** How output is laid out for the client. */
export type Framing =
  /** Raw bytes: a terminal's output, a tar stream. */
  | "raw"
  /** Docker's headers of eight bytes: stream number, three zeros, big-endian length. */
  | "multiplexed";

/** The call to make at the agent. Requests are encoded messages. */
export type StreamOperation =
  | {
      readonly kind: "session";
      readonly open: Uint8Array;
      /** True if the client's bytes go to the process. */
      readonly carriesInput: boolean;
      /** Detach keys in the input; empty: none. */
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
  /** Without its request once that is sent: it may have megabytes, and a stream may last for days. */
  operation: StreamOperation;
  readonly framing: Framing;
  /** True if the agent is asked to take over the client's connection. */
  readonly handOver: boolean;
  /** ID of the client's request. */
  readonly requestId: string | undefined;
  readonly port: StreamPort<ToWorker>;
}

/** From the main thread to the worker. */
export type ToWorker =
  | { readonly type: "input"; readonly chunks: readonly Uint8Array[] }
  | { readonly type: "input-end" }
  /** Declines the hand-over of the client's connection. */
  | { readonly type: "keep" }
  | { readonly type: "returned"; readonly buffer: Uint8Array }
  /** Abandons the stream. The worker answers nothing more. */
  | { readonly type: "cancel" }
  /** The client is gone: its earlier input still goes to the process. The worker answers nothing more. */
  | { readonly type: "leave" };

/** From the worker to the main thread. */
export type FromWorker =
  | { readonly type: "opened"; readonly opened: Opened }
  /** The client's connection may be handed over, instead of all output and input. Before `opened`. */
  | { readonly type: "offered"; readonly offer: HandOverOffer }
  /** The agent has the client's connection: no more output or input passes here. */
  | { readonly type: "handed" }
  | { readonly type: "carried"; readonly bytes: CarriedBytes }
  | { readonly type: "output"; readonly buffer: Uint8Array; readonly length: number }
  | { readonly type: "input-taken"; readonly weight: number }
  /** No more output; input may continue. */
  | { readonly type: "output-end" }
  | { readonly type: "ended"; readonly outcome: Outcome }
  | { readonly type: "failed"; readonly failure: StreamFailure };
