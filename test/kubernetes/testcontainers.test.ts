/** testcontainers on pods of a real Kubernetes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import { findNpmPackages } from "../support/npm-packages.ts";

suite("testcontainers on Kubernetes", { skip: withoutCluster }, () => {
  const { daemon } = withKubernetes();

  test("waits for health, ports and logs of pods that share a network, and leaves nothing", async (t) => {
    const found = await findNpmPackages();
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    const script = join(checkout, "test/programs/npm/testcontainers-tour.cjs");
    const { code, text, errorText } = await runCommand(process.execPath, [script, "busybox"], {
      env: {
        ...daemon.clientEnv,
        NODE_PATH: join(found.packages, "node_modules"),
        // A client that runs in a container itself looks for published ports at the gateway.
        TESTCONTAINERS_HOST_OVERRIDE: "127.0.0.1",
        TESTCONTAINERS_RYUK_DISABLED: "true",
      },
      timeout: 600_000,
    });
    assert.equal(code, 0, errorText);
    assert.deepEqual(JSON.parse(text), {
      outside: "served",
      inside: "served",
      again: "served",
      written: "hello\nhello\n",
    });
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
    assert.equal(await daemon.ok("network", "ls", "--quiet", "--filter", "type=custom"), "");
  });
});
