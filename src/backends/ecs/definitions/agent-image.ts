import type { EcsSection } from "../../../common/config/load.ts";
import { agentTag } from "../../cloud/images/agent-image.ts";

/** Settings that determine the agent's image. */
type AgentImageSettings = Pick<EcsSection, "agentImage" | "ecrRepository" | "architecture">;

/**
 * The image that brings the agent into tasks: the configured one, or the one of this version and architecture that
 * `sockerless ecs push-agent` pushes to the repository.
 *
 * @returns undefined if neither is configured
 */
export function agentImageOf(config: AgentImageSettings): string | undefined {
  return (
    config.agentImage ??
    (config.ecrRepository === undefined
      ? undefined
      : `${config.ecrRepository}:${agentTag(config.architecture)}`)
  );
}
