/**
 * The tests of the Kubernetes backend on a real Kubernetes. Arguments are those of the integration tests; without a file all of
 * test/kubernetes run, and those client tests of test/api that have been brought here.
 */
import { runBesideKubernetes } from "./kubernetes-cluster.ts";

const given = process.argv.slice(2);
/** Those that are not among them: docs/backends/kubernetes.md says why. */
const clients = [
  ...["address-pools", "apart", "archive-calls", "around-the-end", "attach", "bad-input", "bind-options"],
  ...["changes", "clients", "compose", "configuration", "events", "exec", "exec-calls", "files", "health"],
  ...["host-settings", "hostile", "hostile-keys", "image-mounts", "image-parents", "image-verbs", "images"],
  ...["life-calls", "lifecycle-verbs", "limits", "links", "listing", "logs", "namespaces", "networks"],
  ...["pull", "restart-policy"],
];
const own = ["test/kubernetes", `test/api/{${clients.join(",")}}.test.ts`];
const files = given.some((each) => !each.startsWith("-")) ? [] : own;
process.exitCode = await runBesideKubernetes([
  ...["--import", "tsx", "scripts/integration.ts", "--test-concurrency=1", ...given, ...files],
]);
