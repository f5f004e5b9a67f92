import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { conflict, isErrorKind } from "../../../src/common/errors.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";

describe("containers that run in a cloud", () => {
  const bench = EngineBench.ofEach(() => ({ cloud: true }));

  const inspect = async (container: string) =>
    (await bench.containers.inspectContainer({ container })).container;

  it("have their process told by the start", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const [start] = bench.machine.agentOf(id).starts;
    assert.deepEqual(start?.process?.args, ["sh", "-c", "exec sleep 1000"]);
    assert.equal(start?.generation, 1n);
  });

  it("have their seccomp profile told by the start", async () => {
    const hostConfig = {
      securityOpt: ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'],
    };
    const id = await bench.runScript("exec sleep 1000", { hostConfig });
    const [start] = bench.machine.agentOf(id).starts;
    assert.equal(start?.process?.seccomp?.defaultAction, "SCMP_ACT_ALLOW");
  });

  it("run on by a later start than a restored state knows, also with --rm, which one that fails would end", async () => {
    const id = await bench.createScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    bench.machine.laterStart = 3n;
    const runs = async () => (await inspect(id))?.state?.status === ContainerStatus.RUNNING;
    await bench.containers.startContainer({ container: id });
    assert.ok(await runs());
    assert.deepEqual(
      [bench.state.containers.get(id)?.generation, bench.machine.agentOf(id).starts[0]?.generation],
      [3n, 3n],
    );
    const idle = await bench.createScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    const { spec } = bench.machine.workloads.get(idle) ?? assert.fail();
    await bench.stopBackend();
    Object.assign(spec.record, { generation: 3n });
    await bench.startBackend();
    await untilTrue(async () => (await inspect(idle))?.state?.status === ContainerStatus.RUNNING);
    assert.equal(bench.state.containers.get(idle)?.generation, 3n);
  });

  it("are shown with virtual addresses and found by their names at the real ones", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const hostConfig = { networkMode: "web" };
    const id = await bench.runScript("exec sleep 1000", { name: "one", hostConfig });
    await bench.runScript("exec sleep 1000", { name: "two", hostConfig });
    const endpoint = (await inspect(id))?.networkSettings?.networks["web"];
    assert.equal(endpoint?.reachableAddress, "10.9.0.1");
    assert.notEqual(endpoint?.ipAddress, endpoint?.reachableAddress);
    const { names } = bench.machine.agentOf(id);
    assert.deepEqual([names.get("one.web"), names.get("two.web")], ["10.9.0.1", "10.9.0.2"]);
  });

  it("are known to their peers before they are ready to start, and no longer when they cannot", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const hostConfig = { networkMode: "web" };
    const peer = await bench.runScript("exec sleep 1000", { name: "one", hostConfig });
    const namesOfPeer = () => bench.machine.agentOf(peer).names;
    bench.machine.preparation = async () => {
      assert.equal(namesOfPeer().get("two.web"), "10.9.0.2");
      throw conflict("the files do not fit in");
    };
    const id = await bench.createScript("exec sleep 1000", { name: "two", hostConfig });
    await assert.rejects(bench.containers.startContainer({ container: id }), /the files do not fit in/);
    const { status, error } = (await inspect(id))?.state ?? {};
    assert.deepEqual([status, error], [ContainerStatus.CREATED, "the files do not fit in"]);
    await untilTrue(() => !namesOfPeer().has("two.web"));
    bench.machine.preparation = () => Promise.resolve();
    await bench.containers.startContainer({ container: id });
    assert.equal(bench.machine.agentOf(id).starts.length, 1);
    assert.ok(namesOfPeer().has("two.web"));
  });

  it("run once, at the agent that follows those that were lost before they were told to run", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const hostConfig = { networkMode: "web" };
    const peer = await bench.runScript("exec sleep 1000", { name: "one", hostConfig });
    const id = await bench.createScript("echo ran; exec sleep 1000", { name: "two", hostConfig });
    const attached = bench.containers
      .attachContainer({ container: id, access: localAccess, stdout: true, stream: true })
      [Symbol.asyncIterator]();
    await attached.next();
    const session = (async () => {
      const { value } = await attached.next();
      assert.ok(value?.message.case === "endpoint");
      const { endpoint, attachId } = value.message.value;
      return await bench.session(endpoint, { openAttach: { attachId, stdout: true, stream: true } });
    })();
    bench.machine.lostAgents = 2;
    await bench.containers.startContainer({ container: id });
    const agent = bench.machine.agentOf(id);
    assert.equal(agent.starts.length, 1);
    await untilTrue(() => bench.engine.context.live.of(id).link?.wasHeard === true);
    assert.equal((await inspect(id))?.state?.status, ContainerStatus.RUNNING);
    assert.equal(bench.machine.agentOf(peer).names.get("two.web"), "10.9.0.4");
    await bench.containers.killContainer({ container: id, signal: "KILL" });
    assert.deepEqual(await session, { output: "ran\n", exitCode: 137 });
  });

  it("are told by their agents' address on a network that they join later", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const id = await bench.runScript("exec sleep 1000", { name: "one" });
    await bench.networks.connectNetwork({ network: "web", container: id });
    assert.equal(bench.machine.agentOf(id).names.get("one.web"), "10.9.0.1");
  });

  it("are reached at their agents' address on a network that they join after they have left every other", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const id = await bench.runScript("exec sleep 1000", { name: "one", hostConfig: { networkMode: "web" } });
    await bench.networks.disconnectNetwork({ network: "web", container: id });
    await bench.networks.connectNetwork({
      network: "web",
      container: id,
      endpoint: { aliases: ["backend"] },
    });
    assert.equal(bench.machine.agentOf(id).names.get("backend.web"), "10.9.0.1");
    assert.equal((await bench.containers.openTunnel({ container: id })).host, "10.9.0.1");
  });

  it("have the names of the container whose network they share, wherever its peers are", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const web = { networkMode: "web" };
    const owner = await bench.runScript("exec sleep 1000", { name: "one", hostConfig: web });
    const joined = await bench.runScript("exec sleep 1000", {
      hostConfig: { networkMode: `container:${owner}` },
    });
    const known = () => ["one.web", "two.web"].map((name) => bench.machine.agentOf(joined).names.get(name));
    assert.deepEqual(known(), ["10.9.0.1", undefined]);
    await bench.runScript("exec sleep 1000", { name: "two", hostConfig: web });
    assert.deepEqual(known(), ["10.9.0.1", "10.9.0.3"]);
  });

  it("are taken over together with those that share their network, in whatever order they are found", async () => {
    const first = await bench.runScript("exec sleep 1000", { name: "one" });
    const shared = { hostConfig: { networkMode: `container:${first}` } };
    const ids = [
      first,
      await bench.runScript("exec sleep 1000", shared),
      await bench.runScript("exec sleep 1000", shared),
    ];
    await bench.stopBackend();
    bench.emptyState();
    const found = [...bench.machine.workloads].reverse();
    bench.machine.workloads.clear();
    for (const [id, workload] of found) {
      bench.machine.workloads.set(id, workload);
    }
    await bench.startBackend();
    const statuses = () => Promise.all(ids.map(async (id) => (await inspect(id))?.state?.status));
    await until(
      async () => (await statuses()).every((status) => status === ContainerStatus.RUNNING) || undefined,
    );
  });

  it("refuse execs that are to have more privilege than they", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await assert.rejects(
      bench.execs.createExec({ container: id, config: { cmd: ["true"], privileged: true } }),
      (error) => isErrorKind(error, "not-implemented"),
    );
    assert.equal((await inspect(id))?.execIds.length, 0);
  });

  it("show the ports that a frontend listens on, also after a restart that nobody asked for", async () => {
    const id = await bench.createScript("exec sleep 1000", {
      config: { exposedPorts: ["80/tcp"] },
      hostConfig: {
        portBindings: [{ containerPort: "80/tcp", hostPort: "" }],
        restartPolicy: { name: "always" },
      },
    });
    const bound = { ip: "0.0.0.0", privatePort: 80, publicPort: 32768, type: "tcp" };
    await bench.containers.startContainer({ container: id, published: [bound] });
    const ports = async () =>
      (await inspect(id))?.networkSettings?.ports.map(({ ip, privatePort, publicPort }) => [
        ip,
        privatePort,
        publicPort,
      ]);
    assert.deepEqual(await ports(), [["0.0.0.0", 80, 32768]]);
    process.kill(Number((await inspect(id))?.state?.pid), "SIGKILL"); // Nobody asked for it.
    await until(async () => (await inspect(id))?.restartCount === 1 || undefined);
    await until(async () => (await inspect(id))?.state?.status === ContainerStatus.RUNNING || undefined);
    assert.deepEqual(await ports(), [["0.0.0.0", 80, 32768]]);
  });

  it("have no network that was removed while a start still looked after it", async () => {
    await bench.networks.createNetwork({ name: "web" });
    await bench.stopBackend();
    const busy = Promise.withResolvers<void>();
    bench.machine.busyNetworks = busy;
    await bench.startBackend();
    const removal = bench.networks.removeNetwork({ network: "web" });
    await Promise.race([removal, delay(200)]); // It waits; one that did not would be done by then.
    busy.resolve();
    await removal;
    await bench.engine.context.background.settle();
    assert.equal(bench.machine.networks.has("web"), false);
  });

  it("are taken over, with their networks and volumes, by a backend that has lost its state", async () => {
    await bench.networks.createNetwork({ name: "web" });
    await bench.volumes.createVolume({ name: "data" });
    const id = await bench.runScript("sleep 60; exit 3", {
      name: "lasting",
      hostConfig: { networkMode: "web", binds: ["data:/data"] },
    });
    const before = await inspect(id);
    await bench.stopBackend();
    bench.emptyState();
    await bench.startBackend();
    await until(async () => (await inspect(id))?.state?.status === ContainerStatus.RUNNING || undefined);
    const after = await inspect(id);
    assert.equal(after?.name, "/lasting");
    assert.deepEqual(after?.networkSettings?.networks, before?.networkSettings?.networks);
    const { network } = await bench.networks.inspectNetwork({ network: "web" });
    assert.deepEqual(Object.keys(network?.containers ?? {}), [id]);
    const { volumes } = await bench.volumes.listVolumes({});
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ["data"],
    );
    const exit = bench.wait(id);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await exit, 143);
    assert.equal(bench.machine.calls.filter((call) => call === "create").length, 1);
  });

  it("are taken over as they were last: renamed, updated, joined to networks, with their image", async () => {
    await bench.networks.createNetwork({ name: "web" });
    const id = await bench.runScript("exec sleep 1000", { name: "first" });
    await bench.networks.connectNetwork({ network: "web", container: id });
    await bench.networks.disconnectNetwork({ network: "bridge", container: id });
    await bench.containers.updateContainer({ container: id, restartPolicy: { name: "unless-stopped" } });
    await bench.containers.renameContainer({ container: id, name: "second" });
    assert.equal(bench.machine.calls.at(-1), "renamed second");
    const before = await inspect(id);
    await bench.stopBackend();
    bench.emptyState();
    await bench.startBackend();
    await until(async () => (await inspect(id))?.state?.status === ContainerStatus.RUNNING || undefined);
    const after = await inspect(id);
    assert.equal(after?.name, "/second");
    assert.equal(after?.hostConfig?.restartPolicy?.name, "unless-stopped");
    assert.deepEqual(Object.keys(after?.networkSettings?.networks ?? {}), ["web"]);
    assert.deepEqual(after?.networkSettings?.networks, before?.networkSettings?.networks);
    assert.ok(bench.state.images.has(after?.imageId ?? ""));
  });

  for (const operation of ["stopContainer", "killContainer"] as const) {
    it(`are known to be stopped by a user before ${operation} ends them past their agents`, async () => {
      const known: unknown[] = [];
      bench.machine.endsPastAgents = (id) => known.push(bench.state.containers.get(id)?.stoppedByUser);
      await bench.stopBackend();
      await bench.startBackend();
      const id = await bench.runScript("exec sleep 1000", {
        hostConfig: { restartPolicy: { name: "unless-stopped" } },
      });
      bench.machine.agentOf(id).failures.add("signal");
      await bench.containers[operation]({ container: id, timeoutSeconds: 0 });
      assert.deepEqual(known, [true]);
      assert.equal((await inspect(id))?.state?.status, ContainerStatus.EXITED);
      const kills = await bench.pastEvents({ event: ["kill"] });
      assert.deepEqual(
        kills.map(({ attributes }) => attributes["signal"]),
        [operation === "stopContainer" ? "15" : "9"],
      );
    });
  }

  it("go on under a backend whose start nobody answers, and are taken over once somebody does", async () => {
    await bench.networks.createNetwork({ name: "web" });
    await bench.volumes.createVolume({ name: "data" });
    const id = await bench.runScript("exec sleep 1000", {
      name: "lasting",
      hostConfig: { networkMode: "web", binds: ["data:/data"] },
    });
    bench.machine.silence = Promise.withResolvers();
    await bench.stopBackend();
    await bench.startBackend();
    assert.equal((await inspect(id))?.state?.status, ContainerStatus.RUNNING);

    bench.machine.silence.resolve();
    await bench.stopBackend();
    bench.emptyState();
    bench.machine.hasLostBooks = true;
    bench.machine.silence = Promise.withResolvers();
    await bench.startBackend();
    assert.deepEqual((await bench.containers.listContainers({ all: true })).containers, []);
    bench.machine.silence.resolve();
    await until(async () => (await bench.containers.listContainers({})).containers.length > 0 || undefined);
    assert.equal((await inspect(id))?.state?.status, ContainerStatus.RUNNING);
    assert.deepEqual(Object.keys((await inspect(id))?.networkSettings?.networks ?? {}), ["web"]);
    const { volumes } = await bench.volumes.listVolumes({});
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ["data"],
    );
  });

  it("are taken over once their agents answer, by a backend that has lost its state", async () => {
    const id = await bench.runScript("exec sleep 1000", { name: "lasting" });
    const other = await bench.runScript("exec sleep 1000", { name: "answering" });
    await bench.stopBackend();
    bench.emptyState();
    bench.machine.hasLostBooks = true;
    bench.machine.unanswered.add(id);
    bench.machine.calls.length = 0;
    await bench.startBackend();
    const listed = async () => (await bench.containers.listContainers({})).containers.map((each) => each.id);
    await until(async () => (await listed()).includes(other) || undefined);
    assert.deepEqual(await listed(), [other]);
    bench.machine.unanswered.delete(id);
    await until(async () => (await listed()).length === 2 || undefined);
    assert.equal((await inspect(id))?.name, "/lasting");
    const exit = bench.wait(id);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await exit, 143);
    assert.ok(!bench.machine.calls.includes("remove"), "nothing was cleared away");
  });

  it("get no volume back that was removed while somebody looked for it", async () => {
    await bench.volumes.createVolume({ name: "going" });
    const record = bench.machine.volumeRecords.get("going");
    assert.ok(record);
    await bench.stopBackend();
    bench.machine.silence = Promise.withResolvers();
    await bench.startBackend();
    await bench.volumes.removeVolume({ name: "going" });
    // As an answer tells it that was on its way.
    bench.machine.volumeRecords.set("going", record).set("lost", { ...record, name: "lost" });
    bench.machine.silence.resolve();
    const names = async () => (await bench.volumes.listVolumes({})).volumes.map(({ name }) => name);
    await until(async () => (await names()).length > 0 || undefined);
    assert.deepEqual(await names(), ["lost"]);
  });
});
