/** The drivers of clouds, each over a cloud that its test has opened. */
import assert from "node:assert/strict";
import { join } from "node:path";

import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import type { CloudPlatform } from "../../src/backends/cloud/contract/platform.ts";
import { type CloudSection, cloudDriver } from "../../src/backends/cloud/driver.ts";
import type { CloudSurroundings } from "../../src/backends/cloud/main.ts";
import { openState } from "../../src/backends/state/state.ts";
import { systemClock as clock } from "../../src/common/clock.ts";
import { type Config, loadConfig } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { makeContractImage } from "./contract-image.ts";
import type { DriverUnderTest } from "./driver-contract.ts";

/** The configuration of a backend whose state is in a directory, and its authority's key beside it. */
export function backendConfigOf<Name extends Config["backend"]>(
  backend: Name,
  directory: string,
  section: Readonly<Record<string, unknown>>,
): Extract<Config, { readonly backend: Name }> {
  const settings = { agent_ca: join(directory, "agent-ca.pem"), ...section };
  const { config } = loadConfig({
    command: "backend",
    backend,
    flags: {
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`${backend}.${name}`, value])),
      state_dir: directory,
      run_dir: directory,
    },
    environment: {},
    uid: 0,
  });
  assert.equal(config.backend, backend);
  return config as Extract<Config, { readonly backend: Name }>;
}

/** A driver that is to be made. */
export interface CloudDriverOptions {
  readonly directory: string;
  readonly section: CloudSection & { readonly agentCa: string };
  readonly isLogKept: boolean;
  readonly platform: (surroundings: CloudSurroundings) => Promise<CloudPlatform>;
  /** An image of a registry that the cloud pulls from; absent: one is made. */
  readonly image?: string;
}

/** Makes the driver. @param resources what is in them already ends after it */
export async function cloudDriverUnderTest(
  resources: AsyncDisposableStack,
  { directory, section, isLogKept, platform, image: reference }: CloudDriverOptions,
): Promise<DriverUnderTest> {
  const logger = createLogger({ level: "error", process: "test" });
  const key = await readAuthority(section.agentCa);
  const authority = await createAuthority(key, clock);
  const sealer = createSealer(key.secret);
  const state = await openState({ directory, clock });
  resources.defer(() => state.close());
  const surroundings = { authority, sealer, state, clock, logger };
  const driver = cloudDriver({
    ...surroundings,
    platform: await platform(surroundings),
    section,
    imageDocuments: () => Promise.resolve(undefined),
    stored: {
      isLogKept,
      socket: join(directory, "stored.sock"),
      applyStaged: async () => {},
      settleStaged: async () => {},
      drain: async () => {},
      leaveToCloud: async () => {},
      forgetLoss: async () => {},
      remove: async () => {},
    },
  });
  resources.defer(() => driver.close());
  const made = await makeContractImage({ driver, state, stateDirectory: directory, logger, reference });
  resources.defer(() => made.images.close());
  return { driver, image: made.image, close: () => resources.disposeAsync() };
}
