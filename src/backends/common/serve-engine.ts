/** The part of a backend's process that is the same for every driver: images, engine and listener over driver and state. */
import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../common/clock.ts";
import type { CommonConfig } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import type { RunningService } from "../../common/running-service.ts";
import { version } from "../../common/version.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { RegistryAuthSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { Driver } from "./driver.ts";
import { createEngine } from "./engine/engine.ts";
import { registerServices } from "./engine/services/register.ts";
import { registerImageService } from "./images/image-service.ts";
import type { Credentials } from "./images/registry/credentials.ts";
import type { RegistryOptions } from "./images/registry/registry.ts";
import { ImageStore } from "./images/image-store.ts";
import { serveBackend } from "./server.ts";
import type { State } from "./state/state.ts";

/** What is served. The caller closes it after the service. */
export interface ServedParts {
  readonly config: Pick<CommonConfig, "stateDir" | "listen" | "tls" | "insecureRegistries">;
  readonly driver: Driver;
  readonly state: State;
  readonly logger: Logger;
  /** Ends the start, which may have to wait for others. */
  readonly signal?: AbortSignal;
  /** Credentials that the driver itself has for a registry's host. */
  readonly credentialsFor?: (domain: string) => Promise<Credentials | undefined>;
  /** What images are of where nobody says; absent: this machine's. */
  readonly defaultPlatform?: Platform;
  /** Before the engine starts: images that come with sockerless. */
  readonly prepareImages?: (images: ImageStore) => Promise<void>;
}

/** A registry that says nothing for so long is away. */
const registrySilenceMs = 30_000;

/**
 * Serves a driver; resolves once it answers.
 *
 * @throws SockerlessError of kind conflict: somebody uses the socket already
 */
export async function serveEngine(parts: ServedParts): Promise<RunningService> {
  const { config, driver, state, logger } = parts;
  await using resources = new AsyncDisposableStack();
  const images = await ImageStore.open({
    stateDirectory: config.stateDir,
    state,
    preparer: driver.images,
    clock: systemClock,
    logger,
    storageDriver: (await driver.machine.facts()).storageDriver,
    registry: registryOptions(config),
    ...(parts.credentialsFor === undefined ? {} : { credentialsFor: parts.credentialsFor }),
    ...(parts.defaultPlatform === undefined ? {} : { defaultPlatform: parts.defaultPlatform }),
  });
  resources.defer(() => images.close());
  await parts.prepareImages?.(images);

  const engine = await createEngine({
    driver,
    state,
    images,
    clock: systemClock,
    logger,
    ...(parts.signal === undefined ? {} : { signal: parts.signal }),
  });
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

/** How registries are spoken to. */
export function registryOptions(config: Pick<CommonConfig, "insecureRegistries">): RegistryOptions {
  return {
    insecureHosts: config.insecureRegistries,
    userAgent: `sockerless/${version}`,
    silenceMs: registrySilenceMs,
  };
}

/** Memory is ahead of a disk that refuses writes: only a new process, reading what is durable, is right again. */
function endOnBrokenState(failed: Promise<Error>, logger: Logger): void {
  void failed.then((error) => {
    logger.fatal({ err: error }, "the state cannot be written, ending");
    process.kill(process.pid, "SIGTERM");
  });
}
