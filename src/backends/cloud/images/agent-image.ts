/** The image that brings the agent into tasks, built here and pushed to the configured repository. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { builtPrograms } from "../../../common/built-programs.ts";
import { fromFileError, fromUnknown, invalid, messageOf, SockerlessError } from "../../../common/errors.ts";
import { version } from "../../../common/version.ts";
import { ContainerConfigSchema, PlatformSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { sha256Of } from "../../images/digest.ts";
import { tarOfProgram } from "../../images/hello-image.ts";
import { renderImageConfig } from "../../images/image-config.ts";
import type { OwnRepository } from "./own-repository.ts";

/** The binary in the agent's image. */
export const agentInImage = "/sockerless-agent";

/** Part of the image's digest, therefore not the build time. */
const createdMs = Date.UTC(2025, 0, 1);

/** Architectures of tasks, as GOARCH. */
export type AgentArchitecture = "amd64" | "arm64";

/** Offset of `e_machine` in an ELF file in bytes, and its value for each architecture. */
const elfMachineOffset = 18;
const elfMachines: Readonly<Record<AgentArchitecture, number>> = { amd64: 0x3e, arm64: 0xb7 };

/** An image in the repository. */
export interface PushedAgent {
  /** Reference by digest, for tasks to pull it. */
  readonly reference: string;
  /** True if it was not there before. */
  readonly isNew: boolean;
}

/** The tag of the agent's image in the repository. */
export function agentTag(architecture: AgentArchitecture): string {
  return `sockerless-agent-${version.replaceAll("+", "_")}-${architecture}`;
}

/**
 * The ID of the image that {@link pushAgentImage} makes from an agent, independent of its layer's compression.
 *
 * @returns undefined if the agent is for another architecture
 */
export async function agentImageId(
  agentFile: string,
  architecture: AgentArchitecture,
): Promise<string | undefined> {
  const agent = await readAgent(agentFile);
  return isProgramFor(agent, architecture)
    ? sha256Of(imageConfig(sha256Of(await layerOf(agent)), architecture))
    : undefined;
}

/**
 * The problem of the agent's image in a repository, for users.
 *
 * @param manifest the tag's manifest; undefined if there is no such tag
 * @param section the configuration's section: `ecs`, `aca`
 * @returns undefined if there is none
 */
export async function agentImageFault(
  reference: string,
  manifest: string | undefined,
  architecture: AgentArchitecture,
  section: string,
): Promise<string | undefined> {
  const remedy = `run \`sockerless ${section} push-agent\``;
  if (manifest === undefined) {
    return `the agent's image ${reference} is not there: ${remedy}, until then no container will start`;
  }
  const own = await agentImageId(builtPrograms.agent, architecture);
  const pushed = configIn(manifest);
  return own === undefined || pushed === undefined || own === pushed
    ? undefined
    : `the agent's image ${reference} is of another build than this backend: ${remedy}`;
}

/** The digest of a manifest's configuration; undefined for an index of several images. */
function configIn(manifest: string): string | undefined {
  return (JSON.parse(manifest) as { config?: { digest?: string } }).config?.digest;
}

/** Words of registries, and clouds that quote them, for a missing image. */
const imageMissing = /MANIFEST_UNKNOWN|NAME_UNKNOWN|\bnot found\b|does not exist/i;

/** The error of a start; if it is about the agent's image, which users have not named, with instructions. */
export function withMissingAgent(error: unknown, reference: string, section: string): unknown {
  const { kind, message } = fromUnknown(error);
  return message.includes(reference) && imageMissing.test(message)
    ? new SockerlessError(
        kind,
        `the agent's image ${reference} is not there: run \`sockerless ${section} push-agent\`, or name another in ${section}.agent_image: ${message}`,
        error,
      )
    : error;
}

/**
 * Builds an image of only the agent and pushes it to a repository, under this version's tag.
 *
 * @param agentFile path of an agent for that architecture
 * @param repositoryIn opens the repository with a directory for temporary files
 * @throws invalid: the agent is for another architecture; the repository's errors
 */
export async function pushAgentImage(
  agentFile: string,
  architecture: AgentArchitecture,
  repositoryIn: (workDirectory: string) => Pick<OwnRepository, "putProgram">,
): Promise<PushedAgent> {
  const agent = await readAgent(agentFile);
  if (!isProgramFor(agent, architecture)) {
    throw invalid(
      `${agentFile} is no program for ${architecture}: build one (GOARCH=${architecture} CGO_ENABLED=0 go build ./cmd/sockerless-agent, in agent/) and name it with --agent`,
    );
  }
  const layer = await layerOf(agent);
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-agent-"));
  try {
    const file = path.join(directory, "layer.tar");
    await writeFile(file, layer);
    const digest = sha256Of(layer);
    const image = imageConfig(digest, architecture);
    const { signal } = new AbortController(); // A user's Ctrl-C ends the process.
    const repository = repositoryIn(directory);
    return await repository.putProgram(agentTag(architecture), { path: file, digest }, image, signal);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function imageConfig(diffId: string, architecture: AgentArchitecture): Uint8Array {
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

async function readAgent(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw fromFileError(error, `the agent cannot be read: ${messageOf(error)}`);
  }
}

function layerOf(agent: Buffer): Promise<Buffer> {
  return tarOfProgram(agentInImage.slice(1), agent);
}

function isProgramFor(file: Buffer, architecture: AgentArchitecture): boolean {
  return (
    file.length > elfMachineOffset + 2 &&
    file.toString("latin1", 1, 4) === "ELF" &&
    file.readUInt16LE(elfMachineOffset) === elfMachines[architecture]
  );
}
