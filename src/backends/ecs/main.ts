/** The process of the ECS backend: what it is made of, in the order in which it starts and ends. Neither root nor Linux. */
import { mkdir, rmdir } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import { unavailable } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import type { RunningService } from "../../common/running-service.ts";
import { PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { createAuthority } from "../common/cloud/authority.ts";
import { readAuthority } from "../common/cloud/authority-file.ts";
import { createSealer } from "../common/cloud/seal.ts";
import { withFaultPoints } from "../common/fault-points.ts";
import type { ImageStore } from "../common/images/image-store.ts";
import { registryOptions, serveEngine } from "../common/serve-engine.ts";
import { openState } from "../common/state/state.ts";
import { createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/configured-rates.ts";
import { ecsDriver } from "./driver.ts";
import { ecsImages } from "./images.ts";
import { instanceOf } from "./instance.ts";
import { checkSurroundings } from "./start-checks.ts";
import { openEcsStored } from "./stored.ts";

/**
 * Starts the backend; resolves once it serves.
 *
 * @param signal ends the start, which AWS may hold up
 * @throws SockerlessError with what of the configuration cannot be, or who uses the state directory or the socket
 *   already. What is wrong in AWS is logged and not thrown.
 */
export async function startBackend(config: EcsConfig, signal: AbortSignal): Promise<RunningService> {
  const logger = createLogger({ level: config.logLevel, process: "backend" });
  await using resources = new AsyncDisposableStack();
  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  const opened = await openState({ directory: config.stateDir, clock: systemClock });
  resources.defer(() => opened.close());
  // Within the time that the state is this process's, so that it is nobody else's directory that goes.
  await mkdir(config.runDir, { recursive: true, mode: 0o700 });
  resources.defer(() => rmdir(config.runDir).catch(() => {})); // Whatever else is in it keeps it.

  const key = await readAuthority(config.ecs.agentCa);
  const authority = await createAuthority(key, systemClock);
  const aws = createAwsClients({
    region: config.ecs.region,
    endpoint: config.ecs.endpoint,
    spot: config.ecs.capacityProvider.endsWith("_SPOT"),
    rates: parseRates(config.ecs.apiRates),
    clock: systemClock,
    logger,
  });
  const images = ecsImages({
    ecr: aws.ecr,
    ecrRepository: config.ecs.ecrRepository,
    instance: instanceOf(authority),
    registry: registryOptions(config),
    stateDir: config.stateDir,
    clock: systemClock,
    logger,
  });
  const sealer = createSealer(key.secret);
  let imageStore: ImageStore | undefined; // The engine's, which the driver is made before.
  const stored = await openEcsStored({
    config,
    logs: aws.logs,
    authority,
    sealer,
    state: opened,
    imageStore: () => imageStore,
  });
  resources.defer(() => stored.close());
  const { driver, state } = withFaultPoints({
    driver: ecsDriver({
      config: config.ecs,
      aws,
      authority,
      sealer,
      imageDocuments: async (image, mostBytes) => await imageStore?.documentsOf(image, mostBytes),
      images,
      stored,
      state: opened,
      clock: systemClock,
      logger,
    }),
    state: opened,
  });
  resources.defer(() => driver.close());
  const closing = new AbortController();
  const checks = checkSurroundings(config.ecs, aws, logger, closing.signal);
  const endChecks = (): Promise<void> => {
    closing.abort(unavailable("the backend is shutting down"));
    return checks;
  };
  resources.defer(endChecks);

  const service = await serveEngine({
    config,
    driver,
    state,
    logger,
    signal,
    prepareImages: (store) => {
      imageStore = store;
      return Promise.resolve();
    },
    credentialsFor: (domain) => images.credentialsFor(domain),
    defaultPlatform: create(PlatformSchema, { os: "linux", architecture: config.ecs.architecture }),
  });
  resources.defer(() => service.close());
  const owned = resources.move();
  return {
    ...service,
    async close() {
      await endChecks(); // Before the engine, which has calls ended that are not answered.
      await owned.disposeAsync();
    },
  };
}
