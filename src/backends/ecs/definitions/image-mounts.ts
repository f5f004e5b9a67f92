/**
 * Images that a container mounts beside its own (`--mount type=image`): for each one a container of that image, which puts
 * its files into a volume of the task and ends before the main container starts.
 */
import { createHash } from "node:crypto";

import type { ContainerDefinition, MountPoint, Volume } from "@aws-sdk/client-ecs";

import { invalid } from "../../../common/errors.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../common/driver.ts";
import { repositoryCredentials, type TaskImage } from "../ecr/task-image.ts";
import type { AgentParts } from "./agent-container.ts";

/** The parts of a task definition that mount images. */
export interface ImageMountParts {
  readonly volumes: readonly Volume[];
  /** Mounts of the main container. */
  readonly mountPoints: readonly MountPoint[];
  readonly containers: readonly ContainerDefinition[];
}

/** AWS allows ten containers a task: the main one and the agent's are two. */
const mostMountedImages = 8;
/** Path of the task's volume in the container that copies the image's files to it. */
const copiedTo = "/.sockerless-image";
const nameDigits = 12;

/** Makes the parts of a task definition that mount images. @throws invalid: too many; what `taskImage` throws */
export function imageMountParts(
  mounts: readonly ResolvedMount[],
  taskImage: (image: ImageRecord) => TaskImage,
  agent: AgentParts,
): ImageMountParts {
  refuseTooManyImages(mounts);
  const volumes = new Map<string, Volume>();
  const containers = new Map<string, ContainerDefinition>();
  const mountPoints: MountPoint[] = [];
  for (const mount of mounts) {
    const { image, subpath = "", destination, readOnly } = mount;
    if (image === undefined) {
      continue;
    }
    const name = partName(image, mount);
    volumes.set(name, { name });
    containers.set(name, copyingContainer(name, subpath, taskImage(image), agent));
    mountPoints.push({ sourceVolume: name, containerPath: destination, readOnly });
  }
  return { volumes: [...volumes.values()], mountPoints, containers: [...containers.values()] };
}

/** Refuses more images, or parts of images, than a task can have. @throws invalid */
export function refuseTooManyImages(mounts: readonly ResolvedMount[]): void {
  const names = mounts.flatMap((mount) => (mount.image === undefined ? [] : [partName(mount.image, mount)]));
  const { size } = new Set(names);
  if (size > mostMountedImages) {
    throw invalid(
      `a task on Fargate has at most ten containers: a container can mount ${mostMountedImages} images, not ${size}`,
    );
  }
}

/** The name of a part: the same for mounts that show the same, which those that are written to do not. */
function partName({ id }: ImageRecord, { subpath = "", destination, readOnly }: ResolvedMount): string {
  const shown = [id, subpath, ...(readOnly ? [] : [destination])].join("\n");
  return `image-${createHash("sha256").update(shown).digest("hex").slice(0, nameDigits)}`;
}

function copyingContainer(
  name: string,
  subpath: string,
  image: TaskImage,
  agent: AgentParts,
): ContainerDefinition {
  return {
    name,
    image: image.reference,
    essential: false,
    user: "0",
    entryPoint: [agent.binary],
    command: ["copy-image", copiedTo, ...(subpath === "" ? [] : [subpath])],
    mountPoints: [...agent.mountPoints, { sourceVolume: name, containerPath: copiedTo }],
    dependsOn: dependsOn(agent.containers),
    ...repositoryCredentials(image),
  };
}

/** The dependency of a container on the success of others. */
export function dependsOn(
  containers: readonly ContainerDefinition[],
): NonNullable<ContainerDefinition["dependsOn"]> {
  return containers.map(({ name }) => ({ containerName: name, condition: "SUCCESS" }));
}
