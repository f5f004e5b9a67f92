/** The part of a backend's process common to all drivers: images, engine and listener on top of driver and state. */
import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../common/clock.ts";
import type { CommonConfig } from "../../common/config/load.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import type { Logger } from "../../common/logger.ts";
import type { RunningService } from "../../common/running-service.ts";
import { version } from "../../common/version.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { RegistryAuthSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { Driver } from "../driver/driver.ts";
import type { ImagePreparer } from "../driver/images.ts";
import { createEngine } from "../engine/engine.ts";
import { guardInnerSockets } from "../engine/inner/guard.ts";
import { partsOf } from "../engine/services/readiness.ts";
import { registerServices } from "../engine/services/register.ts";
import { registerImageService } from "../images/image-service.ts";
import type { Credentials } from "../images/registry/credentials.ts";
import { registryDialer } from "../images/registry/http-client.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";
import { createImages, type Images } from "../images/images.ts";
import { login } from "../images/registry-login.ts";
import { serveBackend } from "./server.ts";
import type { State } from "../state/state.ts";

/** Dependencies of the images. */
export interface ImageParts {
  readonly config: Pick<CommonConfig, "stateDir" | "insecureRegistries" | "image">;
  readonly state: State;
  readonly preparer: ImagePreparer;
  /** Its name in `docker info`. */
  readonly storageDriver: string;
  readonly logger: Logger;
  /** The driver's own credentials for a registry's host. */
  readonly credentialsFor?: (domain: string) => Promise<Credentials | undefined>;
  /** Default platform of images; absent for this machine's. */
  readonly defaultPlatform?: Platform;
}

/** The parts to serve. The caller closes them after the service. */
export interface ServedParts {
  readonly config: Pick<
    CommonConfig,
    "stateDir" | "runDir" | "listen" | "tls" | "insecureRegistries" | "image" | "metricsAddr"
  >;
  readonly driver: Driver;
  readonly state: State;
  /** Closed with the service; closing again is harmless. */
  readonly images: Images;
  readonly logger: Logger;
  /** Cancels the start, which may have to wait. */
  readonly signal?: AbortSignal;
  /** Sockets held by the supervisor. */
  readonly sockets: HeldSockets | undefined;
}

/** Time after which a silent registry counts as unreachable. */
const registrySilenceMs = 30_000;

/** Opens the images of a state. */
export function openImages({ config, ...parts }: ImageParts): Promise<Images> {
  registryDialer.logTo(parts.logger);
  return createImages({
    ...parts,
    stateDirectory: config.stateDir,
    clock: systemClock,
    registry: registryOptions(config),
  });
}

/**
 * Serves a driver; resolves once it answers.
 *
 * @throws SockerlessError of kind conflict if the socket is already in use
 */
export async function serveEngine(parts: ServedParts): Promise<RunningService> {
  const { config, driver, state, images, logger } = parts;
  await using resources = new AsyncDisposableStack();
  resources.defer(() => images.close());

  const engine = await createEngine({
    driver,
    state,
    images: images.containers,
    clock: systemClock,
    logger,
    ...(parts.signal === undefined ? {} : { signal: parts.signal }),
  });
  resources.defer(() => engine.close());

  const { metricsAddr } = config;
  const metrics =
    metricsAddr === undefined
      ? undefined
      : (await import("./metrics.ts")).measureBackend(engine.context, config.stateDir);
  if (metrics !== undefined && metricsAddr !== undefined && parts.sockets === undefined) {
    // In `serve` the frontend serves the metrics of all processes.
    const { serveMetrics } = await import("../../common/metrics/serve-metrics.ts");
    const listener = await serveMetrics(
      { address: metricsAddr, tls: config.tls, logger },
      { metrics, parts: () => partsOf(engine.context) },
    );
    resources.defer(() => listener.close());
    logger.info({ address: listener.address }, "metrics are served");
  }

  const served = await serveBackend({
    address: config.listen,
    tls: config.tls,
    runDir: config.runDir,
    sockets: parts.sockets,
    logger,
    register(router) {
      registerServices(router, engine, {
        stateDirectory: config.stateDir,
        insecureRegistries: config.insecureRegistries,
        metrics,
        authenticate: (auth, signal) =>
          login(
            auth ?? create(RegistryAuthSchema),
            auth?.serverAddress ?? "",
            registryOptions(config),
            signal,
          ),
      });
      registerImageService(router, images);
    },
    guard: guardInnerSockets(engine.context),
    resolveAgent: (containerId) => Promise.resolve(engine.agentTargetOf(containerId)),
  });
  resources.defer(() => served.close());

  const owned = resources.move();
  return {
    addresses: [served.address],
    ...(served.reload === undefined ? {} : { reload: served.reload }),
    close: () => owned.disposeAsync(),
  };
}

/** Options for registries. */
export function registryOptions(config: Pick<CommonConfig, "insecureRegistries" | "image">): RegistryOptions {
  return {
    insecureHosts: config.insecureRegistries,
    compression: config.image.compression,
    userAgent: `sockerless/${version}`,
    silenceMs: registrySilenceMs,
  };
}
