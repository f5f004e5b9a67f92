/**
 * The process of a cloud's backend: its parts, in the order in which they start and end. Needs neither root nor Linux.
 */
import { rmdir } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";

import { type Clock, systemClock } from "../../common/clock.ts";
import type { AcaConfig, EcsConfig, KubernetesConfig } from "../../common/config/load.ts";
import { unavailable } from "../../common/errors.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import { type Logger, processLogger } from "../../common/logger.ts";
import { makeDirectories } from "../../common/make-directories.ts";
import { pricesFor } from "../../common/prices.ts";
import type { RunningService } from "../../common/running-service.ts";
import { makeStateDirectory } from "../../common/state-directory.ts";
import { PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  driverWithFaultPoints,
  imagesWithFaultPoints,
  stateWithFaultPoints,
  storedWithFaultPoints,
} from "../driver/fault-points.ts";
import { ensureHello } from "../images/ensure-hello.ts";
import { readDocuments } from "../images/image-documents.ts";
import { hostPlatform } from "../images/platform.ts";
import { openImages, serveEngine } from "../server/serve-engine.ts";
import { openState, type State } from "../state/state.ts";
import { TaskAgents } from "./agents/task-agents.ts";
import { type CloudAuthority, createAuthority } from "./authority/authority.ts";
import { readAuthority } from "./authority/authority-file.ts";
import { cloudDriver, type CloudSection } from "./driver.ts";
import type { CloudPlatform } from "./contract/platform.ts";
import { createSealer, type Sealer } from "./authority/seal.ts";
import { parseEntry } from "./pool/templates.ts";
import { checkSurroundings } from "./upkeep/start-checks.ts";
import { openCloudStored } from "./stored/open-stored.ts";

/** Parts of the process that a platform depends on. */
export interface CloudSurroundings {
  readonly authority: CloudAuthority;
  readonly sealer: Sealer;
  readonly state: State;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A backend. */
export interface CloudBackend {
  readonly config: AcaConfig | EcsConfig | KubernetesConfig;
  readonly section: CloudSection & {
    /** The authority over agents: a path, or the PEM text itself. */
    readonly agentCa: string;
    /** Maximum bytes of one container's log to keep here. */
    readonly logDrainMax: number;
  };
  /** @throws invalid: a setting has an invalid value */
  readonly platform: (surroundings: CloudSurroundings) => Promise<CloudPlatform>;
}

/**
 * Starts a cloud's backend; resolves once it serves.
 *
 * @param signal aborts the start, which the cloud may delay
 * @throws SockerlessError that names the wrong setting, or the process that already uses the state directory or the
 *   socket. Problems in the cloud are logged and not thrown.
 */
export async function startCloudBackend(
  { config, section, platform: platformIn }: CloudBackend,
  signal: AbortSignal,
  sockets?: HeldSockets,
): Promise<RunningService> {
  const logger = processLogger(config, "backend");
  const clock = systemClock;
  await using resources = new AsyncDisposableStack();
  await makeStateDirectory(config);
  const opened = await openState({ directory: config.stateDir, clock, logger });
  resources.defer(() => opened.close());
  // While this process owns the state, so that the directory to be removed is not another process's.
  await makeDirectories(config.runDir, 0o700);
  resources.defer(() => rmdir(config.runDir).catch(() => {})); // It stays if it is not empty.
  const state = stateWithFaultPoints(opened);

  const key = await readAuthority(section.agentCa);
  const authority = await createAuthority(key, clock);
  const sealer = createSealer(key.secret);
  const made = await platformIn({ authority, sealer, state: opened, clock, logger });
  resources.defer(() => made.close());
  const platform = { ...made, images: imagesWithFaultPoints(made.images) };
  const closing = new AbortController();
  const checks = checkSurroundings(platform.checks, logger, closing.signal);
  const endChecks = (): Promise<void> => {
    closing.abort(unavailable("the backend is shutting down"));
    return checks;
  };
  resources.defer(endChecks);

  const images = await openImages({
    config,
    state,
    preparer: platform.images,
    storageDriver: (await platform.machine.facts()).storageDriver,
    logger,
    credentialsFor: (domain) => platform.images.credentialsFor(domain),
    defaultPlatform: create(PlatformSchema, { os: "linux", architecture: section.architecture }),
  });
  resources.defer(() => images.close());
  const stored = await openCloudStored({
    config,
    logDrainMax: section.logDrainMax,
    backend: platform.name,
    log: platform.log,
    agents: new TaskAgents(platform.finder, authority, sealer),
    state: opened,
    layers: images.layers,
    clock,
  });
  resources.defer(() => stored.close());
  const driver = driverWithFaultPoints(
    cloudDriver({
      platform,
      section,
      authority,
      sealer,
      imageDocuments: (image, mostBytes) => readDocuments(images.content, image, mostBytes),
      stored: storedWithFaultPoints(stored),
      ...(config.pool.mode !== "off" && {
        pool: {
          entries: config.pool.mode === "fixed" ? config.pool.images.map(parseEntry) : undefined,
          limits: {
            idleHours: config.pool.maxIdleHoursPerDay ?? Infinity,
            cost: config.pool.maxCostPerDay ?? Infinity,
          },
          prices:
            config.pool.maxCostPerDay === undefined && config.pool.prices === undefined
              ? undefined
              : pricesFor(config, config.pool.prices),
          maxTasks: config.pool.maxTasks,
          maxAgeMs: config.pool.maxAge,
          findImage: (reference: string) => images.catalog.find(reference),
        },
      }),
      state: opened,
      clock,
      logger,
    }),
  );
  resources.defer(() => driver.close());
  if (platform.images.keepsOwn && hostPlatform().architecture === section.architecture) {
    await ensureHello(images, logger);
  }

  const service = await serveEngine({ config, driver, state, images, logger, signal, sockets });
  resources.defer(() => service.close());
  const owned = resources.move();
  return {
    ...service,
    async close() {
      await endChecks(); // Before the engine, which aborts unanswered calls.
      await owned.disposeAsync();
    },
  };
}
