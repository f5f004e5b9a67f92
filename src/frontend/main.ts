/** The frontend as a process: the Docker API on the configured addresses, for the backend at the configured address. */
import type { Config } from "../common/config/load.ts";
import { listen, mutualTlsOptions } from "../common/listen.ts";
import { createLogger } from "../common/logger.ts";
import type { RunningService } from "../common/running-service.ts";
import { version } from "../common/version.ts";
import { createBackendClients } from "./backend-clients.ts";
import { createBackendTransport, readBackendReach } from "./backend-transport.ts";
import { Publisher } from "./publish/publisher.ts";
import { ContainerTunnels } from "./publish/tunnels.ts";
import { routes } from "./route-table.ts";
import { DockerApiServer } from "./server.ts";
import { AgentTargets } from "./streams/agent-targets.ts";
import { StreamPool } from "./streams/stream-pool.ts";
import { ToldEnds } from "./streams/told-ends.ts";

/** Who may use the Docker socket: as dockerd has it. */
const socketAccess = { mode: 0o660, group: "docker", serves: "the Docker API" } as const;

/**
 * Starts the frontend. The backend need not be there yet: requests that need it answer 503 until it is.
 *
 * @throws SockerlessError where an address cannot be listened on or a certificate cannot be read; nothing is left
 *   listening then
 */
export async function startFrontend(config: Config): Promise<RunningService> {
  const logger = createLogger({ level: config.logLevel, process: "frontend" });
  const reach = await readBackendReach(config.backendAddress, config.tls);
  const backend = createBackendTransport(reach);
  const ways = {
    backend: createBackendClients(backend.transport),
    streams: new StreamPool(),
    agents: new AgentTargets(reach),
  };
  const publisher = config.publish
    ? new Publisher({ backend: ways.backend, tunnels: new ContainerTunnels({ ...ways, logger }), logger })
    : undefined;
  const services = { ...ways, publisher, toldEnds: new ToldEnds() };
  const server = new DockerApiServer({ routes, services, logger, version });
  const close = async (): Promise<void> => {
    await server.close();
    await publisher?.close();
    await services.streams.close();
    backend.close();
  };
  try {
    const addresses: string[] = [];
    for (const host of config.hosts) {
      const tls = host.startsWith("tcp://") ? await tlsOf(config) : undefined;
      const address = await listen(server.createListener(tls), host, socketAccess);
      logger.info({ address }, "the Docker API is served");
      addresses.push(address);
    }
    publisher?.watch();
    return { addresses, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function tlsOf({ tls }: Config): ReturnType<typeof mutualTlsOptions> {
  if (tls === undefined) {
    throw new Error("a TCP address without certificates passed the check of the configuration");
  }
  return mutualTlsOptions(tls);
}
