/** Brings the agent into a task: by an init container that copies itself, or from a file system. */
import type { ContainerDefinition, MountPoint, Volume } from "@aws-sdk/client-ecs";

import { agentInImage } from "../../cloud/images/agent-image.ts";
import { efsVolume } from "../access-points/efs-volume.ts";
import type { AccessPointReference } from "../access-points/reference.ts";

/** The source of the agent's binary: an image, or a file system. */
export type AgentSource =
  | { readonly kind: "image"; readonly image: string }
  | ({ readonly kind: "efs" } & AccessPointReference);

/** The agent's own directory in every container: its binary, and the recorded output. */
const agentDirectory = "/.sockerless";
const agentVolume = "sockerless";
const binaryVolume = "sockerless-agent";

/** The agent's parts of a task definition. */
export interface AgentParts {
  readonly volumes: readonly Volume[];
  /** Mounts of the main container. */
  readonly mountPoints: readonly MountPoint[];
  /** Additional containers, which end before the main one starts. */
  readonly containers: readonly ContainerDefinition[];
  /** Path of the agent in the main container. */
  readonly binary: string;
}

/**
 * The parts of a task definition that bring the agent.
 *
 * @param iam as for {@link efsVolume}
 */
export function agentParts(source: AgentSource, iam: boolean): AgentParts {
  const own = {
    volumes: [{ name: agentVolume }],
    mountPoints: [{ sourceVolume: agentVolume, containerPath: agentDirectory }],
  };
  if (source.kind === "image") {
    return {
      ...own,
      containers: [
        {
          name: "agent",
          image: source.image,
          essential: false,
          user: "0",
          entryPoint: [agentInImage],
          command: ["cp", `${agentDirectory}/sockerless-agent`],
          mountPoints: own.mountPoints,
        },
      ],
      binary: `${agentDirectory}/sockerless-agent`,
    };
  }
  const directory = `${agentDirectory}/bin`;
  return {
    volumes: [
      ...own.volumes,
      {
        name: binaryVolume,
        efsVolumeConfiguration: efsVolume(source, iam),
      },
    ],
    mountPoints: [
      ...own.mountPoints,
      { sourceVolume: binaryVolume, containerPath: directory, readOnly: true },
    ],
    containers: [],
    binary: `${directory}/sockerless-agent`,
  };
}
