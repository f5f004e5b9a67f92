/**
 * The backend's listener. One address takes HTTP/2 (gRPC, Connect, the relay) and HTTP/1.1 (Connect's unary calls:
 * `GetCapabilities` is a plain GET).
 *
 * A unix socket has no TLS to negotiate the protocol, so the first bytes of a connection decide. TCP requires mutual
 * TLS, and is served by a thread (`port/port-thread.ts`): it relays calls to agents itself, and passes all others to a
 * socket of this process.
 */
import type { Http2ServerResponse, ServerHttp2Session } from "node:http2";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import type { TlsFiles } from "../../common/config/load.ts";
import { toConnectError } from "../../common/connect-error.ts";
import { systemError } from "../../common/errors.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import { listen } from "../../common/listen.ts";
import { componentLogger } from "../../common/logger.ts";
import { portSocketOf } from "../../common/port-socket.ts";
import { forRequest, requestIdHeader } from "../../common/request-id.ts";
import { continueTrace } from "../../common/tracing.ts";
import { callReport } from "./call-report.ts";
import { distinguishLostCallers, callStreamOf } from "../concurrency/caller-lost.ts";
import { closeServer, connectionsOf, type Handler, plainServer } from "./connections.ts";
import { registerHealth } from "./health.ts";
import { TcpPort } from "./port/port.ts";
import { type AgentResolver, relayedPrefix, relayedWindows, relayAgentCall } from "./relay.ts";

export interface BackendServerOptions {
  /** `unix:///path` (mode 0600) or `tcp://address:port`. */
  readonly address: string;
  /** Required for TCP. */
  readonly tls: TlsFiles | undefined;
  /** Directory for the listener's own socket, if the address is TCP. */
  readonly runDir: string;
  /** Sockets held by the supervisor. */
  readonly sockets?: HeldSockets | undefined;
  readonly register: (router: ConnectRouter) => void;
  readonly resolveAgent: AgentResolver;
  /** Holds calls to what their caller may see. */
  readonly guard?: Interceptor;
  readonly logger: Logger;
}

export interface BackendServer {
  /** Address in use, with the actual port in place of 0. */
  readonly address: string;
  /** As {@link RunningService.reload}; on TCP only. */
  readonly reload?: () => Promise<string>;
  /** Stops accepting, lets current calls finish for a bounded time, then cuts them. */
  close(): Promise<void>;
}

/**
 * Serves a backend's contract.
 *
 * @throws SockerlessError `conflict` if another process serves the address
 */
export async function serveBackend(options: BackendServerOptions): Promise<BackendServer> {
  return options.address.startsWith("unix://") ? await serveOnSocket(options) : await serveOnTcp(options);
}

async function serveOnSocket(options: BackendServerOptions): Promise<BackendServer> {
  const sessions = new Set<ServerHttp2Session>();
  const agents = new ConnectionPool(new ByteBudget(relayedWindows));
  const server = plainServer(backendHandler(options, agents), sessions);
  const connections = connectionsOf(server);
  const address = await listen(
    server,
    options.address,
    { mode: 0o600, serves: "a backend" },
    options.sockets,
  );
  return {
    address,
    async close() {
      await closeServer(server, sessions, connections);
      agents.close();
    },
  };
}

/** Makes a thread serve the port; it passes calls on to a socket in the run directory. */
async function serveOnTcp(options: BackendServerOptions): Promise<BackendServer> {
  const { address, tls: files, runDir, logger, resolveAgent, sockets } = options;
  if (files === undefined) {
    throw systemError("a backend on TCP needs --tlscacert, --tlscert and --tlskey");
  }
  const path = portSocketOf(runDir);
  await using resources = new AsyncDisposableStack();
  const passedOn = await serveOnSocket({ ...options, address: `unix://${path}`, sockets: undefined });
  resources.defer(() => passedOn.close());
  const port = await TcpPort.open({
    ...{ address, files, path, resolveAgent, sockets },
    logger: componentLogger(logger, "port"),
  });
  resources.defer(() => port.close());
  const owned = resources.move();
  return {
    address: port.address,
    reload: () => port.reload(),
    close: () => owned.disposeAsync(),
  };
}

/** The largest are starts with 16 MiB of secrets; files and images come in pieces. */
const maxMessageBytes = 64 * 1024 * 1024;

function backendHandler(options: BackendServerOptions, agents: ConnectionPool): Handler {
  const connect = connectNodeAdapter({
    routes(router) {
      registerHealth(router);
      options.register(router);
    },
    contextValues: callStreamOf,
    jsonOptions: { useProtoFieldName: true, alwaysEmitImplicit: true },
    readMaxBytes: maxMessageBytes,
    interceptors: [
      ...[logCalls(options.logger), convertErrors, distinguishLostCallers],
      ...(options.guard === undefined ? [] : [options.guard]),
    ],
    grpcWeb: false,
  });
  return (request, response) => {
    if (request.url?.startsWith(relayedPrefix) === true && "stream" in request) {
      void relayAgentCall(request, response as Http2ServerResponse, options.resolveAgent, agents);
    } else {
      forRequest(request.headers[requestIdHeader], () =>
        continueTrace(request.headers, () => connect(request, response)),
      );
    }
  };
}

/** Converts errors to the contract's form: a code, Docker's words, and the kind in the metadata. */
const convertErrors: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: convertStreamErrors(response.message) } : response;
  } catch (error) {
    throw toConnectError(error);
  }
};

async function* convertStreamErrors<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error);
  }
}

/** Logs each call at its end. */
function logCalls(logger: Logger): Interceptor {
  return (next) => async (request) => {
    const report = callReport(logger, request.method, request.signal);
    try {
      const response = await next(request);
      if (response.stream) {
        return { ...response, message: reportAtEnd(response.message, report) };
      }
      report();
      return response;
    } catch (error) {
      report(error);
      throw error;
    }
  };
}

async function* reportAtEnd<T>(
  messages: AsyncIterable<T>,
  report: (error?: unknown) => void,
): AsyncGenerator<T> {
  try {
    yield* messages;
    report();
  } catch (error) {
    report(error);
    throw error;
  }
}
