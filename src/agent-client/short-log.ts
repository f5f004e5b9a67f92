/**
 * `AgentService.Logs` for a few lines, at an agent on this machine: gRPC's messages and trailers over HTTP/1.1 in place of
 * HTTP/2, for which Node and Go take several times as long (docs/performance.md). A connection is kept for the next one.
 */
import { Agent, type IncomingMessage, request } from "node:http";

import { Code, ConnectError } from "@connectrpc/connect";

import { errnoOf, messageOf } from "../common/errors.ts";
import { onAbort } from "../common/on-abort.ts";
import { watched } from "./agent-log.ts";
import { FrameReader } from "./frame-reader.ts";
import { framed, requestHeaders } from "./grpc-request.ts";
import { errorOfResponse, errorOfTrailers } from "./grpc-status.ts";
import { logsStream } from "./logs.ts";

/** Milliseconds of silence after which an agent is lost, and a connection that nobody uses is closed. */
const silenceMs = 30_000;

/** Connections that are kept to one agent at most: each is a goroutine there, and 80 KiB. */
const maxKept = 4;

/** How a request finds that its connection is closed. */
const closedErrnos: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE"]);

/** A log, by the agent's socket. */
export interface ShortLogRequest {
  readonly socket: string;
  /** Full ID. */
  readonly containerId: string;
  /** An encoded LogsRequest. */
  readonly request: Uint8Array;
}

/** Takes what is read of a log. */
export interface ShortLogReceiver {
  /** Bytes as they come: `source.subarray(start, end)`, valid during the call. */
  data(channel: number, source: Uint8Array, start: number, end: number): void;
  /** Called behind what came at once; resolves once more may come. */
  flush(): Promise<void>;
}

/** Logs that are short, and the connections to agents over which they come. */
export class ShortLogs {
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: maxKept, timeout: silenceMs });

  /**
   * Reads a log to its end.
   *
   * @throws ConnectError what the agent answers; `Unavailable`: it cannot be reached, or the log was cut; `DataLoss`: bytes
   *   are missing; the signal's reason
   */
  async read(log: ShortLogRequest, receiver: ShortLogReceiver, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      const response = await this.#ask(log, signal);
      using _leaving = onAbort(signal, () => response.destroy(errorOf(signal.reason)));
      const refusal = errorOfResponse(response.headers, { status: response.statusCode });
      if (refusal !== undefined) {
        response.destroy();
        throw refusal;
      }
      await readMessages(response, receiver);
    } catch (error) {
      signal.throwIfAborted();
      throw errorOf(error);
    }
  }

  /** Closes the connections. */
  close(): void {
    this.#agent.destroy();
  }

  /** Sends a request, again where a kept connection turns out to be closed; answers once there is a header. */
  async #ask(log: ShortLogRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const outgoing = request({
      agent: this.#agent,
      socketPath: log.socket,
      method: "POST",
      path: logsStream.path,
      headers: requestHeaders(log.containerId),
    });
    outgoing.once("response", resolve);
    outgoing.on("error", reject);
    outgoing.end(framed(log.request));
    const silent = setTimeout(() => outgoing.destroy(silence()), silenceMs);
    using _leaving = onAbort(signal, () => outgoing.destroy(errorOf(signal.reason)));
    try {
      return await promise;
    } catch (error) {
      if (outgoing.reusedSocket && closedErrnos.has(errnoOf(error) ?? "") && !signal.aborted) {
        return await this.#ask(log, signal);
      }
      throw error;
    } finally {
      clearTimeout(silent);
    }
  }
}

async function readMessages(response: IncomingMessage, receiver: ShortLogReceiver): Promise<void> {
  let received = 0;
  let total: number | undefined;
  const reader = new FrameReader(logsStream.shape, {
    data(channel, source, start, end) {
      received += end - start;
      receiver.data(channel, source, start, end);
    },
    message(bytes) {
      const signal = logsStream.decode(bytes);
      if (signal.type === "ended" && signal.outcome.kind === "complete") {
        total = signal.outcome.totalBytes;
      }
    },
  });
  for await (const chunk of watched<Buffer>(response, () => response.destroy(silence()))) {
    reader.push(chunk);
    await receiver.flush();
  }
  const failure = errorOfTrailers(response.trailers);
  if (failure !== undefined) {
    throw failure;
  }
  if (response.trailers["grpc-status"] !== "0" || total === undefined || !reader.atBoundary) {
    throw new ConnectError("the connection to the agent was cut", Code.Unavailable);
  }
  if (total !== received) {
    throw new ConnectError(`bytes of the log are missing: ${received} of ${total} came`, Code.DataLoss);
  }
}

function silence(): ConnectError {
  return new ConnectError(`the agent was silent for ${silenceMs / 1000} s`, Code.Unavailable);
}

/** Any error of a call; one that is not told by the agent is that of the connection. */
function errorOf(error: unknown): ConnectError {
  return error instanceof ConnectError
    ? error
    : new ConnectError(
        `the connection to the agent broke: ${messageOf(error)}`,
        Code.Unavailable,
        undefined,
        undefined,
        error,
      );
}
