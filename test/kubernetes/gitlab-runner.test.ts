/** GitLab Runner's own program on a real Kubernetes. */
import { testJobs } from "../conformance/gitlab/on-cloud.ts";
import { node } from "../support/kubernetes-node.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";

testJobs(async (resources) => {
  const { daemon } = resources.use(await KubernetesDaemon.start(await sharedCluster(resources)));
  return { daemon, host: node, cpus: "0.1" };
});
