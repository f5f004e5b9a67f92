import { join } from "node:path";

import type { KubernetesConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { componentLogger } from "../../common/logger.ts";
import { TaskPhase } from "../../gen/sockerless/state/v1/state_pb.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import type { CloudLog } from "../cloud/contract/cloud-log.ts";
import type { CloudPlatform } from "../cloud/contract/platform.ts";
import { callbackPortOf } from "../cloud/callback/backend-relay.ts";
import { noDiscovery } from "../cloud/contract/service-discovery.ts";
import type { CloudSurroundings } from "../cloud/main.ts";
import { innerSocketOff, internalNetworks } from "../cloud/ready-made/asked-settings.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { callingPods, dialledPods, podAgents } from "./agents.ts";
import { KubernetesClient } from "./api/client.ts";
import { agentImageChecks, agentImageOf, kubernetesImages } from "./images.ts";
import { kubernetesMachine } from "./machine.ts";
import { instanceLabel, instanceValue } from "./names.ts";
import { kubernetesNetworks } from "./networks.ts";
import { networkLabel } from "./networks/policy.ts";
import { refuseOtherPlace } from "./own-pods.ts";
import { EndedPods } from "./pods/ended-pods.ts";
import { podRequests } from "./pods/pod-requests.ts";
import type { PodSettings } from "./pods/pod-spec.ts";
import { PodWatch } from "./pods/pod-watch.ts";
import { preparedPods } from "./pods/prepared-pods.ts";
import { podTasks } from "./pods/pods.ts";
import { kubernetesServices } from "./services.ts";
import { kubernetesSettings } from "./settings.ts";
import { agentModeOf, kubernetesChecks } from "./start-checks.ts";
import { kubernetesVolumes } from "./volumes.ts";

/** No log: what was taken from agents is all that is kept of a container's output. */
const noLog: CloudLog = {
  isKept: false,
  async *lines() {},
  async *agentLines() {},
};

const noPolicies = "no NetworkPolicy is made (kubernetes.network_policies): a pod keeps its way out";

/** Kubernetes: pods of one namespace. @throws invalid: a setting is missing, or names what is not there */
export async function kubernetesPlatform(
  config: KubernetesConfig,
  { authority, sealer, state, clock, logger }: CloudSurroundings,
): Promise<CloudPlatform> {
  const { kubernetes, runDir, stateDir } = config;
  const { networkPolicies: policies, services } = kubernetes;
  const instance = instanceOf(authority);
  const agentImage = agentImageOf(kubernetes);
  if (agentImage === undefined) {
    throw invalid(
      "configuration: nothing brings the agent into a pod: set kubernetes.registry and run `sockerless kubernetes push-agent`, or set kubernetes.agent_image",
    );
  }
  const client = new KubernetesClient(kubernetes, clock);
  const { isDirect, callbackUrl } = agentModeOf(kubernetes, client);
  const registry = registryOptions(config);
  const images = kubernetesImages({ config: kubernetes, registry, stateDir, instance, logger });
  const watch = new PodWatch({
    client,
    selector: `${instanceLabel}=${instanceValue(instance)}`,
    refuse: (found) =>
      refuseOtherPlace(
        {
          ...{ client, instance },
          file: join(stateDir, "own-pods"),
          running: () =>
            [...state.tasks.values()].flatMap(({ phase, task }) =>
              phase === TaskPhase.SERVING ? [task] : [],
            ),
        },
        found,
      ),
    changed: (pod) => endedPods.hear(pod),
    clock,
    logger: componentLogger(logger, "pods"),
  });
  const callbackPort = callbackUrl === undefined ? undefined : callbackPortOf(callbackUrl);
  const networks = kubernetesNetworks({ client, instance, policies, isDirect, callbackPort });
  const tasks = podTasks({
    ...{ client, watch },
    async ensurePolicies(labels) {
      const own = [...state.networks.values()].filter(
        ({ network }) => networkLabel(network?.id ?? "") in labels,
      );
      await Promise.all(own.map((network) => networks.ensure(network)));
    },
  });
  const endedPods = new EndedPods({
    remove: (task) => tasks.stop(task, "it is not needed any more"),
    recordOf: (containerId, task) =>
      containerId === ""
        ? [...state.tasks.values()].find((record) => record.task === task)
        : state.tasks.get(containerId),
    clock,
    logger: componentLogger(logger, "pods"),
  });
  const claimAnonymous = kubernetes.anonymousVolumes === "claim";
  const volumes = kubernetesVolumes(client, {
    settings: { ...kubernetes, namespace: client.namespace, instance },
    claimAnonymous,
  });
  const pods: PodSettings = {
    ...kubernetes,
    namespace: client.namespace,
    ...{ instance, agentImage, isDirect, callbackUrl },
    callToken: sealer.callToken,
    authorityPin: authority.pin,
    startTimeoutMs: kubernetes.startTimeout,
  };
  const ways = {
    ...{ client, authority, clock },
    path: join(runDir, "agents.sock"),
    logger: componentLogger(logger, "agents"),
  };
  const agents = isDirect
    ? dialledPods({ authority, clock })
    : callbackUrl === undefined
      ? await podAgents(ways)
      : await callingPods({
          ...ways,
          url: callbackUrl,
          listen: kubernetes.callbackListen,
          instance,
          callKey: sealer.callKey,
        });
  const recordOf = (containerId: string) => state.containers.get(containerId);
  const discovery = services
    ? kubernetesServices({ client, watch, instance, recordOf, clock, logger })
    : noDiscovery;
  return {
    name: "kubernetes",
    settings: kubernetesSettings(
      [
        ...(kubernetes.innerSocket === "off" ? [innerSocketOff("kubernetes")] : []),
        ...(policies ? [] : [internalNetworks(state, noPolicies)]),
      ],
      kubernetes.architecture,
    ),
    tasks,
    requests: podRequests({ settings: pods, largest: kubernetes, volumes }),
    prepared: preparedPods({ client, watch, claimAnonymous }),
    finder: agents.finder,
    log: noLog,
    discovery,
    images,
    networks,
    volumes,
    machine: kubernetesMachine(client, kubernetes),
    checks: [
      ...kubernetesChecks(client, pods, { isDirect, policies, services }, logger),
      ...agentImageChecks({
        ...{ config: kubernetes, registry, instance },
        workDirectory: join(stateDir, "uploads"),
      }),
    ],
    sweeps: [],
    abandon: () => client.abandon(),
    async close() {
      client.abandon();
      await Promise.all([discovery.close(), watch.close(), endedPods.close(), agents.close()]);
    },
  };
}
