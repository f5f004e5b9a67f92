import type { EcsSection } from "../../../common/config/load.ts";
import { version } from "../../../common/version.ts";

/** What the agent's image is made for. */
type AgentImageSettings = Pick<EcsSection, "agentImage" | "ecrRepository" | "architecture">;

/**
 * The image that brings the agent into tasks: the configured one, else the one of this version and architecture that
 * `sockerless ecs push-agent` puts into the repository.
 *
 * @returns undefined: neither is configured
 */
export function agentImageOf(config: AgentImageSettings): string | undefined {
  return (
    config.agentImage ??
    (config.ecrRepository === undefined
      ? undefined
      : `${config.ecrRepository}:${agentTag(config.architecture)}`)
  );
}

/** The tag of the agent's image in the repository. */
export function agentTag(architecture: EcsSection["architecture"]): string {
  return `sockerless-agent-${version.replaceAll("+", "_")}-${architecture}`;
}
