/** A gRPC call with bulk data, on a raw HTTP/2 stream. */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { WeightedMap } from "../common/weighted-map.ts";
import type { AgentWay } from "./address.ts";
import { type BulkShape, encodeBulkHead } from "./bulk-messages.ts";
import type { AgentConnection } from "./connection.ts";
import { FrameReader, type FrameReceiver } from "./frame-reader.ts";
import { framed, requestHeaders } from "./grpc-request.ts";
import { errorOfReset, errorOfResponse, errorOfTrailers } from "./grpc-status.ts";
import { cutLimitMs } from "./link.ts";

/**
 * Limits from the proto, in milliseconds: send a heartbeat after this much silence of ours; treat the stream as cut
 * after this much silence of the peer.
 */
const heartbeatAfterMs = 10_000;
const cutAfterMs = 30_000;

/** The most calls of each kind that are kept though nobody waits for them. */
const mostUnawaitedCalls = 256;

/** Bytes of input that may wait in such calls. */
const mostUnawaitedBytes = 16 * 1024 * 1024;

/** First requests of fewer bytes are not counted; that of an exec has the container's whole environment. */
const shortRequestBytes = 64 * 1024;

/** Most bytes of all long ones of a thread. */
const mostRequestBytes = 64 * 1024 * 1024;

/**
 * Long first requests that their agents have not taken, by what ends their calls: a hostile agent never takes one. Of too many the
 * oldest give way, since honest agents take theirs once they are connected.
 */
const longRequests = new WeightedMap<() => void>(mostRequestBytes, (giveWay) => giveWay());

/** Calls of a thread that nobody waits for any more: a hostile agent never ends them, and each may have a connection. */
class UnawaitedCalls {
  readonly #calls = new WeightedMap<ClientHttp2Stream>(
    mostUnawaitedBytes,
    (oldest) => oldest.close(constants.NGHTTP2_CANCEL),
    mostUnawaitedCalls,
  );

  /** Adds a call until it ends; of too many the oldest is cancelled. */
  add(call: ClientHttp2Stream): void {
    if (!call.destroyed && !this.#calls.has(call)) {
      call.once("close", () => this.#calls.delete(call));
      this.#calls.set(call, call.writableLength);
    }
  }
}

/** Their results are known, or they have failed. */
const released = new UnawaitedCalls();
/** Their clients have left; what these sent before may still be read. */
const left = new UnawaitedCalls();

/**
 * Milliseconds of silence after which a stream to an agent counts as cut. A backend on another machine does not report
 * that it waits for an agent to reconnect; pings show that the backend itself is alive.
 */
export function silenceLimitMs(way: AgentWay): number {
  return way.kind === "relay" ? cutLimitMs + cutAfterMs : cutAfterMs;
}

/** Receives the events of a {@link BulkStream}. */
export interface BulkReceiver extends FrameReceiver {
  /** The response header, if it is no refusal. */
  answered?(headers: IncomingHttpHeaders): void;
  /**
   * The call has ended; this is the last event. Without an error the server closed it with status OK, which alone does
   * not mean success: the messages decide.
   */
  closed(error: ConnectError | undefined): void;
}

export interface BulkCall {
  /** The full path, `/sockerless.agent.v1.AgentService/Session`. */
  readonly path: string;
  readonly containerId: string | undefined;
  /** True if the client will send bulk data. */
  readonly carriesInput: boolean;
  /** Layout of the messages received. */
  readonly shape: BulkShape;
  /** Outer tag of the bulk messages sent; undefined for a call with one request. */
  readonly inputTag: number | undefined;
  /** Encoded heartbeat, sent when we are silent; undefined for a call with one request. */
  readonly heartbeat: Uint8Array | undefined;
  /** True if the server sends heartbeats, so that its silence can be judged. */
  readonly expectsHeartbeats: boolean;
  /** True if data comes without a pause: heartbeats are no sign of life; the time runs anew from each {@link BulkStream.resume}. */
  readonly comesWithoutPause?: boolean;
}

/** A call in progress. No events follow {@link cancel}. */
export class BulkStream {
  readonly #connection: AgentConnection;
  readonly #stream: ClientHttp2Stream;
  readonly #call: BulkCall;
  readonly #receiver: BulkReceiver;
  readonly #reader: FrameReader;
  readonly #timer: NodeJS.Timeout;
  #error: ConnectError | undefined;
  #status: "none" | "ok" = "none";
  #closed: boolean = false;
  /** Set once the receiver gets no more events. */
  #hasLeft: boolean = false;
  #inputOffset = 0;
  #lastSent = performance.now();
  #lastReceived = performance.now();

