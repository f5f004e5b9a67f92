/** Proxy to the builder, which serves Docker's build endpoints itself: requests and answers pass unchanged. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { json } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";

import { systemError } from "../common/errors.ts";
import { joinedHighWaterMark as highWaterMark } from "../common/pack-waiting.ts";
import { keepReadingWithoutOutput } from "./streams/lost-output.ts";
import type { HijackContext, ReplyContext } from "./request-context.ts";

/** Hop-by-hop headers, which are not forwarded to the builder. */
const hopHeaders = new Set(["host", "connection", "keep-alive", "transfer-encoding", "upgrade", "expect"]);

/** Sends a request without a body to the builder. */
export async function callBuilder(
  socketPath: string,
  method: string,
  path: string,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  httpRequest({ socketPath, method, path, signal, agent: false }, resolve).once("error", reject).end();
  const answer = await promise;
  return { status: answer.statusCode ?? 500, body: await json(answer) };
}

/**
 * Forwards a request with its body, and the answer as it comes.
 *
 * @param path the path and query at the builder
 */
export async function forwardToBuilder(
  { request, response, signal }: ReplyContext,
  socketPath: string,
  path: string,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const headers = Object.fromEntries(
    Object.entries(request.headers).filter(([name]) => !hopHeaders.has(name)),
  );
  const method = request.method ?? "";
  // No connection is used again: it might be one of a builder that has ended since.
  const options = { socketPath, method, path, headers, signal, agent: false, highWaterMark } as const;
  const forwarded = httpRequest(options, resolve);
  forwarded.once("error", reject);
  // The answer may precede the end of the body, which is then irrelevant.
  const sending = pipeline(request, forwarded).catch(() => undefined);
  const answer = await promise.catch((error: unknown) => {
    throw systemError("the builder is gone", error);
  });
  if (response.headersSent) {
    await finishBegun(answer, response);
  } else {
    const type = answer.headers["content-type"];
    response.writeHead(answer.statusCode ?? 500, type === undefined ? {} : { "Content-Type": type });
    response.flushHeaders();
    await pipeline(answer, response);
  }
  await sending;
}

/** Continues an answer that began while the builder was compiled: an error becomes one more message. */
async function finishBegun(answer: IncomingMessage, response: ReplyContext["response"]): Promise<void> {
  if (answer.statusCode === 200) {
    await pipeline(answer, response);
    return;
  }
  const { message } = (await json(answer)) as { readonly message: string };
  response.end(`${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`);
}

/** Joins a client's connection to one of the builder, starting with the request's header. */
export async function joinBuilder(context: HijackContext, socketPath: string, path: string): Promise<void> {
  const { request, socket, body } = context;
  const builder = await dial(socketPath);
  const lines = [`POST ${path} HTTP/1.1`, "Host: builder", `Content-Length: ${body.length}`];
  lines.push(`Connection: ${request.headers.connection ?? "close"}`);
  if (request.headers.upgrade !== undefined) {
    lines.push(`Upgrade: ${request.headers.upgrade}`);
  }
  const replaced = new Set([...hopHeaders, "content-length"]);
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    const name = request.rawHeaders[at] ?? "";
    if (!replaced.has(name.toLowerCase())) {
      lines.push(`${name}: ${request.rawHeaders[at + 1] ?? ""}`);
    }
  }
  context.takeOver();
  // A builder that refuses closes its end while the client still writes: the client must still read the refusal.
  keepReadingWithoutOutput(builder);
  builder.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  builder.write(body);
  builder.on("error", () => {}); // The pipeline handles it.
  socket.once("close", () => builder.destroy());
  socket.pipe(builder);
  // The loss of either connection ends both; there is nobody to report it to.
  await pipeline(builder, socket).catch(() => socket.destroy());
  builder.destroy();
}

function dial(socketPath: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const options = { path: socketPath, highWaterMark };
    const socket = connect(options);
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error) => reject(systemError("the builder is gone", error)));
  });
}
