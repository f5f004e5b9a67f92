/** Upgrades on a real Kubernetes, from the first version that has its volumes. */
import { join } from "node:path";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";
import { describeUpgrade } from "../support/upgrade.ts";

describeUpgrade(
  {
    name: "kubernetes",
    commit: "1ddd2315",
    hasBlockVolumes: true,
    keepsConnections: false,
    start: async (earlier, resources) => {
      const cluster = await sharedCluster(resources);
      const program = join(earlier, "bin/sockerless");
      const kubernetes = await KubernetesDaemon.start(cluster, { agentOf: earlier, daemon: { program } });
      return resources.use(kubernetes).daemon;
    },
  },
  withoutCluster,
);
