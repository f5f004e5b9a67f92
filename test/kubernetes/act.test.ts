/** act on pods of a real Kubernetes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { runActJob } from "../support/act.ts";
import { compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon } from "../support/kubernetes-daemon.ts";

suite("act on Kubernetes", { skip: withoutCluster }, () => {
  before(compileBuilder, { timeout: buildLimitMs });

  test("runs a job in a container with a service", {
    timeout: 2 * programLimitMs,
  }, async (t) => {
    const found = await buildForeignProgram("act");
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-act-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const cluster = resources.use(await Cluster.start());
    const { daemon } = resources.use(await KubernetesDaemon.start(cluster));
    await runActJob({ act: found.path, directory, daemon });
  });
});
