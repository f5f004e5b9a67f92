/**
 * One server that answers as the agents of any number of containers whose tasks do not really run: for counting what a
 * start costs. It is dialled, or calls. A process "runs" until it is signalled.
 */
import { randomInt, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from "node:http2";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createWebSocketStream, type RawData, WebSocket } from "ws";

import {
  AgentService,
  Mode,
  type StartedProcess,
  StartedProcessSchema,
  type WatchResponseSchema,
} from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { makeCertificates } from "./certificates.ts";
import { shownToken } from "./shown-token.ts";

/** Port that agents listen on. */
const agentPort = 9111;
/** Interval of heartbeats, in milliseconds: silence of thirty seconds makes a client give an agent up. */
const heartbeatMs = 10_000;
/** Somebody who has the port at every address leaves none free. */
const maxAttempts = 20;

/** Interval of pings on a connection that calls, as of agents: the relay cuts off what is silent for 65 s. */
const pingMs = 20_000;
/** Pause after a call that nobody took. */
const pauseMs = 500;

/** An agent that calls, as its job's template and secrets tell it. */
export interface CallingAgent {
  readonly containerId: string;
  /** The backend's address for agents, with its path: `https://…` or `wss://…`. */
  readonly url: string;
  /** The pin of the backend's authority over agents: `sha256/<base64>`. */
  readonly pin: string;
  readonly secret: string;
  /** The token of its start: `<generation>.<secret>`. */
  readonly token: string;
}

/** One container's process. */
interface Run {
  started: StartedProcess | undefined;
  /** Its exit code, once it was signalled. */
  readonly ended: Promise<number>;
  readonly end: (code: number) => void;
}

/** All agents. */
export class ManyAgents implements AsyncDisposable {
  /** Address of this machine; every task may be said to have it. */
  readonly address: string;
  readonly #server: Http2SecureServer;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #runs = new Map<string, Run>();
  readonly #left: (containerId: string) => void;
  readonly #tls: { readonly cert: Buffer; readonly key: Buffer };
  readonly #secrets = new Map<string, string>();
  readonly #calls = new Set<WebSocket>();
  readonly #over = new AbortController();
  #starts = 0;

