/** The driver contract on a real Kubernetes, with agents that are reached through the API server, at their pods, and that call. */
import { join } from "node:path";
import { suite } from "node:test";

import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import { cloudDriver } from "../../src/backends/cloud/driver.ts";
import { createImages } from "../../src/backends/images/images.ts";
import { kubernetesPlatform } from "../../src/backends/kubernetes/platform.ts";
import { pushAgent } from "../../src/backends/kubernetes/push-agent.ts";
import { openState } from "../../src/backends/state/state.ts";
import { builtPrograms } from "../../src/common/built-programs.ts";
import { systemClock as clock } from "../../src/common/clock.ts";
import { type KubernetesConfig, loadConfig } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { contractRegistry, pulled } from "../contract/contract-image.ts";
import { driverContract } from "../contract/driver-contract.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { type AgentWay, agentWays, settingsOf } from "../support/kubernetes-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

for (const way of agentWays) {
  suite(`the driver contract on Kubernetes, agents by ${way}`, { skip: withoutCluster }, () => contract(way));
}

function contract(way: AgentWay): void {
  driverContract("kubernetes", async () => {
    const directory = scratchDirectory();
    const cluster = await Cluster.start();
    const config = configOf(cluster, directory, settingsOf(way));
    await pushAgent(config, builtPrograms.agent);
    const logger = createLogger({ level: "error", process: "test" });
    const key = await readAuthority(config.kubernetes.agentCa);
    const authority = await createAuthority(key, clock);
    const sealer = createSealer(key.secret);
    const state = await openState({ directory, clock });
    const platform = await kubernetesPlatform(config, { authority, sealer, state, clock, logger });
    const driver = cloudDriver({
      ...{ platform, section: { ...config.kubernetes, pollInterval: 250 }, authority, sealer },
      imageDocuments: () => Promise.resolve(undefined),
      stored: {
        isLogKept: false,
        socket: join(directory, "stored.sock"),
        applyStaged: async () => {},
        settleStaged: async () => {},
        drain: async () => {},
        leaveToCloud: async () => {},
        remove: async () => {},
      },
      ...{ state, clock, logger },
    });
    const images = await createImages({
      stateDirectory: directory,
      ...{ state, clock, logger },
      preparer: driver.images,
      storageDriver: driver.name,
      registry: contractRegistry,
    });
    const image = await pulled(images, `${cluster.registry.host}/busybox:latest`);
    return {
      driver,
      image,
      areApart: true,
      async close() {
        await images.close();
        await driver.close();
        await state.close();
        await cluster[Symbol.asyncDispose]();
      },
    };
  });
}

function configOf(
  cluster: Cluster,
  directory: string,
  others: Readonly<Record<string, string>>,
): KubernetesConfig {
  const settings = {
    kubeconfig: cluster.kubeconfig,
    registry: `${cluster.registry.host}/sockerless`,
    agent_ca: join(directory, "agent-ca.pem"),
    ...others,
  };
  const { config } = loadConfig({
    command: "backend",
    backend: "kubernetes",
    flags: {
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`kubernetes.${name}`, value])),
      state_dir: directory,
      run_dir: directory,
    },
    environment: {},
    uid: 0,
  });
  if (config.backend !== "kubernetes") {
    throw new Error("the configuration is another backend's");
  }
  return config;
}
