/** Upgrades on a real Kubernetes. */
import { join } from "node:path";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";
import { describeUpgrade } from "../support/upgrade.ts";

describeUpgrade(
  {
    name: "kubernetes",
    hasBlockVolumes: true,
    keepsConnections: false,
    start: async (earlier, resources) => {
      const cluster = await sharedCluster(resources);
      const program = join(earlier, "bin/sockerless");
      const kubernetes = await KubernetesDaemon.start(cluster, { agentOf: earlier, daemon: { program } });
      return { daemon: resources.use(kubernetes).daemon };
    },
  },
  withoutCluster,
);
