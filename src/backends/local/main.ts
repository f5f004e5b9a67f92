/** The process of the local backend: what it is made of, in the order in which it starts and ends. */
import { chmod, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { systemClock } from "../../common/clock.ts";
import type { LocalConfig } from "../../common/config/load.ts";
import { forbidden } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import type { RunningService } from "../../common/running-service.ts";
import { testBuild, withFaultPoints } from "../common/fault-points.ts";
import { serveEngine } from "../common/serve-engine.ts";
import { openState } from "../common/state/state.ts";
import { localDriver } from "./driver.ts";
import { HostProcess } from "./host-process.ts";
import { removeIdleBridges } from "./idle-bridges.ts";

/** Built by `npm start` into the checkout; this file runs as dist/src/backends/local/main.js. */
const buildDirectory = fileURLToPath(new URL("../../../../build", import.meta.url));

/** Unpacking the built-in image of 2 MB. */
const helloLimitMs = 30_000;

/**
 * Starts the backend; resolves once it serves.
 *
 * @throws SockerlessError with what is missing on this machine, or who uses the state directory or the socket already
 */
export async function startBackend(config: LocalConfig): Promise<RunningService> {
  if (process.getuid?.() !== 0) {
    throw forbidden("the local backend needs root: it makes namespaces, mounts and network interfaces");
  }
  const logger = createLogger({ level: config.logLevel, process: "backend" });
  await using resources = new AsyncDisposableStack();

  await mkdir(config.stateDir, { recursive: true, mode: 0o711 });
  await mkdir(config.runDir, { recursive: true, mode: 0o711 });
  const opened = await openState({ directory: config.stateDir, clock: systemClock });
  resources.defer(() => opened.close());
  await chmod(config.stateDir, 0o711); // not to be listed by others; volumes below it have modes of their own

  const { host, hello } = await HostProcess.start({
    agentPath: testBuild?.agentPath ?? `${buildDirectory}/sockerless-agent`,
    stateDir: config.stateDir,
    runDir: config.runDir,
    runtime: config.runtime,
    logger,
  });
  const { driver, state } = withFaultPoints({
    driver: localDriver(host, hello, frontendSocket(config.hosts)),
    state: opened,
  });
  resources.defer(() => driver.close());
  resources.defer(() => removeIdleBridges(state, driver));

  const service = await serveEngine({
    config,
    driver,
    state,
    logger,
    prepareImages: (images) =>
      images.ensureHello(`${buildDirectory}/hello`, AbortSignal.timeout(helloLimitMs)),
  });
  resources.defer(() => service.close());

  const owned = resources.move();
  return { ...service, close: () => owned.disposeAsync() };
}

/** The first address of the frontend that is a unix socket: what a container's Docker socket leads to. */
function frontendSocket(hosts: readonly string[]): string | undefined {
  return hosts.find((host) => host.startsWith("unix://"))?.slice("unix://".length);
}
