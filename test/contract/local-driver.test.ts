import { mkdir } from "node:fs/promises";
import path from "node:path";

import { openState } from "../../src/backends/state/state.ts";
import { localDriver } from "../../src/backends/local/driver.ts";
import { HostProcess } from "../../src/backends/local/host-process.ts";
import { systemClock } from "../../src/common/clock.ts";
import { createLogger } from "../../src/common/logger.ts";
import { checkout } from "../support/daemon.ts";
import { recordInstance } from "../support/made.ts";
import { makeContractImage } from "./contract-image.ts";
import { driverContract } from "./driver-contract.ts";
import { scratchDirectory } from "../support/scratch.ts";

driverContract("local", async () => {
  const directory = scratchDirectory();
  const [stateDir, runDir] = [path.join(directory, "state"), path.join(directory, "run")];
  await mkdir(stateDir, { mode: 0o711 });
  recordInstance(stateDir);
  await mkdir(runDir, { mode: 0o711 });
  const logger = createLogger({ level: "error", process: "test" });
  const { host, hello } = await HostProcess.start({
    agentPath: path.join(checkout, "build", "sockerless-agent"),
    stateDir,
    runDir,
    runtime: undefined,
    blockVolumeSize: 64 * 1024 ** 2,
    logger,
  });
  const driver = localDriver(host, hello, { frontendSocket: undefined });
  const state = await openState({ directory: stateDir, clock: systemClock });
  const { images, image } = await makeContractImage({ driver, state, stateDirectory: stateDir, logger });
  return {
    driver,
    image,
    close: async () => {
      await images.close();
      await driver.close();
      await state.close();
    },
  };
});
