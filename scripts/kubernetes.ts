/**
 * The tests of the Kubernetes backend on a real Kubernetes. Arguments are those of the integration tests; without a file all of
 * test/kubernetes run, and the client tests of test/api. With `--sample`, for `npm test`, it is one file, where a cluster can be
 * started.
 */
import { prepareKubernetes, runBesideKubernetes } from "./kubernetes-cluster.ts";

const given = process.argv.slice(2);
const isSample = given.includes("--sample");
const flags = given.filter((each) => each.startsWith("-") && each !== "--sample");
const files = given.filter((each) => !each.startsWith("-"));
/** docs/backends/kubernetes.md says why `network-options` is not among them. */
const whole = ["test/kubernetes", "test/api/!(network-options).test.ts"];
const sample = ["test/kubernetes/docker-cli.test.ts"];

const missing = isSample ? prepareKubernetes() : undefined;
if (missing !== undefined) {
  console.log(`no test ran on a real Kubernetes: ${missing}`);
} else {
  const chosen = files.length > 0 ? files : isSample ? sample : whole;
  process.exitCode = await runBesideKubernetes([
    ...["--import", "tsx", "scripts/integration.ts", "--test-concurrency=1", ...flags, ...chosen],
  ]);
}
