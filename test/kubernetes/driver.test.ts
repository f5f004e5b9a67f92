/** The driver contract on a real Kubernetes, with agents that are reached through the API server, at their pods, and that call. */
import { suite } from "node:test";

import { kubernetesPlatform } from "../../src/backends/kubernetes/platform.ts";
import { pushAgent } from "../../src/backends/kubernetes/push-agent.ts";
import { builtPrograms } from "../../src/common/built-programs.ts";
import { cloudDriverUnderTest, backendConfigOf } from "../contract/cloud-driver.ts";
import { driverContract } from "../contract/driver-contract.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { type AgentWay, agentWays, settingsOf, sharedCluster } from "../support/kubernetes-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

for (const way of agentWays) {
  suite(`the driver contract on Kubernetes, agents by ${way}`, { skip: withoutCluster }, () => contract(way));
}

function contract(way: AgentWay): void {
  driverContract("kubernetes", async () => {
    const directory = scratchDirectory();
    const resources = new AsyncDisposableStack();
    const cluster = await sharedCluster(resources);
    const config = backendConfigOf("kubernetes", directory, {
      kubeconfig: cluster.kubeconfig,
      registry: `${cluster.registry.host}/sockerless`,
      ...settingsOf(way),
    });
    await pushAgent(config, builtPrograms.agent);
    const under = await cloudDriverUnderTest(resources, {
      directory,
      section: { ...config.kubernetes, pollInterval: 250 },
      isLogKept: false,
      platform: (surroundings) => kubernetesPlatform(config, surroundings),
      image: `${cluster.registry.host}/busybox:latest`,
    });
    return { ...under, areApart: true };
  });
}
