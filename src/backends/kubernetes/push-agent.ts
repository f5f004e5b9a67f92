/** `sockerless kubernetes push-agent`: the agent's image in the registry that the nodes pull from. */
import { builtPrograms } from "../../common/built-programs.ts";
import type { KubernetesConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { type PushedAgent, pushAgentImage } from "../cloud/images/agent-image.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { kubernetesRepository, registrySetting } from "./images.ts";

/**
 * Makes an image of the agent alone and puts it into `kubernetes.registry`, under this version's tag.
 *
 * @param agentFile an agent for the nodes' architecture; undefined: the one that was built with this sockerless
 * @throws invalid: no registry is configured, or the agent is none for that architecture; system: the registry's refusal
 */
export async function pushAgent(
  config: KubernetesConfig,
  agentFile: string = builtPrograms.agent,
): Promise<PushedAgent> {
  const { kubernetes } = config;
  return await pushAgentImage(agentFile, kubernetes.architecture, (workDirectory) => {
    const repository = kubernetesRepository({
      config: kubernetes,
      registry: registryOptions(config),
      workDirectory,
      instance: "", // Only names images of containers' own, of which there are none here.
    });
    if (repository === undefined) {
      throw invalid(`push-agent needs ${registrySetting}: the repository that the agent's image is put into`);
    }
    return repository;
  });
}
