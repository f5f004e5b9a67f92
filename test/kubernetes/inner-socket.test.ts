/** The Docker socket inside a pod. */
import { describeInnerSocket } from "../support/inner-socket.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";

describeInnerSocket(
  async () => {
    await using resources = new AsyncDisposableStack();
    const cluster = await sharedCluster(resources);
    const { daemon } = resources.use(
      await KubernetesDaemon.start(cluster, { kubernetes: { inner_socket: "own" } }),
    );
    const { registry } = cluster;
    const own = resources.move();
    return { daemon, registry, [Symbol.asyncDispose]: () => own.disposeAsync() };
  },
  { skip: withoutCluster },
);
