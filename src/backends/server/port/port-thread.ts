/**
 * The thread of the backend's TCP port, whose TLS a process beside it terminates. It relays calls to agents itself, so
 * that bulk streams do not block the thread that owns the state (docs/adr/0109-a-thread-has-the-tcp-port.md); that thread
 * resolves agents' addresses, and receives all other calls over a unix socket.
 */
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream";
import { parentPort, workerData } from "node:worker_threads";

import type { DialTarget } from "../../../agent-client/address.ts";
import { ConnectionPool } from "../../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../../common/byte-budget.ts";
import { SockerlessError, toErrorData } from "../../../common/errors.ts";
import { listen, type MutualTls } from "../../../common/listen.ts";
import { handleOf } from "../../../common/socket-handle.ts";
import { postingLogger } from "../../../common/process-log.ts";
import { TlsTerminator } from "../../../common/tls-terminator.ts";
import { byProtocol, closeServer, http2Settings, track } from "../connections.ts";
import { forwardCall, relayAgentCall, relayedPrefix, relayedWindows } from "../relay.ts";
import type { FromPort, PortSettings, ToPort } from "./port-messages.ts";

const port = parentPort;
if (port === null) {
  throw new Error("this is a thread");
}
const post = (message: FromPort): void => port.postMessage(message);

const { listen: address, tls, path, inherited } = workerData as PortSettings;

const agents = new ConnectionPool(new ByteBudget(relayedWindows));
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
/** Those over HTTP/1.1. */
const passedOn = new Set<Socket>();
/** Each takes three descriptors of this process. */
const mostPassedOn = 1024;
const terminated = TlsTerminator.start({
  tls,
  protocols: ["h2", "http/1.1"],
  serve: (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    byProtocol(socket, { http2: () => calls.emit("connection", socket), http1: () => passOn(socket) });
  },
  report: post,
  logger: postingLogger(post),
});

/** Passes a connection on to the main thread: Connect over HTTP/1.1, which never goes to agents. */
function passOn(socket: Socket): void {
  if (passedOn.size === mostPassedOn) {
    socket.destroy();
    return;
  }
  passedOn.add(socket);
  socket.once("close", () => passedOn.delete(socket));
  const passed = connect(path);
  pipeline(socket, passed, () => {});
  pipeline(passed, socket, () => {});
}

async function setCertificates(id: number, certificates: MutualTls): Promise<void> {
  try {
    await (await terminated).setCertificates(certificates);
    post({ kind: "tls-set", id });
  } catch (error) {
    post({ kind: "tls-set", id, error: toErrorData(error) });
  }
}

/** Closes the port, and ends the thread alone. */
async function close(): Promise<void> {
  const terminator = await terminated;
  const clients = { close: (closed: () => void) => void terminator.stopListening().then(closed) };
  await closeServer(clients, sessions, connections);
  await terminator.close();
  process.exit();
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
      void setCertificates(message.id, message.tls);
      break;
    case "close":
      void close();
      break;
  }
});

const unixAccess = { mode: 0o600, serves: "a backend" } as const;
async function open(): Promise<string> {
  const terminator = await terminated;
  try {
    return await listen(terminator.createListener(), address, unixAccess, {
      inherited,
      hold(socket, listener) {
        const handle = handleOf(listener);
        if (handle !== undefined) {
          post({ kind: "listens", socket, descriptor: handle.fd });
        }
      },
    });
  } catch (error) {
    await terminator.close();
    throw error;
  }
}
open().then(
  (bound) => post({ kind: "listening", address: bound }),
  (error: unknown) => {
    post({ kind: "failed", error: toErrorData(error) });
    port.close();
  },
);
