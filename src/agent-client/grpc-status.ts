/** How a gRPC call ended. */
import { constants, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { agentPeer } from "./address.ts";
import { errorKindHeader } from "../common/errors.ts";

/** Codes for an HTTP status that did not come from a gRPC server, as gRPC's protocol document maps them. */
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
 * The codes of RST_STREAM that say more than that the stream broke. CANCEL does not: Node also shows it for streams whose
 * connection was lost.
 */
const codeOfReset: Readonly<Record<number, Code>> = {
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.ResourceExhausted,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PermissionDenied,
};

/**
 * The error that the response's header alone tells: its HTTP status, its content type, or, where the response has no
 * body, its gRPC status.
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

/** The error that trailers tell; undefined for success, and where they hold no status. */
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

/** The error of a stream that was reset, by the code of the reset. */
export function errorOfReset(resetCode: number, peer: string = agentPeer): ConnectError {
  return new ConnectError(
    `the connection to ${peer} broke (HTTP/2 code ${resetCode})`,
    codeOfReset[resetCode] ?? Code.Unavailable,
  );
}

/** gRPC writes messages percent-encoded; what is not decodable is shown as it came. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