  /**
   * Starts a call.
   *
   * @param first the encoded first request message
   * @throws ConnectError `Unavailable` if the agent cannot be reached; `Internal` for a long request, if too many wait
   */
  static async open(
    connection: AgentConnection,
    call: BulkCall,
    first: Uint8Array,
    receiver: BulkReceiver,
  ): Promise<BulkStream> {
    const headers = requestHeaders(call.containerId);
    const { carriesInput } = call;
    const cut = Promise.withResolvers<never>();
    const giveWay = (): void =>
      cut.reject(new ConnectError("too many long requests wait for their agents", Code.Internal));
    const taken = (): void => longRequests.delete(giveWay);
    if (first.length > shortRequestBytes) {
      longRequests.set(giveWay, first.length);
    }
    const asked = connection.request("POST", call.path, headers, { carriesInput });
    let stream: ClientHttp2Stream;
    try {
      stream = await Promise.race([asked, cut.promise]);
    } catch (error) {
      taken();
      asked.then(
        (late) => late.on("error", () => {}).close(constants.NGHTTP2_CANCEL),
        () => {},
      );
      throw error;
    }
    const opened = new BulkStream(connection, stream, call, receiver);
    cut.promise.catch((error: unknown) => opened.#fail(ConnectError.from(error)));
    stream.once("close", taken); // A write that has not begun by then has no end.
    opened.send(first, taken);
    if (call.inputTag === undefined) {
      stream.end();
    }
    return opened;
  }

  private constructor(
    connection: AgentConnection,
    stream: ClientHttp2Stream,
    call: BulkCall,
    receiver: BulkReceiver,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#call = call;
    this.#receiver = receiver;
    this.#reader = new FrameReader(call.shape, receiver);
    this.#timer = setInterval(() => this.#checkSilence(), heartbeatAfterMs / 4);
    stream.on("response", (headers) => {
      this.#lastReceived = performance.now();
      this.#error ??= errorOfResponse(headers);
      if (headers["grpc-status"] === "0") {
        this.#status = "ok";
      }
      if (!this.#closed && !this.#hasLeft && this.#error === undefined) {
        this.#receiver.answered?.(headers);
      }
    });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("trailers", (trailers) => {
      this.#error ??= errorOfTrailers(trailers);
      if (trailers["grpc-status"] === "0") {
        this.#status = "ok";
      }
    });
    // The reset's HTTP/2 code says the same, and 'close' follows.
    stream.on("error", () => {});
    stream.once("end", () => this.#close());
    stream.once("close", () => this.#close());
  }

  /** Sends an encoded message without bulk data. @param sent called once it is sent; not if it is dropped */
  send(message: Uint8Array, sent: () => void = () => {}): void {
    if (this.#closed || this.#stream.writableEnded || this.#stream.destroyed) {
      return;
    }
    this.#lastSent = performance.now();
    this.#stream.write(framed(message), () => sent());
  }

  /**
   * Sends bulk data as one message; the bytes must stay unchanged until `taken` is called.
   *
   * @param taken called when the bytes are sent or dropped: there may be room for more
   */
  sendData(data: Uint8Array, taken: () => void): void {
    const { inputTag } = this.#call;
    if (inputTag === undefined || this.#closed || this.#stream.writableEnded || this.#stream.destroyed) {
      taken();
      return;
    }
    const head = encodeBulkHead(inputTag, this.#inputOffset, data.length);
    this.#inputOffset += data.length;
    this.#lastSent = performance.now();
    this.#stream.cork();
    this.#stream.write(head);
    this.#stream.write(data, () => taken());
    this.#stream.uncork();
  }

  /** Bytes of bulk data sent. */
  get inputLength(): number {
    return this.#inputOffset;
  }

  /** Ends the request. */
  endSending(): void {
    if (!this.#stream.writableEnded && !this.#stream.destroyed) {
      this.#stream.end();
    }
  }

  /** Stops reading; HTTP/2 flow control then stops the agent. */
  pause(): void {
    this.#stream.pause();
  }

  /** Resumes reading. */
  resume(): void {
    this.#lastReceived = performance.now();
    this.#stream.resume();
  }

  /** Cancels the call; `closed` is not called. */
  cancel(): void {
    this.#finish();
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /**
   * Sends a last message, after which the agent ends the call. Its other messages are read and ignored; if it falls
   * silent, the stream is cut.
   */
  leave(message: Uint8Array): void {
    this.send(message);
    this.endSending();
    this.#hasLeft = true;
    this.#stream.resume();
    left.add(this.#stream);
  }

  /** Ends a call whose result is known: further messages are read and ignored, so that it ends cleanly. */
  release(): void {
    this.#finish();
    this.endSending();
    this.#stream.resume();
    released.add(this.#stream);
  }

  #receive(chunk: Buffer): void {
    if (this.#call.comesWithoutPause !== true) {
      this.#lastReceived = performance.now();
    }
    this.#connection.notifyRead(this.#stream, chunk.length);
    if (this.#closed || this.#hasLeft || this.#error !== undefined) {
      return; // Bytes after a refusal are not read.
    }
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(ConnectError.from(error, Code.DataLoss));
    }
  }

  #fail(error: ConnectError): void {
    this.#error ??= error;
    this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#close();
  }

  #checkSilence(): void {
    const now = performance.now();
    const { heartbeat, expectsHeartbeats } = this.#call;
    if (this.#connection.isCut(this.#stream)) {
      this.#lastReceived = now;
    }
    const isQuiet =
      this.#stream.writableLength === 0 && now - this.#lastSent >= heartbeatAfterMs - heartbeatAfterMs / 4;
    if (heartbeat !== undefined && isQuiet) {
      this.send(heartbeat);
    }
    const limitMs = silenceLimitMs(this.#connection.way);
    if (expectsHeartbeats && !this.#stream.isPaused() && now - this.#lastReceived >= limitMs) {
      this.#fail(new ConnectError(`the agent was silent for ${limitMs / 1000} s`, Code.Unavailable));
    }
  }

  #close(): void {
    if (this.#closed) {
      return;
    }
    const reset = this.#stream.rstCode ?? constants.NGHTTP2_NO_ERROR;
    if (this.#error === undefined) {
      if (reset !== constants.NGHTTP2_NO_ERROR) {
        this.#error = this.#connection.failureOf(this.#stream) ?? errorOfReset(reset);
      } else if (this.#status === "none" || !this.#reader.atBoundary) {
        this.#error = new ConnectError("the connection to the agent was cut", Code.Unavailable);
      }
    }
    this.release(); // Input may wait for an agent that never reads it.
    this.#receiver.closed(this.#error);
  }

  #finish(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }
}
