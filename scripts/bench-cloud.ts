/** `npm run bench:cloud`: the compiled test/bench/cloud.ts; with `--kubernetes` test/bench/kubernetes-ways.ts, on a real one. */
import { runCompiled } from "./compiled.ts";
import { runBesideKubernetes } from "./kubernetes-cluster.ts";

const args = process.argv.slice(2);
if (args[0] === "--kubernetes") {
  const ways = ["--enable-source-maps", "dist/test/bench/kubernetes-ways.js", ...args.slice(1)];
  process.exitCode = await runBesideKubernetes(ways);
} else {
  await runCompiled("test/bench/cloud.js", { isApart: true });
}
