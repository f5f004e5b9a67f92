/** The frontend as a process: the Docker API on the configured addresses, for the backend at the configured address. */
import { createClient } from "@connectrpc/connect";

import { builtPrograms } from "../common/built-programs.ts";
import { systemClock } from "../common/clock.ts";
import type { Config } from "../common/config/load.ts";
import type { Supervision } from "../common/held-sockets.ts";
import { listen, readMutualTls, reloadCertificates } from "../common/listen.ts";
import { type Logger, processLogger } from "../common/logger.ts";
import type { MetricsListener } from "../common/metrics/serve-metrics.ts";
import { builderSocketOf } from "../common/port-socket.ts";
import type { RunningService } from "../common/running-service.ts";
import { logStrangers } from "../common/strangers.ts";
import { TlsTerminator } from "../common/tls-terminator.ts";
import { version } from "../common/version.ts";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { usualLimits } from "./admission.ts";
import { backendTurns } from "./backend/backend-turns.ts";
import { createBackendClients } from "./backend/clients.ts";
import { BackendPresence } from "./backend/presence.ts";
import { createBackendTransport, readBackendReach } from "./backend/transport.ts";
import { InnerSockets } from "./inner-sockets/inner-sockets.ts";
import type { MeasuredFrontend } from "./metrics.ts";
import { otherDescriptors, SharedRoom, usualRoom } from "./shared-room.ts";
import { Publisher } from "./port-forwarding/publisher.ts";
import { ContainerTunnels } from "./port-forwarding/tunnels.ts";
import { routes } from "./route-table.ts";
import { DockerApiServer } from "./server.ts";
import { AgentTargets, type BackendReach } from "./streams/agent-targets.ts";
import { PendingStarts } from "./streams/pending-starts.ts";
import { HandOver } from "./streams/hand-over.ts";
import { OpenAttachments } from "./streams/open-attachments.ts";
import { StreamPool } from "./streams/stream-pool.ts";
import { ExecEnds } from "./streams/exec-ends.ts";

/** Mode and group of the Docker socket, the same as dockerd's. */
const socketAccess = { mode: 0o660, group: "docker", serves: "the Docker API" } as const;

/**
 * Starts the frontend. The backend need not run yet: requests that need it, and pings, answer 503 until it does.
 *
 * @throws SockerlessError if an address cannot be listened on or a certificate cannot be read; nothing listens then
 */
