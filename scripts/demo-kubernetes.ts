/** `npm run demo:kubernetes`: the compiled test/kubernetes/demo.ts, beside a Kubernetes, or on one that is given. */
import { runCompiled } from "./compiled.ts";
import { runBesideKubernetes } from "./kubernetes-cluster.ts";

const args = process.argv.slice(2);
if (args.includes("--kubeconfig")) {
  await runCompiled("test/kubernetes/demo.js");
} else {
  process.exitCode = await runBesideKubernetes([
    ...["--enable-source-maps", "dist/test/kubernetes/demo.js", ...args],
  ]);
}
