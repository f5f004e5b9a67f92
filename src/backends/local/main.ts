/** The process of the local backend: what it is made of, in the order in which it starts and ends. */
import { chmod, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { LocalConfig } from "../../common/config/load.ts";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../common/clock.ts";
import { forbidden } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import type { RunningService } from "../../common/running-service.ts";
import { version } from "../../common/version.ts";
import { RegistryAuthSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { createEngine } from "../common/engine/engine.ts";
import { registerServices } from "../common/engine/services/register.ts";
import { registerImageService } from "../common/images/image-service.ts";
import { ImageStore } from "../common/images/image-store.ts";
import { withFaultPoints } from "../common/fault-points.ts";
import { serveBackend } from "../common/server.ts";
import { openState } from "../common/state/state.ts";
import { localDriver } from "./driver.ts";
import { HostProcess } from "./host-process.ts";
import { removeIdleBridges } from "./idle-bridges.ts";

/** Built by `npm start` into the checkout; this file runs as dist/src/backends/local/main.js. */
const buildDirectory = fileURLToPath(new URL("../../../../build", import.meta.url));

/** A registry that says nothing for so long is away. */
const REGISTRY_SILENCE_MS = 30_000;
/** Unpacking the built-in image of 2 MB. */
const HELLO_LIMIT_MS = 30_000;

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
    agentPath: `${buildDirectory}/sockerless-agent`,
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

  const images = await ImageStore.open({
    stateDirectory: config.stateDir,
    state,
    preparer: driver.images,
    clock: systemClock,
    logger,
    storageDriver: (await driver.machine.facts()).storageDriver,
    registry: {
      insecureHosts: config.insecureRegistries,
      userAgent: `sockerless/${version}`,
      silenceMs: REGISTRY_SILENCE_MS,
    },
  });
  resources.defer(() => images.close());
  await images.ensureHello(`${buildDirectory}/hello`, AbortSignal.timeout(HELLO_LIMIT_MS));

  const engine = await createEngine({ driver, state, images, clock: systemClock, logger });
  resources.defer(() => engine.close());

  const server = await serveBackend({
    address: config.listen,
    tls: config.tls,
    logger,
    register(router) {
      registerServices(router, engine, {
        stateDirectory: config.stateDir,
        authenticate: (auth, signal) =>
          images.authenticate(auth ?? create(RegistryAuthSchema), auth?.serverAddress ?? "", signal),
      });
      registerImageService(router, images);
    },
    resolveAgent: (containerId) => Promise.resolve(engine.agentTargetOf(containerId)),
  });
  resources.defer(() => server.close());

  endOnBrokenState(state.failed, logger);
  const owned = resources.move();
  return { addresses: [server.address], close: () => owned.disposeAsync() };
}

/** The first address of the frontend that is a unix socket: what a container's Docker socket leads to. */
function frontendSocket(hosts: readonly string[]): string | undefined {
  return hosts.find((host) => host.startsWith("unix://"))?.slice("unix://".length);
}

/** Memory is ahead of a disk that refuses writes: only a new process, reading what is durable, is right again. */
function endOnBrokenState(failed: Promise<Error>, logger: ReturnType<typeof createLogger>): void {
  void failed.then((error) => {
    logger.fatal({ err: error }, "the state cannot be written, ending");
    process.kill(process.pid, "SIGTERM");
  });
}
