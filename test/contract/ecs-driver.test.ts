import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

import { createAuthority } from "../../src/backends/common/cloud/authority.ts";
import { readAuthority } from "../../src/backends/common/cloud/authority-file.ts";
import { createSealer } from "../../src/backends/common/cloud/seal.ts";
import { ImageStore } from "../../src/backends/common/images/image-store.ts";
import { openState } from "../../src/backends/common/state/state.ts";
import { createAwsClients } from "../../src/backends/ecs/aws/clients.ts";
import { agentTag } from "../../src/backends/ecs/definitions/agent-image.ts";
import { ecsDriver } from "../../src/backends/ecs/driver.ts";
import { EcrCredentials } from "../../src/backends/ecs/ecr/credentials.ts";
import { EcrRepository } from "../../src/backends/ecs/ecr/repository.ts";
import { ecsImages } from "../../src/backends/ecs/images.ts";
import { instanceOf } from "../../src/backends/ecs/instance.ts";
import { systemClock } from "../../src/common/clock.ts";
import { type EcsSection, loadConfig } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { checkout } from "../support/daemon.ts";
import { blobOf, busyboxImage } from "../support/images.ts";
import { driverContract } from "./driver-contract.ts";

const registry = { insecureHosts: [], userAgent: "sockerless-test", silenceMs: 10_000 };

driverContract("ecs", async () => {
  const directory = await mkdtemp(path.join(tmpdir(), "skl-ecs-driver-"));
  const aws = await startAws();
  Object.assign(process.env, {
    AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
  });
  const config = configOf(aws, directory);
  const logger = createLogger({ level: "error", process: "test" });
  const clock = systemClock;
  const clients = createAwsClients({
    ...config,
    endpoint: aws.endpoint,
    spot: false,
    rates: {},
    clock,
    logger,
  });
  const key = await readAuthority(config.agentCa);
  const authority = await createAuthority(key, clock);
  const { ecr } = clients;
  const { ecrRepository } = config;
  const repository = new EcrRepository({
    uri: ecrRepository ?? "",
    ecr,
    credentials: new EcrCredentials({ ecr, clock }),
    registry,
    workDirectory: path.join(directory, "agent"),
    instance: instanceOf(authority),
  });
  await putAgent(repository, directory, config);
  const state = await openState({ directory, clock });
  const driver = ecsDriver({
    config,
    aws: clients,
    authority,
    sealer: createSealer(key.secret),
    images: ecsImages({
      ecr,
      ecrRepository,
      instance: instanceOf(authority),
      registry,
      stateDir: directory,
      clock,
      logger,
    }),
    stored: {
      socket: path.join(directory, "stored.sock"),
      applyStaged: async () => {},
      drain: async () => {},
      remove: async () => {},
    },
    state,
    clock,
    logger,
  });
  const images = await ImageStore.open({
    stateDirectory: directory,
    state,
    preparer: driver.images,
    clock,
    logger,
    storageDriver: "fargate",
    registry,
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
    image: (await images.resolve("contract")).record,
    close: async () => {
      await images.close();
      await driver.close();
      await state.close();
      await aws.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
});

function configOf(aws: Aws, directory: string): EcsSection {
  const given = { ...aws.config, agent_ca: path.join(directory, "agent-ca.pem") };
  const flags = Object.fromEntries(Object.entries(given).map(([name, value]) => [`ecs.${name}`, value]));
  const { config } = loadConfig({ command: "backend", backend: "ecs", flags, environment: {}, uid: 0 });
  if (config.backend !== "ecs") {
    throw new Error("the configuration is another backend's");
  }
  return config.ecs;
}

async function putAgent(repository: EcrRepository, directory: string, config: EcsSection): Promise<void> {
  const layer = path.join(directory, "agent.tar");
  await promisify(execFile)("tar", ["-C", path.join(checkout, "build"), "-cf", layer, "sockerless-agent"]);
  const { digest } = blobOf(await readFile(layer));
  const image = {
    architecture: config.architecture,
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: [digest] },
  };
  await repository.putProgram(
    agentTag(config.architecture),
    { path: layer, digest },
    Buffer.from(JSON.stringify(image)),
    AbortSignal.timeout(60_000),
  );
}

async function* chunks(layers: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* layers.slice(0, 1);
}
