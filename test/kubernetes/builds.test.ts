/** Builds on a real Kubernetes: what of them is a pod, and what the API server is asked for. */
import assert from "node:assert/strict";
import { before, beforeEach, suite, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { buildingArgs, buildsOnAnyCloud } from "../support/cloud-builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { busyboxImage } from "../support/images.ts";
import { type ClusterCalls, withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import { processOf } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";

suite("a build on Kubernetes", { skip: withoutCluster }, () => {
  before(compileBuilder, { timeout: buildLimitMs });
  const { cluster, kubernetes } = withKubernetes({ daemon: { args: buildingArgs } });
  let calls: ClusterCalls;
  before(() => {
    calls = cluster.callsIn(kubernetes.namespace);
  });
  beforeEach(() => calls.clear());

  const ok = (...args: string[]): Promise<string> => kubernetes.daemon.ok(...args);
  const socket = (): string => kubernetes.daemon.socket;
  const base = (): string => `FROM ${cluster.registry.host}/busybox:latest`;
  const containers = (): Promise<string> =>
    ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build");
  const pods = (): number => calls.count("pods.create");
  const isIdle = async (): Promise<boolean> =>
    (await kubernetes.kubectl("get", "pods", "--output", "name")) === "";

  buildsOnAnyCloud(
    () => ({
      daemon: kubernetes.daemon,
      base: `${cluster.registry.host}/busybox:latest`,
      calls,
      startCall: "pods.create",
      lateCalls: ["pods.delete"],
      isIdle,
      refused: [
        ["RUN --network=host true", /network\.host is not allowed/],
        ["RUN true", /the kubernetes backend does not support RUN --network=host/, { networkmode: "host" }],
        ["RUN --network=none true", /the kubernetes backend does not support --network none/],
        ["RUN true", /the kubernetes backend does not support --cgroup-parent/, { cgroupparent: "/x" }],
        ["RUN --mount=type=cache,target=/x,uid=7 true", /RUN --mount=type=cache with uid, gid, mode or from/],
        ["RUN --mount=type=cache,target=/x,from=base,source=/etc true", /with uid, gid, mode or from/],
        ["RUN --security=insecure true", /security\.insecure is not allowed|--security=insecure/],
      ],
      protectsMounts: true,
      directory: cluster.directory,
    }),
    true,
  );

  test("keeps a pod while one RUN of a stage follows another, and asks for no right of it", async () => {
    const dockerfile = `${base()} AS first
RUN echo one > /one; sleep 1000 & echo says one
USER app
RUN echo says $(cat /one) $(id -u) $(ps | grep -c '[s]leep'); echo two > /tmp/two
USER root
RUN rm /one
${base()}
COPY --from=first /tmp/two /
RUN cat /two > /seen
CMD ["cat", "/seen"]
`;
    const { text, error, id } = await build(socket(), dockerfile, { query: { t: "kept:1" } });
    assert.equal(error, undefined, text);
    assert.deepEqual(
      text.split("\n").filter((line) => line.startsWith("says")),
      ["says one", "says one 1000 0"],
    );
    assert.equal(pods(), 2);
    assert.doesNotMatch(JSON.stringify(calls.all()), /"(privileged|hostPath|hostPID|add)":(?!false)/);
    assert.equal(await ok("run", "--rm", "kept:1"), "two");
    const first = await built(socket(), dockerfile, { query: { target: "first" } });
    const layers = JSON.parse(await ok("inspect", "--format", "{{json .RootFS.Layers}}", first)) as string[];
    assert.equal(layers.length, (await busyboxImage()).layers.length + 3);
    assert.equal((await build(socket(), dockerfile)).id, id);
  });

  test("goes on in the pod of a step when the backend is killed while that begins", async () => {
    const dockerfile = `${base()}\nRUN echo said; cat /proc/sys/kernel/random/uuid >> /once\n`;
    const answer = build(socket(), dockerfile, { query: { t: "survived:1", nocache: "1" } });
    await untilTrue(() => pods() > 0);
    process.kill(await processOf(kubernetes.daemon, "backend"), "SIGKILL");
    const { error, text } = await answer;
    assert.equal(error, undefined, text);
    assert.match(text, /\nsaid\n/);
    assert.equal(pods(), 1);
    assert.equal(await containers(), "");
    assert.match(await ok("run", "--rm", "survived:1", "wc", "-l", "/once"), /^1 /);
    await untilTrue(isIdle);
  });

  test("takes along what a builder that was killed has left", async () => {
    const answer = build(socket(), `${base()}\nRUN sleep 1000\n`).catch(() => undefined);
    await untilTrue(async () => (await ok("ps", "--quiet", "--filter", "label=sockerless.build")) !== "");
    process.kill(await processOf(kubernetes.daemon, "builder"), "SIGKILL");
    await answer;
    await untilTrue(async () => (await containers()) === "");
    await untilTrue(isIdle);
  });
});
