/** Checks of `sockerless doctor` in a cluster: those of the backend's start. */
import { systemClock } from "../../common/clock.ts";
import type { KubernetesConfig } from "../../common/config/load.ts";
import type { DoctorCheck } from "../../common/finding.ts";
import type { Logger } from "../../common/logger.ts";
import { examined } from "../cloud/upkeep/examined.ts";
import { KubernetesClient } from "./api/client.ts";
import { agentImageOf } from "./images.ts";
import { kubernetesChecks, reachesDirectly } from "./start-checks.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  { kubernetes }: KubernetesConfig,
  logger: Logger,
): { readonly checks: readonly DoctorCheck[]; close(): void } {
  const client = new KubernetesClient(kubernetes, systemClock);
  const isDirect = reachesDirectly(kubernetes, client);
  const pods = {
    ...kubernetes,
    namespace: client.namespace,
    ...{ instance: "sockerless/doctor", isDirect, agentImage: agentImageOf(kubernetes) ?? "sample" },
    authorityPin: new Uint8Array(), // No pod is made.
    startTimeoutMs: kubernetes.startTimeout,
  };
  const needs = { isDirect, policies: kubernetes.networkPolicies };
  return { checks: examined(kubernetesChecks(client, pods, needs, logger)), close: () => client.abandon() };
}
