/**
 * The relay's thread: agents that cannot be dialled call here, and a client connects to a unix socket and is joined
 * with one of the agent's connections. The bytes are end-to-end TLS, of which only the handshake's length is looked at;
 * the TLS around them ends in a process beside the thread. A separate thread, so that bulk streams do not delay the one
 * that owns the state (docs/adr/0099-agents-that-call-are-joined-in-a-thread.md).
 */
import { once } from "node:events";
import { chmodSync } from "node:fs";
import { createServer as createHttp, type IncomingMessage, STATUS_CODES } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { parentPort, workerData } from "node:worker_threads";

import { WebSocketServer } from "ws";

import { agentPinHeader } from "../../../agent-client/dial.ts";
import { HandshakeLimit } from "../../../agent-client/handshake-limit.ts";
import { messageOf } from "../../../common/errors.ts";
import { postingLogger } from "../../../common/process-log.ts";
import { interceptParser } from "../../../common/request-parser.ts";
import { remoteOf, Strangers } from "../../../common/strangers.ts";
import { TlsTerminator } from "../../../common/tls-terminator.ts";
import { AgentSocket, streamOf } from "./agent-socket.ts";
import { learnKey } from "./key-proof.ts";
import { agentRefused, Meetings } from "./meetings.ts";
import { Passages } from "./passages.ts";
import type { Caller, FromRelay, RelaySettings, ToRelay } from "./relay-messages.ts";

/** The protocol inside the WebSocket: TLS, whose server is the agent. */
const subprotocol = "sockerless.agent.v1";
/** Time limit for a client whose agent does not call. */
const wantedWithinMs = 8_000;
/** Agents ping each connection every 20 s. */
const silentForMs = 65_000;
/** Messages are TLS records of at most 16 KiB. A peer without a proven key can make us buffer no more than that. */
const maxMessageBytes = 64 * 1024;
/** Maximum parts of a message, frames and reads of the connection: each costs more than its bytes. */
const maxParts = 256;
/** The first byte of a TLS connection. */
const tlsHandshake = 22;

const port = parentPort;
if (port === null) {
  throw new Error("this is a thread");
}
const tell = (message: FromRelay): void => port.postMessage(message);

const { listen, key, certificate, path, instance, callKey } = workerData as RelaySettings;

const meetings = new Meetings({
  called: (caller) => tell({ kind: "called", caller }),
  left: (caller) => tell({ kind: "left", caller }),
});

const agents = createHttp({ shouldUpgradeCallback: () => true });
const strangers = new Strangers(tell);
strangers.guard(agents);
// A connection has one request, of which the header alone is parsed: 16 KB of requests, or of a body in small chunks, would
// take milliseconds.
agents.on("connection", (socket: Socket) => {
  const data = (chunk: Buffer): void => parse?.(chunk);
  const header = (): boolean => {
    socket.removeListener("data", data); // Node lends the parser to another connection.
    return true;
  };
  const parse = interceptParser(socket, { data, header, dispatched: () => {} });
});

const webSockets = new WebSocketServer({
  WebSocket: AgentSocket,
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: maxMessageBytes,
  maxFragments: maxParts,
  maxBufferedChunks: maxParts,
  autoPong: false,
  handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
});

agents.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
  const remote = remoteOf(socket);
  const [, called, containerId = "", peer] =
    /\/agents\/([0-9a-f]{16})\/([0-9a-f]{64})(?:\/peers\/([0-9a-f]{64}))?$/.exec(request.url ?? "") ?? [];
  if (called !== instance) {
    strangers.turnAway(
      remote,
      called === undefined ? "it is no agent" : `it is an agent of another sockerless, ${called}`,
    );
    socket.write(`HTTP/1.1 404 ${STATUS_CODES[404]}\r\nconnection: close\r\n\r\n`);
    socket.destroySoon();
    return;
  }
  if (head.length > 0) {
    strangers.turnAway(remote, "it speaks before it is answered");
    socket.destroy();
    return;
  }
  webSockets.handleUpgrade(request, socket, head, (webSocket) => {
    webSocket.lookInPieces(socket);
    void meet(webSocket, containerId, peer, remote);
  });
});

/** Live connections of agents, and when each was last heard. */
const heard = new Map<AgentSocket, number>();
setInterval(() => {
  for (const [webSocket, atMs] of heard) {
    if (!webSocket.isPaused && performance.now() - atMs > silentForMs) {
      webSocket.cut();
    }
  }
}, silentForMs / 4).unref();

/** The underlying sockets of connections. */
const socketOf = new WeakMap<Duplex, AgentSocket>();

async function meet(
  webSocket: AgentSocket,
  containerId: string,
  peer: string | undefined,
  remote: string,
): Promise<void> {
  const hear = (): void => void heard.set(webSocket, performance.now());
  webSocket.on("error", () => {}); // "close" follows.
  webSocket.on("ping", (data) => {
    hear();
    webSocket.notePing();
    webSocket.answer(data);
  });
  webSocket.on("pong", () => webSocket.notePing());
  webSocket.on("message", () => {
    hear();
    webSocket.noteMessage();
  });
  webSocket.once("close", () => heard.delete(webSocket));
  hear();
  try {
    const streams = Promise.withResolvers<Duplex>();
    const { pin, start } = await learnKey(webSocket, { instance, callKey }, containerId, () => {
      const stream = streamOf(webSocket);
      socketOf.set(stream, webSocket);
      streams.resolve(stream);
    });
    strangers.proven(remote);
    const connection = await streams.promise;
    const caller = { containerId, pin, start };
    if (peer !== undefined) {
      await joinPeers(webSocket, connection, caller, peer);
      return;
    }
    webSocket.once("close", () => meetings.lose(caller, connection));
    const refusal = meetings.offer(caller, connection);
    if (refusal !== undefined) {
      throw new Error(refusal);
    }
  } catch (error) {
    webSocket.terminate();
    strangers.turnAway(remote, `agent of container ${containerId}: ${messageOf(error)}`);
  }
}

