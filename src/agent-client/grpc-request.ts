/** Headers and framing of a gRPC call to an agent. */
import type { OutgoingHttpHeaders } from "node:http2";

import { requestIdHeaders } from "../common/request-id.ts";
import { containerIdHeader } from "./address.ts";

/** Bytes before each message: whether it is compressed, and its length. */
export const prefixLength = 5;

/** @param containerId full ID; an agent that serves several containers needs it */
export function requestHeaders(containerId: string | undefined): OutgoingHttpHeaders {
  return {
    "content-type": "application/grpc+proto",
    te: "trailers",
    "user-agent": "sockerless",
    "grpc-accept-encoding": "identity",
    ...requestIdHeaders(),
    ...(containerId === undefined ? {} : { [containerIdHeader]: containerId }),
  };
}

/** An encoded message with its prefix. */
export function framed(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(prefixLength + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, prefixLength);
  return bytes;
}

/** The length of the message behind a prefix, in bytes. @param prefix at least {@link prefixLength} bytes */
export function announcedLength(prefix: Uint8Array): number {
  return new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength).getUint32(1);
}
