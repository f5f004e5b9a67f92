/** `sockerless ecs push-agent`: the image that brings the agent into tasks, made here and put into ECR. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { pack } from "tar-stream";

import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import { fromFileError, invalid, messageOf } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import { ContainerConfigSchema, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { sha256Of } from "../common/images/digest.ts";
import { renderImageConfig } from "../common/images/image-config.ts";
import { registryOptions } from "../common/serve-engine.ts";
import { createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/configured-rates.ts";
import { agentInImage } from "./definitions/agent-container.ts";
import { agentTag } from "./definitions/agent-image.ts";
import { EcrCredentials } from "./ecr/credentials.ts";
import { EcrRepository } from "./ecr/repository.ts";

/** Built by `npm start` into the checkout; this file runs as dist/src/backends/ecs/push-agent.js. */
const builtAgent = fileURLToPath(new URL("../../../../build/sockerless-agent", import.meta.url));

/** Part of the image's digest, so not the time of the build. */
const createdMs = Date.UTC(2025, 0, 1);

/** Where an ELF file says for which processor it is, and what it says there. */
const elfMachineOffset = 18;
const elfMachines: Readonly<Record<EcsConfig["ecs"]["architecture"], number>> = { amd64: 0x3e, arm64: 0xb7 };

/** An image in ECR. */
export interface PushedAgent {
  /** By which tasks can pull it, with its digest. */
  readonly reference: string;
  /** It was not there before. */
  readonly isNew: boolean;
}

/**
 * Makes an image of the agent alone and puts it into `ecs.ecr_repository`, under this version's tag.
 *
 * @param agentFile an agent for the tasks' architecture; undefined: the one that was built with this sockerless
 * @throws invalid: no repository is configured, or the agent is none for that architecture; system: AWS's refusal
 */
export async function pushAgent(config: EcsConfig, agentFile: string = builtAgent): Promise<PushedAgent> {
  const { ecrRepository, architecture } = config.ecs;
  if (ecrRepository === undefined) {
    throw invalid(
      "push-agent needs ecs.ecr_repository: the ECR repository that the agent's image is put into",
    );
  }
  const layer = await agentLayer(agentFile, architecture);
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-agent-"));
  try {
    const file = path.join(directory, "layer.tar");
    await writeFile(file, layer);
    const digest = sha256Of(layer);
    const repository = repositoryOf(config, ecrRepository, directory);
    const image = imageConfig(digest, architecture);
    const { signal } = new AbortController(); // A user's Ctrl-C ends the process.
    return await repository.putProgram(agentTag(architecture), { path: file, digest }, image, signal);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function repositoryOf(config: EcsConfig, uri: string, workDirectory: string): EcrRepository {
  const clock = systemClock;
  const { ecr } = createAwsClients({
    region: config.ecs.region,
    endpoint: config.ecs.endpoint,
    spot: false,
    rates: parseRates(config.ecs.apiRates),
    clock,
    logger: createLogger({ level: config.logLevel, process: "push-agent" }),
  });
  const credentials = new EcrCredentials({ ecr, clock });
  return new EcrRepository({
    uri,
    ecr,
    credentials,
    registry: registryOptions(config),
    workDirectory,
    instance: "", // Only names images of containers' own, of which there are none here.
  });
}

function imageConfig(diffId: string, architecture: string): Uint8Array {
  return renderImageConfig({
    created: timestampFromMs(createdMs),
    comment: "",
    platform: create(PlatformSchema, { os: "linux", architecture }),
    config: create(ContainerConfigSchema, {
      user: "0",
      entrypoint: { values: [agentInImage] },
      labels: { "sockerless.built-in": "agent" },
    }),
    diffIds: [diffId],
  });
}

async function agentLayer(file: string, architecture: EcsConfig["ecs"]["architecture"]): Promise<Uint8Array> {
  let agent: Buffer;
  try {
    agent = await readFile(file);
  } catch (error) {
    throw fromFileError(error, `the agent cannot be read: ${messageOf(error)}`);
  }
  if (!isProgramFor(agent, architecture)) {
    throw invalid(
      `${file} is no program for ${architecture}: build one (GOARCH=${architecture} CGO_ENABLED=0 go build ./cmd/sockerless-agent, in agent/) and name it with --agent`,
    );
  }
  const tar = pack();
  tar.entry(
    { name: agentInImage.replace(/^\//, ""), mode: 0o755, mtime: new Date(0), uid: 0, gid: 0 },
    agent,
  );
  tar.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) {
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}

function isProgramFor(file: Buffer, architecture: EcsConfig["ecs"]["architecture"]): boolean {
  return (
    file.length > elfMachineOffset + 2 &&
    file.toString("latin1", 1, 4) === "ELF" &&
    file.readUInt16LE(elfMachineOffset) === elfMachines[architecture]
  );
}