const passages = new Passages();

/** Joins a calling agent with a waiting one, until either closes or they may no longer be joined. */
async function joinPeers(
  webSocket: AgentSocket,
  connection: Duplex,
  caller: Caller,
  peer: string,
): Promise<void> {
  const passage = passages.open(caller, peer);
  const { cut } = passage;
  const gone = new AbortController();
  webSocket.once("close", () => {
    passages.end(passage);
    gone.abort();
  });
  const signal = AbortSignal.any([cut.signal, gone.signal, AbortSignal.timeout(wantedWithinMs)]);
  await beginsTls(connection, signal);
  const other = await meetings.want(passage.to, signal, "peers");
  const end = (): void => {
    connection.destroy();
    other.destroy();
  };
  if (cut.signal.aborted || webSocket.readyState !== webSocket.OPEN) {
    end();
    return;
  }
  cut.signal.addEventListener("abort", end, { once: true });
  webSocket.join();
  socketOf.get(other)?.join();
  pipeline(connection, other, end);
  pipeline(other, connection, end);
}

/**
 * Resolves once TLS has begun. Resumable links are reserved for backend and frontends: an agent could exhaust
 * another's.
 *
 * @throws Error: anything but TLS; the signal's reason
 */
async function beginsTls(connection: Duplex, signal: AbortSignal): Promise<void> {
  if (connection.readableLength === 0) {
    await once(connection, "readable", { signal });
  }
  const first = connection.read(1) as Buffer | null;
  if (first?.[0] !== tlsHandshake) {
    throw new Error("it speaks no TLS to another agent");
  }
  connection.unshift(first);
}

const clients = createHttp((_request, response) => {
  response.writeHead(405).end();
});
clients.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
  void join(request, socket, head);
});

async function join(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  const gone = new AbortController();
  socket.on("error", () => {});
  socket.once("close", () => gone.abort());
  const caller = {
    containerId: (request.url ?? "").replace(/:0$/, ""),
    pin: String(request.headers[agentPinHeader]),
  };
  try {
    const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(wantedWithinMs)]);
    const connection = await meetings.want(caller, signal, "controls");
    socketOf.get(connection)?.use();
    if (socket.destroyed) {
      connection.destroy();
      return;
    }
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    limitHandshake(socket, head, connection);
    connection.write(head);
    pipeline(socket, connection, () => {});
    // The stream of a closed WebSocket neither finishes nor closes by itself; all of its data was passed on.
    pipeline(connection, socket, () => connection.destroy());
  } catch (error) {
    const status = error === agentRefused ? "410 the agent is gone" : "503 the agent has not called";
    socket.end(`HTTP/1.1 ${status}\r\n\r\n`);
  }
}

/** Cuts an agent whose handshake is too long for its client. To be called before the two are joined. */
function limitHandshake(client: Duplex, head: Buffer, agent: Duplex): void {
  const limit = new HandshakeLimit();
  const noteSent = (chunk: Buffer): void => {
    limit.noteSent(chunk);
    if (limit.isLifted) {
      client.off("data", noteSent);
      agent.off("data", noteReceived);
    }
  };
  const noteReceived = ({ length }: Buffer): void => {
    if (!limit.noteReceived(length)) {
      client.destroy(); // Nothing is passed on to it any more, this chunk included.
      socketOf.get(agent)?.cut();
    }
  };
  client.on("data", noteSent);
  agent.on("data", noteReceived);
  noteSent(head);
}

const connections = new Set<Socket>();
const terminated = TlsTerminator.start({
  tls: { key, cert: certificate },
  protocols: ["http/1.1"],
  serve: (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    agents.emit("connection", socket);
  },
  report: tell,
  logger: postingLogger(tell),
});

/** Ends the thread, and its connections with it. */
async function close(): Promise<void> {
  for (const socket of connections) {
    socket.destroy();
  }
  await (await terminated).close();
  process.exit();
}

port.on("message", (message: ToRelay) => {
  switch (message.kind) {
    case "refuse":
      meetings.refuse(message.caller);
      break;
    case "allow":
      passages.allow(message.containerId, message.grant);
      break;
    case "close":
      void close();
  }
});

const { hostname, port: number } = new URL(listen);
// Without an address Node listens on [::], which includes IPv4, or on 0.0.0.0 if there is no IPv6.
const host = hostname === "[::]" ? undefined : hostname.replace(/^\[(.*)\]$/, "$1");
const terminator = await terminated;
clients.listen(path, () => {
  chmodSync(path, 0o600);
  const listener = terminator.createListener();
  listener.listen({ port: Number(number), host }, () => {
    const { address, port: bound } = listener.address() as AddressInfo;
    tell({
      kind: "listening",
      address: `tcp://${address.includes(":") ? `[${address}]` : address}:${bound}`,
    });
  });
});
