/** Checks of `sockerless doctor` in a cluster: those of the backend's start, and what only a first day needs to know. */
import path from "node:path";

import { type Clock, systemClock } from "../../../common/clock.ts";
import type { KubernetesConfig } from "../../../common/config/load.ts";
import {
  type DoctorCheck,
  type Expectations,
  ok,
  type Result,
  unknown,
  warning,
  wrong,
} from "../../../common/finding.ts";
import type { Logger } from "../../../common/logger.ts";
import { examined } from "../../cloud/upkeep/examined.ts";
import { registryOptions } from "../../server/serve-engine.ts";
import { KubernetesClient } from "../api/client.ts";
import { isMissing } from "../api/errors.ts";
import { agentImageChecks, agentImageOf } from "../images.ts";
import { checkQuotas } from "../namespace-quotas.ts";
import {
  kubernetesChecks,
  agentModeOf,
  guardRight,
  nameOfRight,
  rightsCheck,
  rightsFor,
  unguarded,
} from "../start-checks.ts";
import { startPod } from "./start-pod.ts";
import { tryPolicy } from "./try-policy.ts";

/** The name of what a pod that is started tells. */
export const startedPodCheck = "a pod that starts";

/** The checks; they change nothing, but for pods that are started if that is asked for. */
export function doctorChecks(
  config: KubernetesConfig,
  logger: Logger,
  expected: Expectations,
  clock: Clock = systemClock,
): { readonly checks: readonly DoctorCheck[]; close(): void } {
  const { kubernetes, stateDir } = config;
  const client = new KubernetesClient(kubernetes, systemClock);
  const { isDirect } = agentModeOf(kubernetes, client);
  const instance = "sockerless/doctor";
  const agentImage = agentImageOf(kubernetes);
  const pods = {
    ...kubernetes,
    namespace: client.namespace,
    ...{ instance, isDirect, callbackUrl: undefined, agentImage: agentImage ?? "sample" },
    authorityPin: new Uint8Array(), // Nobody serves these pods.
    startTimeoutMs: kubernetes.startTimeout,
  };
  const needs = { isDirect, policies: kubernetes.networkPolicies, services: kubernetes.services };
  const ofAgent = agentImageChecks({
    ...{ config: kubernetes, registry: registryOptions(config), instance },
    workDirectory: path.join(stateDir, "uploads"),
  });
  const atStart = kubernetesChecks(client, pods, needs, logger).filter(({ what }) => what !== rightsCheck);
  const around = { client, settings: pods, clock, logger };
  const mayStart = expected.starts === "pod" && agentImage !== undefined;
  const checks = [
    ...examined([...atStart, ...ofAgent]),
    ...(ofAgent.length > 0 ? [] : [{ check: "the agent's image", look: () => otherAgent(agentImage) }]),
    {
      check: "the namespace's quotas",
      look: (signal: AbortSignal) => checkQuotas(client, pods, expected, signal),
    },
    ...[kubernetes.sharedStorageClass, kubernetes.blockStorageClass].map((name, index) => ({
      check: `the storage class of ${index === 0 ? "shared" : "block"} volumes`,
      look: (signal: AbortSignal) => checkStorageClass(client, name, signal),
    })),
    ...(needs.policies
      ? [
          {
            check: "network policies",
            look: (signal: AbortSignal) =>
              mayStart
                ? tryPolicy(around, signal)
                : unknown("whether they hold is up to the cluster's CNI plugin: --start-pod tries"),
          },
        ]
      : []),
    ...(expected.starts === "pod"
      ? [
          {
            check: startedPodCheck,
            look: (signal: AbortSignal) =>
              agentImage === undefined ? otherAgent(agentImage) : startPod(around, signal),
          },
        ]
      : []),
    ...rightsFor(needs).map((right) => ({
      check: nameOfRight(right),
      look: async (signal: AbortSignal) =>
        (await client.may(right, signal))
          ? ok()
          : wrong(
              `the backend may not do it in namespace ${client.namespace}: deploy/kubernetes/role.yaml has it`,
            ),
    })),
    {
      check: nameOfRight(guardRight),
      look: async (signal: AbortSignal) =>
        (await client.may(guardRight, signal))
          ? ok()
          : warning(`${unguarded}: deploy/kubernetes/role.yaml has the right`),
    },
  ];
  return { checks, close: () => client.abandon() };
}

/** An agent that `push-agent` has not put into the registry. */
function otherAgent(image: string | undefined): Result {
  return image === undefined
    ? wrong("nothing brings the agent: set kubernetes.registry and run `sockerless kubernetes push-agent`")
    : unknown(`whether nodes can pull ${image} is not this backend's to ask`);
}

/** @param name undefined: the cluster's default */
async function checkStorageClass(
  client: KubernetesClient,
  name: string | undefined,
  signal: AbortSignal,
): Promise<Result> {
  if (name === undefined) {
    const { items } = await client.call(
      "list storageclasses",
      (options) => client.storage.listStorageClass({}, options),
      signal,
    );
    const found = items.find(({ metadata }) => metadata?.annotations?.[defaultClass] === "true");
    return found === undefined
      ? warning("the cluster has no default storage class: name one, or no volume of this kind is made")
      : ok(found.metadata?.name);
  }
  try {
    await client.call(
      "get storageclasses",
      (options) => client.storage.readStorageClass({ name }, options),
      signal,
    );
    return ok(name);
  } catch (error) {
    if (isMissing(error)) {
      return wrong(`there is no storage class ${name}: no volume of this kind is made`);
    }
    throw error;
  }
}

const defaultClass = "storageclass.kubernetes.io/is-default-class";
