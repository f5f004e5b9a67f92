/** Uploads by hand, the receiver's end; see `common/upload-frames.ts`. Other forms of the calls are the library's. */
import { constants, type ServerHttp2Stream } from "node:http2";

import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type MethodImplSpec } from "@connectrpc/connect";
import { endStreamToJson } from "@connectrpc/connect/protocol-connect";

import {
  chunkHeadBytes,
  chunkStart,
  endOfStream,
  envelopeHead,
  envelopePrefix,
  streamContentType,
  uploadPaths,
} from "../../common/upload-frames.ts";
import type { AnswerEnd, CallContext, CallForm, ReadCall } from "./calls-by-hand.ts";

/** The most bytes of a message that is no chunk. */
const maxMessageBytes = 4 * 1024 * 1024;

/** Bytes that may wait for their reader before the sender is held up. */
const maxWaitingBytes = 1024 * 1024;

type StreamSpec = MethodImplSpec & { readonly kind: "client_streaming" | "bidi_streaming" };

/** The form of the methods that take uploads. */
export const uploadCalls: CallForm = {
  contentType: streamContentType,
  refusedHeaders: ["connect-content-encoding", "connect-accept-encoding", "connect-timeout-ms"],
  readerOf: (path, spec) =>
    uploadPaths.has(path) && (spec.kind === "client_streaming" || spec.kind === "bidi_streaming")
      ? ({ stream }, make) => make(callOf(spec, stream))
      : undefined,
};

function callOf(spec: StreamSpec, stream: ServerHttp2Stream): ReadCall {
  const { method } = spec;
  stream.on("error", () => {}); // Told by its end.
  return {
    run: async (context) => {
      for await (const output of outputsOf(spec, messagesOf(stream, method.input), context)) {
        await write(stream, 0, toBinary(method.output, create(method.output, output)));
      }
      return lastMessage(new Headers(), undefined);
    },
    refuse: (error) => lastMessage(error.metadata, error),
  };
}

async function* outputsOf(
  spec: StreamSpec,
  inputs: AsyncIterable<MessageShape<DescMessage>>,
  context: CallContext,
) {
  if (spec.kind === "client_streaming") {
    yield await spec.impl(inputs, context);
  } else {
    yield* spec.impl(inputs, context);
  }
}

function lastMessage(trailers: Headers, error: ConnectError | undefined): AnswerEnd {
  const message = Buffer.from(JSON.stringify(endStreamToJson(trailers, error, undefined)));
  return async (stream) => {
    await write(stream, endOfStream, message);
    stream.end(() => {
      if (!stream.readableEnded) {
        stream.close(constants.NGHTTP2_NO_ERROR); // Nobody reads the rest.
      }
    });
  };
}

/** Writes a message, and waits where the caller does not read. */
async function write(stream: ServerHttp2Stream, flags: number, message: Uint8Array): Promise<void> {
  if (stream.destroyed || stream.closed) {
    return;
  }
  if (!stream.headersSent) {
    stream.respond({ ":status": 200, "content-type": streamContentType });
  }
  stream.write(envelopeHead(flags, message.length));
  await new Promise<void>((resolve) => {
    stream.write(message, () => resolve());
  });
}

/** The messages of a call; of a chunk one for each part of it that has come. */
async function* messagesOf(
  stream: ServerHttp2Stream,
  schema: DescMessage,
): AsyncGenerator<MessageShape<DescMessage>> {
  const chunk = (value: Uint8Array): MessageShape<DescMessage> =>
    create(schema, { message: { case: "chunk", value } } as never);
  let held: Buffer = Buffer.alloc(0);
  let left = 0;
  for await (const received of partsOf(stream)) {
    let part = received;
    if (left > 0) {
      const taken = Math.min(left, part.length);
      yield chunk(part.subarray(0, taken));
      left -= taken;
      part = part.subarray(taken);
    }
    held = held.length === 0 ? part : Buffer.concat([held, part]);
    while (held.length >= envelopePrefix) {
      const length = held.readUInt32BE(1);
      const body = held.subarray(envelopePrefix);
      if (body.length < Math.min(length, chunkHeadBytes)) {
        break;
      }
      const start = held[0] === 0 ? chunkStart(body.subarray(0, chunkHeadBytes), length) : undefined;
      if (start !== undefined) {
        const data = body.subarray(start, length);
        if (data.length > 0) {
          yield chunk(data);
        }
        left = length - start - data.length;
        held = body.subarray(start + data.length);
        continue;
      }
      if (held[0] !== 0 || length > maxMessageBytes) {
        throw new ConnectError(`a message of ${length} bytes is not taken here`, Code.InvalidArgument);
      }
      if (body.length < length) {
        break;
      }
      yield fromBinary(schema, body.subarray(0, length));
      held = body.subarray(length);
    }
  }
  if (left > 0 || held.length > 0) {
    throw new ConnectError("unexpected EOF", Code.InvalidArgument);
  }
}

/** Parts of a stream as they come: Node's own iterator would copy them together. */
async function* partsOf(stream: ServerHttp2Stream): AsyncGenerator<Buffer> {
  const waiting: Buffer[] = [];
  let bytes = 0;
  let isOver = false;
  let wake: (() => void) | undefined;
  const over = (): void => {
    isOver = true;
    wake?.();
  };
  stream.on("data", (chunk: Buffer) => {
    waiting.push(chunk);
    bytes += chunk.length;
    if (bytes > maxWaitingBytes) {
      stream.pause();
    }
    wake?.();
  });
  stream.once("end", over).once("close", over);
  for (;;) {
    const next = waiting.shift();
    if (next !== undefined) {
      bytes -= next.length;
      if (waiting.length === 0) {
        stream.resume();
      }
      yield next;
    } else if (isOver) {
      return;
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      wake = undefined;
    }
  }
}
