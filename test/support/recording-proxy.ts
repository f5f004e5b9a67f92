/** A way to an HTTP server on which every request is written down whole. */
import { once } from "node:events";
import { createServer, request, type IncomingHttpHeaders } from "node:http";
import { listenHere } from "./listen-here.ts";

/** A request as it came. */
export interface RecordedRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  /** In base64. */
  readonly body: string;
}

/** The way, and what went over it. */
export interface RecordingProxy extends AsyncDisposable {
  readonly endpoint: string;
  readonly requests: readonly RecordedRequest[];
}

/** Listens on loopback before a server. */
export async function startRecordingProxy(server: string): Promise<RecordingProxy> {
  const requests: RecordedRequest[] = [];
  const proxy = createServer(async (incoming, response) => {
    const { method = "", url: target = "", headers } = incoming;
    try {
      const body = Buffer.concat(await incoming.toArray());
      requests.push({ method, target, headers, body: body.toString("base64") });
      const forwarded = request(new URL(target, server), { method, headers });
      forwarded.end(body);
      const [answer] = await once(forwarded, "response");
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response).on("error", () => {});
    } catch {
      response.destroy(); // As the server, or the client, has done.
    }
  });
  const port = await listenHere(proxy);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    requests,
    async [Symbol.asyncDispose]() {
      const closed = once(proxy, "close");
      proxy.close();
      proxy.closeAllConnections();
      await closed;
    },
  };
}
