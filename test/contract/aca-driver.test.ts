import path from "node:path";

import { acaPlatformOf } from "../../src/backends/aca/main.ts";
import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { cloudDriver } from "../../src/backends/cloud/driver.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import { createImages } from "../../src/backends/images/images.ts";
import { openState } from "../../src/backends/state/state.ts";
import { systemClock } from "../../src/common/clock.ts";
import { type AcaConfig, loadConfig } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { contractRegistry, pulled } from "./contract-image.ts";
import { driverContract } from "./driver-contract.ts";
import { scratchDirectory } from "../support/scratch.ts";

driverContract("aca", async () => {
  const directory = scratchDirectory();
  const account = await AcaAccount.open();
  await account.azure.trustHere();
  Object.assign(process.env, account.env);
  const config = configOf(account, directory);
  const section = { ...config.aca, architecture: "amd64" } as const;
  const logger = createLogger({ level: "error", process: "test" });
  const clock = systemClock;
  const key = await readAuthority(config.aca.agentCa);
  const authority = await createAuthority(key, clock);
  const sealer = createSealer(key.secret);
  const state = await openState({ directory, clock });
  const platform = await acaPlatformOf(config, { authority, sealer, state, clock, logger });
  const driver = cloudDriver({
    ...{ platform, section, authority, sealer },
    imageDocuments: () => Promise.resolve(undefined),
    stored: {
      isLogKept: true,
      socket: path.join(directory, "stored.sock"),
      applyStaged: async () => {},
      settleStaged: async () => {},
      drain: async () => {},
      leaveToCloud: async () => {},
      remove: async () => {},
    },
    ...{ state, clock, logger },
  });
  const images = await createImages({
    stateDirectory: directory,
    ...{ state, clock, logger },
    preparer: driver.images,
    storageDriver: driver.name,
    registry: contractRegistry,
  });
  const image = await pulled(images, account.image("busybox:latest"));
  return {
    driver,
    image,
    areApart: true,
    close: async () => {
      await images.close();
      await driver.close();
      await state.close();
      await account[Symbol.asyncDispose]();
    },
  };
});

function configOf({ settings }: AcaAccount, directory: string): AcaConfig {
  const { config } = loadConfig({
    command: "backend",
    backend: "aca",
    flags: {
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`aca.${name}`, value])),
      state_dir: directory,
      run_dir: directory,
    },
    environment: {},
    uid: 0,
  });
  if (config.backend !== "aca") {
    throw new Error("the configuration is another backend's");
  }
  return config;
}
