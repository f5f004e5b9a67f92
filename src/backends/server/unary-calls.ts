/** Unary calls by hand: Connect's binary form over HTTP/2. */
import type { Http2ServerRequest, ServerHttp2Stream } from "node:http2";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MethodImplSpec } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";

import { unaryContentType, wholeBody } from "../../common/http2-messages.ts";
import type { AnswerEnd, CallForm, ReadCall } from "./calls-by-hand.ts";

type UnarySpec = MethodImplSpec & { readonly kind: "unary" };

/** The form of all unary methods. */
export const unaryCalls: CallForm = {
  contentType: unaryContentType,
  refusedHeaders: ["content-encoding", "connect-timeout-ms"],
  readerOf: (_path, spec) =>
    spec.kind === "unary" ? (request, make) => read(spec, request, make) : undefined,
};

function read(
  spec: UnarySpec,
  { stream, headers }: Http2ServerRequest,
  make: (call: ReadCall) => void,
): void {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("end", () => {
    const body = wholeBody(stream, headers, chunks);
    if (body !== undefined) {
      make(callOf(spec, body));
    }
  });
}

function callOf({ method, impl }: UnarySpec, body: Uint8Array): ReadCall {
  return {
    run: async (context) => {
      const output = create(method.output, await impl(fromBinary(method.input, body), context));
      const headers = { ...context.answerHeaders, ":status": 200, "content-type": unaryContentType };
      return answer(headers, toBinary(method.output, output));
    },
    refuse: (error, context) => {
      const metadata = Object.fromEntries(error.metadata);
      const status = { ":status": codeToHttpStatus(error.code), "content-type": "application/json" };
      return answer({ ...context.answerHeaders, ...metadata, ...status }, errorToJsonBytes(error, undefined));
    },
  };
}

/** The length is how the caller knows that nothing was cut off. */
function answer(headers: Readonly<Record<string, string | number>>, body: Uint8Array): AnswerEnd {
  return (stream: ServerHttp2Stream) => {
    if (!stream.destroyed && !stream.closed) {
      stream.respond({ ...headers, "content-length": body.byteLength });
      stream.end(body);
    }
  };
}