export async function startFrontend(
  config: Config,
  _signal?: AbortSignal,
  supervision?: Supervision,
): Promise<RunningService> {
  const logger = processLogger(config, "frontend");
  const reach = await readBackendReach(config.backendAddress, config.tls);
  const backend = createBackendTransport(reach);
  const own = { clock: systemClock, logger };
  const health = createClient(Health, backend.transport);
  const presence = new BackendPresence({ health, reach, ...own });
  const ways = {
    backend: createBackendClients(backend.transport),
    streams: new StreamPool(),
    agents: new AgentTargets(reach),
  };
  const publisher = config.publish
    ? new Publisher({
        backend: ways.backend,
        tunnels: new ContainerTunnels({ ...ways, logger }),
        room: new SharedRoom(usualRoom(1 / 2)),
        mostListeners: Math.floor(otherDescriptors() / 4),
        ...own,
      })
    : undefined;
  const execEnds = new ExecEnds(ways.backend.execs, supervision);
  const startBuilder = supervision?.startBuilder;
  const backendSocket = config.backend === "local" ? /^unix:\/\/(.*)$/s.exec(reach.address)?.[1] : undefined;
  const isUnix = (host: string): boolean => host.startsWith("unix://");
  const isHelped = config.handOver && process.platform === "linux" && config.hosts.some(isUnix);
  const handOver = isHelped ? new HandOver(builtPrograms.agent, backendSocket, logger) : undefined;
  const areAllHandedOn = isHelped && backendSocket !== undefined && config.hosts.every(isUnix);
  let metrics: MetricsListener | undefined;
  if (!areAllHandedOn) {
    ways.streams.startThreads();
  }
  const services = {
    ...ways,
    clock: systemClock,
    presence,
    get isDebugging() {
      return logger.isLevelEnabled("debug");
    },
    publisher,
    execEnds,
    pendingStarts: new PendingStarts(),
    openAttachments: new OpenAttachments(handOver, systemClock),
    startBuilder,
    handOver,
  };
  const limits = { ...usualLimits(), backendTurn: backendTurns(health) };
  const server = new DockerApiServer({ routes, services, version, logger, limits });
  const innerSockets = new InnerSockets({ transport: backend.transport, services, routes, version, ...own });
  let terminator: TlsTerminator | undefined;
  const close = async (): Promise<void> => {
    await metrics?.close();
    void terminator?.stopListening();
    // The backend counts callers whose connection ends as lost, not as having left.
    await server.close(() => backend.close());
    await terminator?.close();
    handOver?.close();
    await publisher?.close();
    await innerSockets.close();
    await services.streams.close();
    await presence.close();
    backend.close();
  };
  try {
    const addresses: string[] = [];
    if (!config.hosts.every(isUnix)) {
      terminator = await startTerminator(config, server, logger);
    }
    for (const host of config.hosts) {
      const listener = isUnix(host) ? undefined : terminator?.createListener();
      const address = await listen(listener ?? server.createListener(), host, socketAccess, supervision);
      logger.info({ address }, "the Docker API is served");
      addresses.push(address);
    }
    presence.watch();
    publisher?.watch((containerId, sockets) => innerSockets.settle(containerId, sockets));
    metrics = await openMetrics(config, { ...ways, presence, logger }, supervision);
    const reloads = [
      ...(terminator === undefined ? [] : [reloadOf(terminator, config)]),
      ...(metrics?.reload === undefined ? [] : [metrics.reload]),
      ...(reach.tls === undefined ? [] : [() => reloadReach(reach, config)]),
    ];
    const reload = async (): Promise<string> => (await Promise.all(reloads.map((each) => each()))).join("; ");
    return { addresses, close, ...(reloads.length === 0 ? {} : { reload }) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Serves metrics where an address is configured; their code is loaded only then. */
async function openMetrics(
  { metricsAddr, metricsContainers, runDir, tls }: Config,
  parts: Omit<MeasuredFrontend, "containers" | "builderSocket" | "supervisorPid">,
  supervision: Supervision | undefined,
): Promise<MetricsListener | undefined> {
  if (metricsAddr === undefined) {
    return undefined;
  }
  const [{ measureFrontend }, { serveMetrics }] = await Promise.all([
    import("./metrics.ts"),
    import("../common/metrics/serve-metrics.ts"),
  ]);
  const supervisorPid = supervision === undefined ? undefined : process.ppid;
  const listener = await serveMetrics(
    { address: metricsAddr, tls, held: supervision, logger: parts.logger },
    measureFrontend({
      ...parts,
      ...{ containers: metricsContainers, supervisorPid },
      builderSocket: supervision === undefined ? undefined : builderSocketOf(runDir),
    }),
  );
  parts.logger.info({ address: listener.address }, "metrics are served");
  return listener;
}

/** Starts what speaks TLS on the TCP addresses; its clients are served as those of unix sockets are. */
async function startTerminator(
  { tls }: Config,
  server: DockerApiServer,
  logger: Logger,
): Promise<TlsTerminator> {
  if (tls === undefined) {
    throw new Error("a TCP address without certificates passed the check of the configuration");
  }
  const clients = server.createListener();
  clients.emit("listening"); // Node looks after the time of headers from then on.
  return await TlsTerminator.start({
    tls: await readMutualTls(tls),
    protocols: ["http/1.1"],
    serve: (socket) => {
      socket.allowHalfOpen = true;
      clients.emit("connection", socket);
    },
    report: (news) => logStrangers(logger, news),
    logger,
  });
}

function reloadOf(terminator: TlsTerminator, { tls }: Config): () => Promise<string> {
  return () => reloadCertificates([terminator], tls);
}

/** Reads the certificates for the connections to the backend that are made from now on. */
async function reloadReach(reach: BackendReach, { tls }: Config): Promise<string> {
  Object.assign(reach, await readBackendReach(reach.address, tls));
  return "the certificates shown to the backend were read again";
}
