/** An agent on a unix socket whose answers a test writes. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type ServerHttp2Session } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import {
  AgentService,
  type SessionRequest,
  type SessionResponseSchema,
} from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { AgentEndpointSchema, type AgentEndpoint } from "../../src/gen/sockerless/backend/v1/endpoint_pb.ts";

/** A served agent. */
export interface ScriptedAgent {
  readonly socket: string;
  /** Endpoint that a backend answers for it. */
  readonly endpoint: AgentEndpoint;
  /** Cuts every connection, as a crash does; new ones are still taken. */
  cut(): void;
}

/** Serves an agent until the test ends. */
export async function serveAgent(
  t: TestContext,
  service: Partial<ServiceImpl<typeof AgentService>>,
): Promise<ScriptedAgent> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-agent-"));
  const socket = join(directory, "agent.sock");
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(AgentService, service) }),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  const cut = (): void => {
    for (const session of sessions) {
      session.destroy();
    }
  };
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.after(async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    cut();
    await closed;
    await rm(directory, { recursive: true });
  });
  const endpoint = create(AgentEndpointSchema, {
    address: { case: "unixPath", value: socket },
    containerId: "c".repeat(64),
  });
  return { socket, endpoint, cut };
}

/** A session's answer. */
export type SessionAnswer = MessageInitShape<typeof SessionResponseSchema>;

/** `started`. */
export function started(tty = false): SessionAnswer {
  return { message: { case: "started", value: { pid: 42n, tty } } };
}

/** `exit`. */
export function exited(code: number): SessionAnswer {
  return { message: { case: "exit", value: { code } } };
}

/** Makes output messages with the right offsets; one for each session. */
export class SessionOutput {
  readonly #offsets = { stdout: 0n, stderr: 0n };

  /** Output of one of the streams. */
  of(stream: "stdout" | "stderr", text: string | Uint8Array): SessionAnswer {
    const data = typeof text === "string" ? Buffer.from(text) : text;
    const offset = this.#offsets[stream];
    this.#offsets[stream] += BigInt(data.length);
    return { message: { case: stream, value: { offset, data } } };
  }
}

/** Behaves like `cat`: what comes on stdin goes to stdout, exit 0 at its end. */
export async function* cat(requests: AsyncIterable<SessionRequest>): AsyncGenerator<SessionAnswer> {
  const output = new SessionOutput();
  for await (const { message } of requests) {
    switch (message.case) {
      case "openExec":
      case "openAttach":
        yield started();
        break;
      case "stdin":
        yield output.of("stdout", message.value.data);
        break;
      case "closeStdin":
        yield exited(0);
        return;
      default:
        break;
    }
  }
}
