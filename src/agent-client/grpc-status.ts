/** The result of a gRPC call. */
import { constants, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { agentPeer } from "./address.ts";
import { errorKindHeader } from "../common/errors.ts";

/** Codes for an HTTP status from something other than a gRPC server, as gRPC's protocol document maps them. */
const codeOfHttpStatus: Readonly<Record<number, Code>> = {
  400: Code.Internal,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  429: Code.Unavailable,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.Unavailable,
};

/**
 * The RST_STREAM codes with a more specific meaning than a broken stream. CANCEL is not among them: Node also reports
 * it for streams of a lost connection.
 */
const codeOfReset: Readonly<Record<number, Code>> = {
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.ResourceExhausted,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PermissionDenied,
};

/**
 * The error in a response's header: its HTTP status, its content type, or, for a response without a body, its gRPC
 * status.
 */
export function errorOfResponse(
  headers: IncomingHttpHeaders & IncomingHttpStatusHeader,
): ConnectError | undefined {
  const status = headers[":status"] ?? 0;
  if (status !== 200) {
    return new ConnectError(`${agentPeer} answered HTTP ${status}`, codeOfHttpStatus[status] ?? Code.Unknown);
  }
  if (headers["content-type"]?.startsWith("application/grpc") !== true) {
    return new ConnectError(`${agentPeer}'s answer is not gRPC`, Code.Unknown);
  }
  return errorOfTrailers(headers);
}

/** The error in the trailers; undefined for success, and without a status. */
export function errorOfTrailers(trailers: IncomingHttpHeaders): ConnectError | undefined {
  const status = trailers["grpc-status"];
  if (status === undefined || status === "0") {
    return undefined;
  }
  const number = Number(status);
  const code = number in Code ? (number as Code) : Code.Unknown;
  const message = percentDecoded(String(trailers["grpc-message"] ?? ""));
  const kind = trailers[errorKindHeader];
  return new ConnectError(message, code, typeof kind === "string" ? { [errorKindHeader]: kind } : {});
}

/** The error for a stream that was reset. */
export function errorOfReset(resetCode: number, peer: string = agentPeer): ConnectError {
  return new ConnectError(
    `the connection to ${peer} broke (HTTP/2 code ${resetCode})`,
    codeOfReset[resetCode] ?? Code.Unavailable,
  );
}

/** Decodes gRPC's percent-encoded messages; shows undecodable text unchanged. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
