/**
 * The thread of the backend's TCP port, which terminates TLS. It relays calls to agents itself, so that bulk streams do
 * not block the thread that owns the state (docs/adr/0109-a-thread-has-the-tcp-port.md); that thread resolves agents'
 * addresses, and receives all other calls over a unix socket.
 */
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { parentPort, workerData } from "node:worker_threads";

import type { DialTarget } from "../../../agent-client/address.ts";
import { ConnectionPool } from "../../../agent-client/connection-pool.ts";
import { SockerlessError, toErrorData } from "../../../common/errors.ts";
import { listen } from "../../../common/listen.ts";
import { handleOf } from "../../../common/socket-handle.ts";
import { Strangers } from "../../../common/strangers.ts";
import { closeServer, http2Settings, track } from "../connections.ts";
import { forwardCall, relayAgentCall, relayedPrefix } from "../relay.ts";
import type { FromPort, PortSettings, ToPort } from "./port-messages.ts";

const port = parentPort;
if (port === null) {
  throw new Error("this is a thread");
}
const post = (message: FromPort): void => port.postMessage(message);

const { listen: address, tls, path, inherited } = workerData as PortSettings;

const agents = new ConnectionPool();
const main: DialTarget = { address: { kind: "unix", path } };

const questions = new Map<number, PromiseWithResolvers<DialTarget | undefined>>();
let lastQuestion = 0;
function resolveAgent(containerId: string): Promise<DialTarget | undefined> {
  const id = ++lastQuestion;
  const question = Promise.withResolvers<DialTarget | undefined>();
  questions.set(id, question);
  post({ kind: "resolve", id, containerId });
  return question.promise;
}

const sessions = new Set<ServerHttp2Session>();
const calls = createHttp2Server(
  http2Settings,
  (request: Http2ServerRequest, response: Http2ServerResponse) => {
    if (request.url.startsWith(relayedPrefix)) {
      void relayAgentCall(request, response, resolveAgent, agents);
    } else {
      void forwardCall(request, response, main, agents);
    }
  },
);
calls.on("session", (session) => track(session, sessions));

const connections = new Set<Socket>();
const server = createTlsServer({
  ...tls,
  ALPNProtocols: ["h2", "http/1.1"],
  noDelay: true,
});
new Strangers(post).guard(server, "a certificate");
server.on("connection", (socket: Socket) => {
  connections.add(socket);
  socket.once("close", () => connections.delete(socket));
});
server.on("secureConnection", (socket) => {
  if (socket.alpnProtocol === "h2") {
    calls.emit("connection", socket);
  } else {
    passOn(socket);
  }
});

/** Passes a connection on to the main thread: Connect over HTTP/1.1, which never goes to agents. */
function passOn(socket: TLSSocket): void {
  const passed = connect(path);
  pipeline(socket, passed, () => {});
  pipeline(passed, socket, () => {});
}

port.on("message", (message: ToPort) => {
  switch (message.kind) {
    case "resolved": {
      const question = questions.get(message.id);
      questions.delete(message.id);
      if (message.error === undefined) {
        question?.resolve(message.target);
      } else {
        question?.reject(new SockerlessError(message.error.kind, message.error.message));
      }
      break;
    }
    case "tls":
      server.setSecureContext(message.tls);
      break;
    case "close":
      void closeServer(server, sessions, connections).then(() => process.exit()); // Ends only the thread.
      break;
  }
});

const unixAccess = { mode: 0o600, serves: "a backend" } as const;
listen(server, address, unixAccess, {
  inherited,
  hold: (socket, listener) => post({ kind: "listens", socket, descriptor: handleOf(listener).fd }),
}).then(
  (bound) => post({ kind: "listening", address: bound }),
  (error: unknown) => {
    post({ kind: "failed", error: toErrorData(error) });
    port.close();
  },
);
