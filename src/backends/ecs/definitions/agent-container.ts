/** How the agent gets into a task: by an init container that copies itself, or from a file system. */
import type { ContainerDefinition, MountPoint, Volume } from "@aws-sdk/client-ecs";

/** Where the agent comes from. */
export type AgentSource =
  | { readonly kind: "image"; readonly image: string }
  | { readonly kind: "efs"; readonly fileSystemId: string; readonly accessPointId: string };

/** The agent's own directory in every container: its binary and the record of the output. */
const AGENT_DIRECTORY = "/.sockerless";
/** The binary in the agent's image; `sockerless ecs push-agent` puts it there. */
export const AGENT_IN_IMAGE = "/sockerless-agent";
const AGENT_VOLUME = "sockerless";
const BINARY_VOLUME = "sockerless-agent";

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
    volumes: [{ name: AGENT_VOLUME }],
    mountPoints: [{ sourceVolume: AGENT_VOLUME, containerPath: AGENT_DIRECTORY }],
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
          entryPoint: [AGENT_IN_IMAGE],
          command: ["cp", `${AGENT_DIRECTORY}/sockerless-agent`],
          mountPoints: own.mountPoints,
        },
      ],
      binary: `${AGENT_DIRECTORY}/sockerless-agent`,
    };
  }
  const directory = `${AGENT_DIRECTORY}/bin`;
  return {
    volumes: [
      ...own.volumes,
      {
        name: BINARY_VOLUME,
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
      { sourceVolume: BINARY_VOLUME, containerPath: directory, readOnly: true },
    ],
    containers: [],
    binary: `${directory}/sockerless-agent`,
  };
}
