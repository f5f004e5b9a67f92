/** Images that a container mounts in addition to its own, as parts of its task definition. */
import type { ContainerDefinition, MountPoint, Volume } from "@aws-sdk/client-ecs";

import { invalid } from "../../../common/errors.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { copiedImages, copiedTo, type ImageCopy } from "../../cloud/ready-made/copied-images.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { repositoryCredentials, type TaskImage } from "../ecr/task-image.ts";
import type { AgentParts } from "./agent-container.ts";

/** The parts of a task definition that mount images. */
export interface ImageMountParts {
  readonly volumes: readonly Volume[];
  /** Mounts of the main container. */
  readonly mountPoints: readonly MountPoint[];
  readonly containers: readonly ContainerDefinition[];
}

/** AWS allows ten containers per task, including the main one and the agent's. */
const mostMountedImages = 8;

/** The parts of a task definition that mount images. @throws invalid: too many; the errors of `taskImage` */
export function imageMountParts(
  mounted: readonly ResolvedMount[],
  taskImage: (image: ImageRecord) => TaskImage,
  agent: AgentParts,
): ImageMountParts {
  const { copies, mounts } = copiedImages(mounted);
  refuseTooMany(copies);
  return {
    volumes: copies.map(({ name }) => ({ name })),
    mountPoints: mounts.map(({ copy, destination, readOnly }) => ({
      sourceVolume: copy,
      containerPath: destination,
      readOnly,
    })),
    containers: copies.map((copy) => copyingContainer(copy, taskImage(copy.image), agent)),
  };
}

/** Refuses more images, or subpaths of images, than a task can mount. @throws invalid */
export function refuseTooManyImages(mounts: readonly ResolvedMount[]): void {
  refuseTooMany(copiedImages(mounts).copies);
}

function refuseTooMany({ length }: readonly ImageCopy[]): void {
  if (length > mostMountedImages) {
    throw invalid(
      `a task on Fargate has at most ten containers: a container can mount ${mostMountedImages} images, not ${length}`,
    );
  }
}

function copyingContainer(
  { name, args }: ImageCopy,
  image: TaskImage,
  agent: AgentParts,
): ContainerDefinition {
  return {
    name,
    image: image.reference,
    essential: false,
    user: "0",
    entryPoint: [agent.binary],
    command: [...args],
    mountPoints: [...agent.mountPoints, { sourceVolume: name, containerPath: copiedTo }],
    dependsOn: dependsOn(agent.containers),
    ...repositoryCredentials(image),
  };
}

/** Makes a container depend on the success of others. */
export function dependsOn(
  containers: readonly ContainerDefinition[],
): NonNullable<ContainerDefinition["dependsOn"]> {
  return containers.map(({ name }) => ({ containerName: name, condition: "SUCCESS" }));
}