  private constructor(
    address: string,
    tls: { readonly cert: Buffer; readonly key: Buffer },
    left: (containerId: string) => void,
  ) {
    this.address = address;
    this.#left = left;
    this.#tls = tls;
    const server = createSecureServer(
      { ...tls, minVersion: "TLSv1.3", requestCert: true, rejectUnauthorized: false },
      connectNodeAdapter({ routes: (router) => router.service(AgentService, serviceOf(this)) }),
    );
    this.#server = server;
    server.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
    });
  }

  /**
   * Serves them, at an address of loopback whose port of agents is free.
   *
   * @param directory for certificates
   * @param left called when an agent is let go: its task would end
   */
  static async listen(
    directory: string,
    left: (containerId: string) => void = () => {},
  ): Promise<ManyAgents> {
    const tls = await certificateIn(directory);
    for (let attempt = 1; ; attempt++) {
      const agents = new ManyAgents(
        `127.${randomInt(1, 255)}.${randomInt(255)}.${randomInt(1, 255)}`,
        tls,
        left,
      );
      agents.#server.listen(agentPort, agents.address);
      try {
        await once(agents.#server, "listening");
        return agents;
      } catch (error) {
        if (attempt === maxAttempts || (error as NodeJS.ErrnoException).code !== "EADDRINUSE") {
          throw error;
        }
      }
    }
  }

  /** Has them call, each by {@link call}. @param directory for certificates */
  static async calling(directory: string, left: (containerId: string) => void): Promise<ManyAgents> {
    return new ManyAgents("", await certificateIn(directory), left);
  }

  /** Has one call its backend, with a connection that waits at any time, until it is let go. */
  async call({ containerId, url, pin, secret, token }: CallingAgent): Promise<void> {
    this.#secrets.set(containerId, secret);
    const instance = Buffer.from(pin.replace(/^sha256\//, ""), "base64").toString("hex", 0, 8);
    const where = `${url.replace(/^https:/, "wss:")}/agents/${instance}/${containerId}`;
    while (this.#secrets.has(containerId) && !this.#over.signal.aborted) {
      const isUsed = await this.#offer(where, `sockerless callback ${instance} ${containerId}`, token);
      if (!isUsed) {
        await pauseOf(pauseMs, this.#over.signal);
      }
    }
  }

  /** Makes a connection. @returns whether the backend has begun to use it */
  async #offer(where: string, said: string, token: string): Promise<boolean> {
    const socket = new WebSocket(where, "sockerless.agent.v1", {
      rejectUnauthorized: false,
      perMessageDeflate: false,
    });
    this.#calls.add(socket);
    socket.once("close", () => this.#calls.delete(socket));
    socket.once("open", () => {
      const pings = setInterval(() => socket.ping(), pingMs).unref();
      socket.once("close", () => clearInterval(pings));
    });
    try {
      const [nonce] = (await once(socket, "message")) as [RawData];
      const { cert, key } = this.#tls;
      const signed = Buffer.from(`${said} ${(nonce as Buffer).toString("hex")}`);
      const { raw } = new X509Certificate(cert);
      const stream = createWebSocketStream(socket);
      stream.on("error", () => {});
      const used = once(stream, "readable", { signal: this.#over.signal });
      socket.send(
        JSON.stringify({
          certificate: raw.toString("base64"),
          signature: sign("sha256", signed, key).toString("base64"),
          token: shownToken(token, signed, raw),
        }),
      );
      await used;
      if (stream.readableLength === 0) {
        return false; // It has ended.
      }
      this.#server.emit("connection", stream);
      return true;
    } catch {
      socket.terminate();
      return false;
    }
  }

  /** Proves a container's agent to its backend. */
  secretOf(containerId: string): string {
    return this.#secrets.get(containerId) ?? "";
  }

  /** How many processes were started. */
  get starts(): number {
    return this.#starts;
  }

  /** Starts a container's process, once. */
  start(containerId: string): StartedProcess {
    const run = this.runOf(containerId);
    if (run.started === undefined) {
      this.#starts++;
      run.started = create(StartedProcessSchema, { pid: 13n, startedAt: timestampNow() });
    }
    return run.started;
  }

  /** Lets a container's agent go. */
  release(containerId: string): void {
    this.#runs.delete(containerId);
    this.#secrets.delete(containerId);
    this.#left(containerId);
  }

  /** A container's process, started or not. */
  runOf(containerId: string): Run {
    const known = this.#runs.get(containerId);
    if (known !== undefined) {
      return known;
    }
    const { promise, resolve } = Promise.withResolvers<number>();
    const run = { started: undefined, ended: promise, end: resolve };
    this.#runs.set(containerId, run);
    return run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    this.#server.close();
    for (const session of this.#sessions) {
      session.destroy();
    }
    for (const socket of this.#calls) {
      socket.terminate();
    }
    if (this.#server.listening) {
      await once(this.#server, "close");
    }
  }
}

async function certificateIn(directory: string): Promise<{ readonly cert: Buffer; readonly key: Buffer }> {
  const { server } = await makeCertificates(directory);
  return { cert: await readFile(server.cert), key: await readFile(server.key) };
}

function serviceOf(agents: ManyAgents): Partial<ServiceImpl<typeof AgentService>> {
  const containerOf = ({ requestHeader }: HandlerContext): string =>
    requestHeader.get("sockerless-container-id") ?? "";
  return {
    hello: (_, context) => ({ version: "0.0.0", mode: Mode.INIT, containerId: containerOf(context) }),
    start: (_, context) => ({ result: { case: "started", value: agents.start(containerOf(context)) } }),
    prove: (_, context) => ({ proof: { case: "secret", value: agents.secretOf(containerOf(context)) } }),
    names: () => ({}),
    release: (_, context) => {
      agents.release(containerOf(context));
      return {};
    },
    signal: ({ signal }, context) => {
      agents.runOf(containerOf(context)).end(128 + signal);
      return {};
    },
    watch: (_, context) => watch(agents.runOf(containerOf(context)), context.signal),
    async *logs() {
      yield { message: { case: "end", value: { totalBytes: 0n } } };
    },
  };
}

async function* watch(
  run: Run,
  signal: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof WatchResponseSchema>> {
  const state = run.started === undefined ? {} : { started: run.started };
  yield { sequence: 1n, event: { case: "state", value: state } };
  let sequence = 2n;
  let code: number | undefined;
  while (code === undefined) {
    code = await Promise.race([run.ended, pauseOf(heartbeatMs, signal)]);
    if (signal.aborted) {
      return;
    }
    if (code === undefined) {
      yield { sequence: sequence++, event: { case: "heartbeat", value: {} } };
    }
  }
  const exit = { code, signal: code - 128, finishedAt: timestampNow() };
  yield { sequence, event: { case: "exited", value: exit } };
}

/** Ends early where the signal aborts. */
async function pauseOf(ms: number, signal: AbortSignal): Promise<undefined> {
  await delay(ms, undefined, { signal, ref: false }).catch(() => {});
}
