/** `npm run demo:kubernetes`: the compiled test/kubernetes/demo.ts, beside a Kubernetes. */
import { runBesideKubernetes } from "./kubernetes-cluster.ts";

process.exitCode = await runBesideKubernetes([
  ...["--enable-source-maps", "dist/test/kubernetes/demo.js", ...process.argv.slice(2)],
]);
