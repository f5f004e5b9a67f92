/** Uploads by hand, the sender's end; see `common/upload-frames.ts`. */
import { once } from "node:events";
import {
  constants,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from "node:http2";

import {
  type DescMessage,
  type DescMethodStreaming,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { codeFromHttpStatus, endStreamFromJson } from "@connectrpc/connect/protocol-connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";

import {
  chunkHead,
  endOfStream,
  envelopeHead,
  envelopePrefix,
  streamContentType,
  uploadPaths,
} from "../../common/upload-frames.ts";
import { requestIdHeaders } from "../../common/request-id.ts";
import { encodeMessage } from "../bodies/encoded-fields.ts";
import { onAbort } from "../../common/on-abort.ts";
import { LostBackend } from "./unary-calls.ts";

const requestHeaders = { "content-type": streamContentType, "connect-protocol-version": "1" } as const;

/** A transport whose uploads go over the session by hand, and whose other calls are the given transport's. */
export function withBulkUploads(
  transport: Transport,
  session: Http2SessionManager,
  explain: (error: unknown) => unknown,
): Transport {
  return {
    unary: (...call) => transport.unary(...call),
    stream: async (method, signal, timeoutMs, header, input, contextValues) => {
      const path = `/${method.parent.typeName}/${method.name}`;
      if (!uploadPaths.has(path) || timeoutMs !== undefined || header !== undefined) {
        return await transport.stream(method, signal, timeoutMs, header, input, contextValues);
      }
      const open = async (): Promise<ClientHttp2Stream> => {
        signal?.throwIfAborted();
        return await session.request("POST", path, { ...requestHeaders, ...requestIdHeaders() }, {});
      };
      return {
        stream: true,
        service: method.parent,
        method,
        header: new Headers(),
        trailer: new Headers(),
        message: upload(method, open, signal, input, explain),
      };
    },
  };
}

async function* upload<I extends DescMessage, O extends DescMessage>(
  method: DescMethodStreaming<I, O>,
  open: () => Promise<ClientHttp2Stream>,
  signal: AbortSignal | undefined,
  input: AsyncIterable<MessageInitShape<I>>,
  explain: (error: unknown) => unknown,
): AsyncGenerator<MessageShape<O>> {
  let failure: unknown;
  let stream: ClientHttp2Stream | undefined;
  const leave = (): void => stream?.close(constants.NGHTTP2_CANCEL);
  try {
    const opened = await open();
    stream = opened;
    using _leaving = onAbort(signal, leave);
    opened.on("error", () => {}); // The reader of the answer is told.
    void send(opened, method.input, input).catch((error: unknown) => {
      failure = error;
      leave();
    });
    yield* answers(opened, method.output);
  } catch (error) {
    if (signal?.aborted === true) {
      throw ConnectError.from(signal.reason, Code.Canceled);
    }
    throw failure ?? explain(error);
  } finally {
    leave();
  }
}

async function send<I extends DescMessage>(
  stream: ClientHttp2Stream,
  schema: I,
  input: AsyncIterable<MessageInitShape<I>>,
): Promise<void> {
  for await (const message of input) {
    if (stream.destroyed || stream.closed) {
      return; // It is answered already.
    }
    const chunk = chunkOf(message);
    const bytes = chunk ?? encodeMessage(schema, message);
    stream.cork();
    stream.write(chunk === undefined ? envelopeHead(0, bytes.length) : chunkHead(bytes.length));
    const hasRoom = stream.write(bytes);
    stream.uncork();
    if (!hasRoom) {
      await roomOrEnd(stream);
    }
  }
  stream.end();
}

function chunkOf(message: object): Uint8Array | undefined {
  const { message: one } = message as { message?: { case?: string; value?: unknown } };
  return one?.case === "chunk" && one.value instanceof Uint8Array ? one.value : undefined;
}

function roomOrEnd(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      stream.off("drain", go).off("close", go);
      resolve();
    };
    stream.on("drain", go).on("close", go);
    if (stream.destroyed) {
      go();
    }
  });
}

async function* answers<O extends DescMessage>(
  stream: ClientHttp2Stream,
  schema: O,
): AsyncGenerator<MessageShape<O>> {
  const ended = new AbortController();
  stream.once("close", () => ended.abort());
  const [headers] = (await once(stream, "response", { signal: ended.signal }).catch((error: unknown) => {
    throw ended.signal.aborted ? new LostBackend(error) : error;
  })) as [IncomingHttpHeaders & IncomingHttpStatusHeader];
  const status = headers[":status"] ?? 0;
  if (status !== 200) {
    throw new ConnectError(`the backend answered with HTTP status ${status}`, codeFromHttpStatus(status));
  }
  let held = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    held = Buffer.concat([held, chunk]);
    while (held.length >= envelopePrefix && held.length >= envelopePrefix + held.readUInt32BE(1)) {
      const end = envelopePrefix + held.readUInt32BE(1);
      const message = held.subarray(envelopePrefix, end);
      if (((held[0] ?? 0) & endOfStream) !== 0) {
        const { error } = endStreamFromJson(message);
        if (error !== undefined) {
          throw error;
        }
        return;
      }
      yield fromBinary(schema, message);
      held = held.subarray(end);
    }
  }
  throw new LostBackend(undefined);
}
