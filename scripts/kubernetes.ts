/**
 * The tests of the Kubernetes backend on a real Kubernetes. Arguments are those of the integration tests; without a file all of
 * test/kubernetes run, and the client tests of test/api.
 */
import { runBesideKubernetes } from "./kubernetes-cluster.ts";

const given = process.argv.slice(2);
/** docs/backends/kubernetes.md says why `network-options` is not among them. */
const own = ["test/kubernetes", "test/api/!(network-options).test.ts"];
const files = given.some((each) => !each.startsWith("-")) ? [] : own;
process.exitCode = await runBesideKubernetes([
  ...["--import", "tsx", "scripts/integration.ts", "--test-concurrency=1", ...given, ...files],
]);
