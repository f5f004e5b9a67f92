/** How the agent gets into a task: by an init container that copies itself, or from a file system. */
import type { ContainerDefinition, MountPoint, Volume } from "@aws-sdk/client-ecs";

/** Where the agent comes from. */
export type AgentSource =
  | { readonly kind: "image"; readonly image: string }
  | { readonly kind: "efs"; readonly fileSystemId: string; readonly accessPointId: string };

/** The agent's own directory in every container: its binary and the record of the output. */
const agentDirectory = "/.sockerless";
/** The binary in the agent's image; `sockerless ecs push-agent` puts it there. */
export const agentInImage = "/sockerless-agent";
const agentVolume = "sockerless";
const binaryVolume = "sockerless-agent";

/** What the agent adds to a task definition. */
export interface AgentParts {
  readonly volumes: readonly Volume[];
  /** In the main container. */
  readonly mountPoints: readonly MountPoint[];
  /** Other containers, which end before the main one starts. */
  readonly containers: readonly ContainerDefinition[];
  /** Path of the agent in the main container. */
  readonly binary: string;
}

/** The parts of a task definition that bring the agent. */
export function agentParts(source: AgentSource): AgentParts {
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
        efsVolumeConfiguration: {
          fileSystemId: source.fileSystemId,
          transitEncryption: "ENABLED",
          authorizationConfig: { accessPointId: source.accessPointId },
          rootDirectory: "/",
        },
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
