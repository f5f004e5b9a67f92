/** Headers and framing of a gRPC call to an agent. */
import type { OutgoingHttpHeaders } from "node:http2";

import { requestIdHeaders } from "../common/request-id.ts";
import { traceHeaders } from "../common/tracing.ts";
import { containerIdHeader } from "./address.ts";

/** Bytes before each message: the compression flag and the length. */
export const prefixLength = 5;

/** @param containerId full ID; required by an agent that serves several containers */
export function requestHeaders(containerId: string | undefined): OutgoingHttpHeaders {
  return {
    "content-type": "application/grpc+proto",
    te: "trailers",
    "user-agent": "sockerless",
    "grpc-accept-encoding": "identity",
    ...requestIdHeaders(),
    ...traceHeaders(),
    ...(containerId === undefined ? {} : { [containerIdHeader]: containerId }),
  };
}

/** Adds the prefix to an encoded message. */
export function framed(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(prefixLength + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, prefixLength);
  return bytes;
}

/** Length of the message after a prefix, in bytes. @param prefix at least {@link prefixLength} bytes */
export function announcedLength(prefix: Uint8Array): number {
  return new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength).getUint32(1);
}
