/** Calls of a Docker API on a unix socket, without a client's library. */
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http";

/** A response, read to its end. */
export interface ApiResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly bytes: Buffer;
  /** The parsed body. */
  json(): unknown;
}

/** Headers and body of a request. */
export interface ApiRequestOptions {
  readonly headers?: OutgoingHttpHeaders;
  /** Sent as JSON, or as it is where it is text or bytes. */
  readonly body?: unknown;
}

/** Sends one request to a Docker API and reads the response to its end. */
export async function callApi(
  socketPath: string,
  method: string,
  path: string,
  options: ApiRequestOptions = {},
): Promise<ApiResponse> {
  const { body } = options;
  const raw = body === undefined || typeof body === "string" || body instanceof Uint8Array;
  const bytes = raw ? body : JSON.stringify(body);
  const answered = Promise.withResolvers<ApiResponse>();
  const outgoing = request({
    socketPath,
    method,
    path,
    agent: false,
    headers: {
      ...(bytes === undefined ? {} : { "Content-Type": "application/json" }),
      ...options.headers,
    },
  });
  outgoing.on("error", answered.reject);
  outgoing.on("response", (incoming) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("error", answered.reject);
    incoming.on("end", () => {
      const bytes = Buffer.concat(chunks);
      const text = bytes.toString("utf8");
      answered.resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        text,
        bytes,
        json: () => JSON.parse(text) as unknown,
      });
    });
  });
  outgoing.end(bytes);
  return await answered.promise;
}
