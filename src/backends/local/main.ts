/** The process of the local backend: its parts, in the order in which they start and end. */
import { chmod, stat } from "node:fs/promises";

import { systemClock } from "../../common/clock.ts";
import type { LocalConfig } from "../../common/config/load.ts";
import { forbidden } from "../../common/errors.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import { processLogger } from "../../common/logger.ts";
import { makeDirectories } from "../../common/make-directories.ts";
import type { RunningService } from "../../common/running-service.ts";
import { makeStateDirectory } from "../../common/state-directory.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import {
  driverWithFaultPoints,
  imagesWithFaultPoints,
  stateWithFaultPoints,
  testBuild,
} from "../driver/fault-points.ts";
import { ensureHello } from "../images/ensure-hello.ts";
import { openImages, serveEngine } from "../server/serve-engine.ts";
import type { Driver } from "../driver/driver.ts";
import { openState, type State } from "../state/state.ts";
import { localDriver } from "./driver.ts";
import { HostProcess } from "./host-process.ts";
import { releaseSteps, removeIdleBridges } from "./leave-machine.ts";
import { removeRunDirectory } from "./run-directory.ts";

/**
 * Starts the backend; resolves once it serves.
 *
 * @throws SockerlessError that names what is missing on this machine, or that the state directory or the socket is in
 *   use
 */
export async function startBackend(
  config: LocalConfig,
  _signal?: AbortSignal,
  sockets?: HeldSockets,
): Promise<RunningService> {
  if (process.getuid?.() !== 0) {
    throw forbidden("the local backend needs root: it makes namespaces, mounts and network interfaces");
  }
  const logger = processLogger(config, "backend");
  await using resources = new AsyncDisposableStack();

  await makeStateDirectory(config);
  await makeDirectories(config.runDir, 0o711);
  const opened = await openState({ directory: config.stateDir, clock: systemClock, logger });
  resources.defer(() => opened.close());
  await ensureMode(config.stateDir, 0o711); // Others may pass but not list it; volumes below have their own modes.

  resources.defer(() =>
    removeRunDirectory(config.runDir).catch((error: unknown) => {
      logger.warn({ err: error }, "the run directory is left behind");
    }),
  );
  const { host, hello } = await HostProcess.start({
    agentPath: testBuild?.agentPath ?? builtPrograms.agent,
    stateDir: config.stateDir,
    runDir: config.runDir,
    runtime: config.runtime,
    blockVolumeSize: config.blockVolumeSize,
    logger,
  });
  const state = stateWithFaultPoints(opened);
  const options = { frontendSocket: frontendSocket(config.hosts) };
  const made = driverWithFaultPoints(localDriver(host, hello, options));
  const driver = { ...made, images: imagesWithFaultPoints(made.images) };
  resources.defer(() => driver.close());
  resources.defer(() => removeIdleBridges(state, driver));
  resources.defer(() => releaseSteps(state, driver));
  await suspectLosses(state, driver);
  const images = await openImages({
    config,
    state,
    preparer: driver.images,
    storageDriver: (await driver.machine.facts()).storageDriver,
    logger,
  });
  resources.defer(() => images.close());
  await ensureHello(images, logger);

  const service = await serveEngine({ config, driver, state, images, logger, sockets });
  resources.defer(() => service.close());

  const owned = resources.move();
  return { ...service, close: () => owned.disposeAsync() };
}

/** Containers' files without a record indicate that others are lost, if nothing in the database does. */
async function suspectLosses(state: State, driver: Driver): Promise<void> {
  const found = await driver.workloads.list();
  const unknown = found.filter(
    ({ containerId, unfinished }) => unfinished !== true && !state.containers.has(containerId),
  );
  if (unknown.length > 0) {
    state.suspect("there are containers' files without a record");
  }
}

/** Changes a directory's mode only if it differs: a read-only disk could not change it. */
async function ensureMode(directory: string, mode: number): Promise<void> {
  if (((await stat(directory)).mode & 0o7777) !== mode) {
    await chmod(directory, mode);
  }
}

/** The frontend's first unix socket, to which containers' Docker sockets lead. */
function frontendSocket(hosts: readonly string[]): string | undefined {
  return hosts.find((host) => host.startsWith("unix://"))?.slice("unix://".length);
}
