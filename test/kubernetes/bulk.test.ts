/**
 * 1 GiB by each way to an agent of a real Kubernetes, beside clients that do not read and a process that does not: 16 MiB
 * without SOCKERLESS_SOAK=1.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { createExec, receive, stalled } from "../load/stream-client.ts";
import { runCommand } from "../support/command.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { agentWays, KubernetesDaemon, settingsOf, withCluster } from "../support/kubernetes-daemon.ts";
import { peakBytes, processOf, residentBytes } from "../support/processes.ts";
import { isSoak } from "../support/soak.ts";

const mib = 1024 * 1024;
const size = (isSoak ? 1024 : 16) * mib;
/** The most that a process may grow by, whatever passes: buffers of a few streams, and memory that Node has not freed yet. */
const mostGrown = 256 * mib;

suite(`${size / mib} MiB on Kubernetes, beside who does not read`, { skip: withoutCluster }, () => {
  const cluster = withCluster();

  for (const way of agentWays) {
    test(`pass in bounded memory by ${way}`, async (t) => {
      await using resources = new AsyncDisposableStack();
      const { daemon } = resources.use(
        await KubernetesDaemon.start(cluster, { kubernetes: settingsOf(way) }),
      );
      const { socket } = daemon;
      await daemon.ok("run", "--detach", "--name", "bulk", "busybox", "sleep", "1d");
      await daemon.ok("run", "--detach", "--name", "endless", "busybox", "yes");
      const processes = await Promise.all(
        (["frontend", "backend"] as const).map(async (role) => ({
          role,
          pid: await processOf(daemon, role),
        })),
      );
      const before = processes.map(({ pid }) => residentBytes(pid));
      const endless = await createExec(socket, "bulk", ["yes"]);
      const unread = [
        await stalled(socket, "POST", `/exec/${endless}/start`, {}),
        await stalled(socket, "POST", "/containers/endless/attach?stream=1&stdout=1"),
        await stalled(socket, "GET", "/containers/endless/logs?stdout=1&follow=1"),
      ];
      resources.defer(() => {
        for (const each of unread) {
          each.destroy();
        }
      });
      const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
      const send = (...command: string[]) =>
        runCommand("sh", ["-c", `head -c ${size} /dev/zero | docker exec -i bulk ${command.join(" ")}`], {
          env,
          timeout: 3_600_000,
        });
      const left = new AbortController();
      resources.defer(() => left.abort());
      const unheard = runCommand("sh", ["-c", "yes | exec docker exec -i bulk sleep 1d"], {
        timeout: 3_600_000,
        env,
        signal: left.signal,
      }).catch(() => undefined);
      const rate = (since: number): string => `${Math.round(size / 1000 / (performance.now() - since))} MB/s`;
      const began = performance.now();
      assert.equal((await send("wc", "-c")).text, String(size));
      const out = await createExec(socket, "bulk", ["head", "-c", String(size), "/dev/zero"]);
      const sent = performance.now();
      t.diagnostic(`in: ${rate(began)}`);
      assert.equal((await receive(socket, "POST", `/exec/${out}/start`, {})).bytes, size);
      t.diagnostic(`out: ${rate(sent)}`);
      for (const [index, { role, pid }] of processes.entries()) {
        const [first = 0, peak] = [before[index], peakBytes(pid)];
        t.diagnostic(`${role}: ${Math.round(first / mib)} MiB, at most ${Math.round(peak / mib)} MiB`);
        assert.ok(peak < first + mostGrown, `${role}: from ${first} to ${peak} bytes`);
      }
      left.abort();
      await unheard;
    });
  }
});
