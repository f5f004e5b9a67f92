/** An agent that answers every call with bytes, whatever they are: agents are not trusted. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An answer: a body, and gRPC's status; without a status the stream is cut. */
export interface RawAnswer {
  readonly bytes: Buffer;
  readonly status: string | undefined;
}

/** An HTTP/2 server on a unix socket. */
export class RawAgent {
  readonly #directory = mkdtempSync(join(tmpdir(), "raw-agent-"));
  readonly #server = createServer();
  readonly address = { kind: "unix", path: join(this.#directory, "agent.sock") } as const;
  /** To the next call. */
  answer: RawAnswer = { bytes: Buffer.alloc(0), status: "0" };

  constructor() {
    this.#server.on("stream", (stream: ServerHttp2Stream) => {
      const { bytes, status } = this.answer;
      stream.on("error", () => {}); // the client has heard enough
      stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => {
        if (status === undefined) {
          stream.close();
        } else {
          stream.sendTrailers({ "grpc-status": status });
        }
      });
      stream.end(bytes);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.address.path, resolve));
  }

  /** After its clients were closed. */
  async close(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#directory, { recursive: true });
  }
}
