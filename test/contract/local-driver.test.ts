import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { ImageStore } from "../../src/backends/common/images/image-store.ts";
import { openState } from "../../src/backends/common/state/state.ts";
import { localDriver } from "../../src/backends/local/driver.ts";
import { HostProcess } from "../../src/backends/local/host-process.ts";
import { systemClock } from "../../src/common/clock.ts";
import { createLogger } from "../../src/common/logger.ts";
import { checkout } from "../support/daemon.ts";
import { busyboxImage } from "../support/images.ts";
import { driverContract } from "./driver-contract.ts";

driverContract("local", async () => {
  const directory = await mkdtemp(path.join(tmpdir(), "skl-driver-"));
  const [stateDir, runDir] = [path.join(directory, "state"), path.join(directory, "run")];
  await mkdir(stateDir, { mode: 0o711 });
  await mkdir(runDir, { mode: 0o711 });
  const logger = createLogger({ level: "error", process: "test" });
  const { host, hello } = await HostProcess.start({
    agentPath: path.join(checkout, "build", "sockerless-agent"),
    stateDir,
    runDir,
    runtime: undefined,
    logger,
  });
  const driver = localDriver(host, hello, undefined);
  const state = await openState({ directory: stateDir, clock: systemClock });
  const images = await ImageStore.open({
    stateDirectory: stateDir,
    state,
    preparer: driver.images,
    clock: systemClock,
    logger,
    storageDriver: "overlay2",
    registry: { insecureHosts: [], userAgent: "sockerless-test", silenceMs: 10_000 },
  });
  const { layers } = await busyboxImage();
  await images.import({
    reference: "contract",
    comment: "",
    changes: [],
    platform: undefined,
    archive: chunks(layers),
    signal: AbortSignal.timeout(60_000),
  });
  const { record } = await images.resolve("contract");
  await images.makeRunnable(record, AbortSignal.timeout(60_000));
  return {
    driver,
    image: record,
    close: async () => {
      await images.close();
      await driver.close();
      await state.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});

async function* chunks(layers: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* layers.slice(0, 1);
}
