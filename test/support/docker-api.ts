/** A Docker API server on a unix socket, before a backend that a test makes up. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import { type ConnectRouter, createRouterTransport } from "@connectrpc/connect";

import { type Clock, systemClock } from "../../src/common/clock.ts";
import { listen } from "../../src/common/listen.ts";
import { createLogger, type Logger } from "../../src/common/logger.ts";
import { type AdmissionLimits, usualLimits } from "../../src/frontend/admission.ts";
import { createBackendClients } from "../../src/frontend/backend/clients.ts";
import { routes as allRoutes } from "../../src/frontend/route-table.ts";
import type { Route } from "../../src/frontend/router.ts";
import { DockerApiServer } from "../../src/frontend/server.ts";
import { AgentTargets } from "../../src/frontend/streams/agent-targets.ts";
import { OpenAttachments } from "../../src/frontend/streams/open-attachments.ts";
import { PendingStarts } from "../../src/frontend/streams/pending-starts.ts";
import type { HandOver } from "../../src/frontend/streams/hand-over.ts";
import { StreamPool } from "../../src/frontend/streams/stream-pool.ts";
import { ExecEnds } from "../../src/frontend/streams/exec-ends.ts";
import { type ApiRequestOptions, type ApiResponse, callApi } from "./call-api.ts";

/** A served Docker API. */
export interface ApiUnderTest {
  readonly socket: string;
  /** `unix:///path` at which no backend listens. */
  readonly backendAddress: string;
  readonly server: DockerApiServer;
  call(method: string, path: string, options?: ApiRequestOptions): Promise<ApiResponse>;
}

/**
 * Serves the API until the test ends.
 *
 * @param backend the services that the test's requests need; others answer as not implemented
 * @param logger told of the requests
 * @param clock the server's
 */
export async function serveApi(
  t: TestContext,
  backend: (router: ConnectRouter) => void,
  routes: readonly Route[] = allRoutes,
  logger: Logger = createLogger({ level: "silent", process: "test" }),
  clock: Clock = systemClock,
  handOver: HandOver | undefined = undefined,
  limits: AdmissionLimits = usualLimits(),
): Promise<ApiUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-api-"));
  const backendAddress = `unix://${directory}/backend.sock`;
  let streams: StreamPool | undefined;
  const clients = createBackendClients(createRouterTransport(backend));
  const server = new DockerApiServer({
    routes,
    services: {
      backend: clients,
      clock,
      presence: { absence: async () => undefined },
      agents: new AgentTargets({ address: backendAddress }),
      publisher: undefined,
      isDebugging: logger.isLevelEnabled("debug"),
      execEnds: new ExecEnds(clients.execs),
      startBuilder: undefined,
      pendingStarts: new PendingStarts(),
      openAttachments: new OpenAttachments(undefined, clock),
      handOver,
      // Most tests open no stream, and threads take a moment to start.
      get streams() {
        streams ??= new StreamPool(1);
        return streams;
      },
    },
    logger,
    version: "1.2.3",
    limits,
  });
  t.after(async () => {
    await server.close();
    await streams?.close();
    await rm(directory, { recursive: true });
  });
  const socket = join(directory, "docker.sock");
  await listen(server.createListener(), `unix://${socket}`, { mode: 0o600, serves: "a test" });
  return {
    socket,
    backendAddress,
    server,
    call: (method, path, options) => callApi(socket, method, path, options),
  };
}
