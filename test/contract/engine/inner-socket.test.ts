/** Each call of the backend's contract, made for a client at the Docker socket inside a container. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import type { DescService, Message, MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";

import { resolveMounts } from "../../../src/backends/engine/containers/decisions/mounts/resolve-mounts.ts";
import { ruleOf } from "../../../src/backends/engine/inner/rules.ts";
import { fromUnknown, isErrorKind } from "../../../src/common/errors.ts";
import type { HostConfigSchema } from "../../../src/gen/sockerless/backend/v1/config_pb.ts";
import { ContainerService } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { EventsService } from "../../../src/gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../../src/gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../../src/gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../../src/gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../../src/gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../../src/gen/sockerless/backend/v1/volume_pb.ts";
import { actingTransport } from "../../../src/frontend/inner-sockets/acting-transport.ts";
import { duringTests } from "../../support/during-tests.ts";
import { untilTrue } from "../../support/until.ts";
import type { MemoryMachine } from "../memory-machine.ts";
import { EngineBench } from "../engine-bench.ts";

const services: readonly DescService[] = [
  ...[
    ContainerService,
    EventsService,
    ExecService,
    ImageService,
    NetworkService,
    SystemService,
    VolumeService,
  ],
];
const forLong = "exec sleep 1000";
const asLabel = (id: string): Record<string, string> => ({ "sockerless.inner-socket": id });

const options = {
  cloud: true,
  prepare: (machine: MemoryMachine) => {
    machine.dockerSocket = "own";
  },
};

describe("a client at a container's Docker socket", () => {
  const bench = duringTests(() => EngineBench.start(options));
  let job: string;
  let secret: string;
  let execId: string;
  let inner: ReturnType<EngineBench["acting"]>;

  before(async () => {
    await bench.networks.createNetwork({ name: "secretnet" });
    await bench.volumes.createVolume({ name: "secretvol" });
    secret = await bench.runScript(forLong, {
      name: "secret",
      hostConfig: { networkMode: "secretnet", binds: ["secretvol:/data"] },
      config: { env: ["PASSWORD=swordfish"] },
    });
    ({ id: execId } = await bench.execs.createExec({ container: secret, config: { cmd: ["true"] } }));
    await bench.networks.createNetwork({ name: "shared" });
    job = await bench.runScript(forLong, { name: "job", hostConfig: { networkMode: "bridge" } });
    await bench.networks.connectNetwork({ network: "shared", container: job });
    await bench.runScript(forLong, {
      name: "peer",
      hostConfig: { networkMode: "shared" },
      networking: { endpoints: { shared: { aliases: ["db"] } } },
    });
    inner = bench.acting(job);
  });

  /** Calls by their names, with what they say of another's. Those without are tested by themselves. */
  const ofOthers = (): Record<string, Record<string, unknown>> => {
    const container = { container: secret };
    const network = { network: "secretnet" };
    const exec = { execId };
    return {
      StartContainer: container,
      StopContainer: container,
      KillContainer: container,
      RestartContainer: container,
      RemoveContainer: { ...container, force: true },
      WaitContainer: container,
      InspectContainer: container,
      AwaitStart: { container: secret },
      AttachContainer: { ...container, stdout: true, stream: true },
      DescribePorts: container,
      ResizeContainer: { ...container, height: 1, width: 1 },
      OpenLogs: container,
      OpenArchive: { ...container, write: true },
      RecordStreamUse: container,
      PauseContainer: container,
      UnpauseContainer: container,
      RenameContainer: { ...container, name: "taken" },
      UpdateContainer: container,
      TopContainer: container,
      OpenStats: container,
      OpenChanges: container,
      CreateContainer: { config: { image: "shell" }, hostConfig: { networkMode: "secretnet" } },
      ListContainers: { filters: { before: { values: ["secret"] } } },
      CreateExec: { ...container, config: { cmd: ["true"] } },
      StartExec: exec,
      AwaitExec: exec,
      InspectExec: exec,
      ResizeExec: exec,
      InspectImage: { image: "nothing" },
      GetImageHistory: { image: "nothing" },
      ListImages: { filters: { since: { values: ["nothing"] } } },
      RemoveNetwork: network,
      ConnectNetwork: { ...network, container: "job" },
      DisconnectNetwork: { ...network, container: "job" },
      InspectNetwork: network,
      CreateVolume: { name: "secretvol" },
      InspectVolume: { name: "secretvol" },
      RemoveVolume: { name: "secretvol", force: true },
    };
  };
  const alone = [
    ...["PruneContainers", "PruneNetworks", "PruneVolumes", "PruneImages", "ListNetworks", "ListVolumes"],
    ...["CreateNetwork", "SubscribeEvents", "GetInfo", "GetDiskUsage", "GetCapabilities", "Authenticate"],
    "PullImage",
  ];

  const call = async (service: DescService, name: string, request: object): Promise<void> => {
    const method = service.methods.find((each) => each.name === name);
    assert.ok(method);
    const client = createClient(service, actingTransport(bench.transport, job)) as unknown as Record<
      string,
      (request: object) => Promise<Message> | AsyncIterable<Message>
    >;
    const answer = client[method.localName]?.(request);
    if (answer !== undefined && Symbol.asyncIterator in answer) {
      for await (const _ of answer) {
        return;
      }
    }
    await answer;
  };

  it("finds nothing of others by any call, and makes no call that has no rule", async () => {
    const found: string[] = [];
    const ruled: string[] = [];
    for (const service of services) {
      for (const method of service.methods) {
        try {
          ruleOf(method);
          ruled.push(method.name);
        } catch {
          const unary = method.methodKind === "unary" || method.methodKind === "server_streaming";
          const error = unary
            ? await call(service, method.name, {}).then(() => undefined, fromUnknown)
            : undefined;
          if (unary && error?.kind !== "forbidden") {
            found.push(`${method.name} was made: ${error?.message}`);
          }
          continue;
        }
        const request = ofOthers()[method.name];
        if (request !== undefined) {
          const error = await call(service, method.name, request).then(() => undefined, fromUnknown);
          if (error?.kind !== "not-found") {
            found.push(`${method.name}: ${error?.kind} ${error?.message}`);
          }
        }
      }
    }
    assert.deepEqual(found, []);
    assert.deepEqual(new Set(ruled), new Set([...Object.keys(ofOthers()), ...alone]));
    const { container } = await bench.containers.inspectContainer({ container: secret });
    assert.equal(container?.name, "/secret");
  });

  it("is refused every way to another in a creation", async () => {
    const attempts: readonly [string, MessageInitShape<typeof HostConfigSchema>][] = [
      ["not-found", { networkMode: "host" }],
      ["not-found", { networkMode: "container:secret" }],
      ["not-found", { ipcMode: `container:${secret}` }],
      ["not-found", { pidMode: "container:secret" }],
      ["not-found", { volumesFrom: ["secret:ro"] }],
      ["not-found", { links: ["secret:db"] }],
      ["not-found", { binds: ["secretvol:/data:ro"] }],
      ["not-found", { mounts: [{ type: "volume", source: "secretvol", target: "/data" }] }],
      ["not-found", { mounts: [{ type: "image", source: "nothing", target: "/data" }] }],
      ["invalid", { binds: ["/etc:/host"] }],
      ["invalid", { mounts: [{ type: "bind", source: "/run/docker.sock/..", target: "/host" }] }],
      ["forbidden", { mounts: [{ type: "npipe", source: "x", target: "/host" }] }],
      ["forbidden", { privileged: true }],
      ["forbidden", { capAdd: ["sys_admin"] }],
      ["forbidden", { capAdd: ["NET_RAW", "CAP_BPF"] }],
      ["forbidden", { capAdd: ["all"] }],
      ["forbidden", { pidMode: "host" }],
      ["forbidden", { ipcMode: "host" }],
      ["forbidden", { utsMode: "host" }],
      ["forbidden", { usernsMode: "host" }],
      ["forbidden", { cgroupnsMode: "host" }],
      ["forbidden", { cgroup: "x" }],
      ["forbidden", { runtime: "x" }],
      ["forbidden", { resources: { cgroupParent: "/x" } }],
      ["forbidden", { resources: { devices: [{ pathOnHost: "/dev/null" }] } }],
      ["forbidden", { resources: { deviceCgroupRules: ["c 1:3 r"] } }],
      ["forbidden", { resources: { deviceRequests: [{ count: 1 }] } }],
      ["forbidden", { resources: { blkioDeviceReadBps: [{ path: "/dev/x", rate: 1n }] } }],
      [
        "forbidden",
        {
          mounts: [
            {
              ...{ type: "volume", source: "fresh", target: "/data" },
              volumeOptions: { driverConfig: { options: { path: "/" } } },
            },
          ],
        },
      ],
    ];
    for (const [kind, hostConfig] of attempts) {
      await assert.rejects(
        inner.containers.createContainer({ config: { image: "shell" }, hostConfig }),
        (error) => isErrorKind(error, kind as "not-found"),
        JSON.stringify(hostConfig, (_, value: unknown) =>
          typeof value === "bigint" ? String(value) : value,
        ),
      );
    }
    const { containers } = await bench.containers.listContainers({ all: true });
    assert.deepEqual(containers.flatMap(({ names }) => names).toSorted(), ["/job", "/peer", "/secret"]);
    assert.equal(bench.state.volumes.has("fresh"), false);
  });

  it("takes no name in a network of others that is theirs there, and no address or alias at all", async () => {
    const within = (name: string, endpoint: object) =>
      inner.containers.createContainer({
        ...{ name, config: { image: "shell" }, hostConfig: { networkMode: "shared" } },
        networking: { endpoints: { shared: endpoint } },
      });
    await assert.rejects(within("db", {}), (error) => isErrorKind(error, "conflict"));
    await assert.rejects(within("DB", {}), (error) => isErrorKind(error, "conflict"));
    await assert.rejects(within("ab", { aliases: ["b"] }), (error) => isErrorKind(error, "forbidden"));
    await assert.rejects(within("ab", { ipv4Address: "172.18.0.9" }), (error) =>
      isErrorKind(error, "forbidden"),
    );
    const named = await inner.containers.createContainer({
      ...{
        name: "named",
        config: { image: "shell", hostname: "db", cmd: { values: ["sh", "-c", forLong] } },
      },
      hostConfig: { networkMode: "shared" },
    });
    await inner.containers.startContainer({ container: named.id });
    assert.ok(!bench.state.containers.get(named.id)?.endpoints["shared"]?.dnsNames.includes("db"));
    await inner.containers.removeContainer({ container: named.id, force: true });
    const { id } = await within("ab", {});
    await assert.rejects(inner.containers.renameContainer({ container: id, name: "db" }), (error) =>
      isErrorKind(error, "conflict"),
    );
    const { network } = await inner.networks.inspectNetwork({ network: "shared" });
    assert.deepEqual(Object.keys(network?.containers ?? {}), [job]);
    await inner.containers.removeContainer({ container: id });
  });

  it("starts on no network of others in the place of its own that is gone", async () => {
    const { network } = await bench.networks.inspectNetwork({ network: "secretnet" });
    for (const name of [network?.id.slice(0, 4) ?? "", "later"]) {
      await inner.networks.createNetwork({ name });
      const { id } = await inner.containers.createContainer({
        ...{ name: "joining", config: { image: "shell" }, hostConfig: { networkMode: name } },
      });
      await inner.networks.removeNetwork({ network: name });
      if (name === "later") {
        await bench.networks.createNetwork({ name });
      }
      await assert.rejects(
        inner.containers.startContainer({ container: id }),
        (error) => isErrorKind(error, "not-found"),
        name,
      );
      await inner.containers.removeContainer({ container: id });
    }
    await bench.networks.removeNetwork({ network: "later" });
  });

  it("takes no more addresses than some networks need", async () => {
    const create = (name: string, ...subnets: string[]) =>
      inner.networks.createNetwork({ name, pools: subnets.map((subnet) => ({ subnet })) });
    for (const subnet of ["172.16.0.0/12", "10.0.0.0/8"]) {
      await assert.rejects(create("large", subnet), (error) => isErrorKind(fromUnknown(error), "forbidden"));
    }
    await create("n0", "10.5.0.0/16");
    for (let n = 1; n < 32; n++) {
      await create(`n${n}`, `10.6.${n}.0/24`);
    }
    await assert.rejects(create("n32"), /more than 32 networks of one socket is not allowed/);
    await bench.networks.createNetwork({ name: "others" });
    await inner.networks.pruneNetworks({});
    await bench.networks.removeNetwork({ network: "others" });
  });

  it("has an eighth of what all objects of a kind may hold", async () => {
    const labels = { large: "x".repeat(3 * 2 ** 20) };
    const make = {
      volumes: (by: typeof inner, name: string) => by.volumes.createVolume({ name, labels }),
      networks: (by: typeof inner, name: string) => by.networks.createNetwork({ name, labels }),
      containers: (by: typeof inner, name: string) =>
        by.containers.createContainer({ name, config: { image: "shell", labels } }),
    };
    for (const [kind, create] of Object.entries(make)) {
      await create(inner, "large-1");
      await create(inner, "large-2");
      await assert.rejects(
        create(inner, "large-3"),
        new RegExp(`the ${kind} made through one Docker socket may hold at most 8 MiB together`),
      );
      await create(bench, "large-3");
    }
    for (const number of [1, 2, 3]) {
      await bench.containers.removeContainer({ container: `large-${number}` });
      await bench.networks.removeNetwork({ network: `large-${number}` });
      await bench.volumes.removeVolume({ name: `large-${number}` });
    }
  });

  it("names nothing like the ID of others', and links by ID", async () => {
    const { network } = await bench.networks.inspectNetwork({ network: "secretnet" });
    const isConflict = (error: unknown): boolean => isErrorKind(error, "conflict");
    for (const name of [secret, secret.slice(0, 12)]) {
      const creating = inner.containers.createContainer({ name, config: { image: "shell" } });
      await assert.rejects(creating, isConflict);
    }
    await assert.rejects(inner.networks.createNetwork({ name: network?.id ?? "" }), isConflict);
    await assert.rejects(inner.containers.createContainer({ name: "SECRET" }), isConflict);
    const { id: linked } = await inner.containers.createContainer({
      name: "linked",
      config: { image: "shell" },
    });
    const { id } = await inner.containers.createContainer({
      ...{ config: { image: "shell" }, hostConfig: { networkMode: "bridge", links: ["linked:x"] } },
    });
    assert.equal(bench.state.containers.get(id)?.links[0]?.containerId, linked);
    await inner.containers.removeContainer({ container: id });
    await inner.containers.removeContainer({ container: linked });
  });

  it("is refused more references than a container may have before one is looked up", async () => {
    const isInvalid = (error: unknown): boolean => isErrorKind(error, "invalid");
    const many = (text: string) => Array.from({ length: 5_000 }, (_, at) => `${text}${at}:/m${at}`);
    const create = (hostConfig: MessageInitShape<typeof HostConfigSchema>) =>
      inner.containers.createContainer({ config: { image: "shell" }, hostConfig });
    await assert.rejects(create({ binds: many("many") }), isInvalid);
    await assert.rejects(create({ volumesFrom: many("c") }), isInvalid);
    await assert.rejects(create({ links: many("c") }), isInvalid);
    assert.equal(bench.state.volumes.has("many0"), false);
  });

  it("is in no network of others in the place of its own that is gone", async () => {
    await inner.networks.createNetwork({ name: "replaced" });
    await inner.networks.connectNetwork({ network: "replaced", container: job });
    const record = bench.state.containers.get(job);
    await inner.networks.disconnectNetwork({ network: "replaced", container: job });
    await inner.networks.removeNetwork({ network: "replaced" });
    await bench.networks.createNetwork({ name: "replaced" });
    const { network } = await bench.networks.inspectNetwork({ network: "replaced" });
    const stopped = record && { ...bench.state.containers.get(job), endpoints: record.endpoints };
    await bench.state.commit((change) => change.containers.put(stopped as NonNullable<typeof record>));
    await assert.rejects(inner.networks.inspectNetwork({ network: network?.id ?? "" }), (error) =>
      isErrorKind(error, "not-found"),
    );
    await assert.rejects(inner.containers.startContainer({ container: job }), (error) =>
      isErrorKind(error, "not-found"),
    );
    const { replaced: _replaced, ...endpoints } = record?.endpoints ?? {};
    await bench.state.commit((change) =>
      change.containers.put({ ...stopped, endpoints } as NonNullable<typeof record>),
    );
    await bench.networks.removeNetwork({ network: "replaced" });
  });

  it("mounts no volume of others in the place of its own that is gone", async () => {
    const { id } = await inner.containers.createContainer({
      ...{ name: "mounting", config: { image: "shell" } },
      hostConfig: { binds: ["later:/data"], networkMode: "bridge" },
    });
    const record = bench.state.containers.get(id);
    await inner.containers.removeContainer({ container: id });
    await inner.volumes.removeVolume({ name: "later" });
    await bench.volumes.createVolume({ name: "later" });
    assert.ok(record);
    assert.throws(
      () => resolveMounts(record, bench.state),
      (error) => isErrorKind(error, "not-found"),
    );
    await bench.volumes.removeVolume({ name: "later" });
  });

  it("mounts no directory of a volume of others in the place of its own that is gone", async () => {
    const { id } = await inner.containers.createContainer({
      config: { image: "shell" },
      hostConfig: {
        networkMode: "bridge",
        mounts: [
          { type: "volume", source: "later", target: "/data", volumeOptions: { subpath: "directory" } },
        ],
      },
    });
    await inner.volumes.removeVolume({ name: "later" });
    await bench.volumes.createVolume({ name: "later" });
    await assert.rejects(inner.containers.startContainer({ container: id }), (error) =>
      isErrorKind(fromUnknown(error), "not-found"),
    );
    assert.deepEqual([...bench.machine.volumeParts], []);
    await inner.containers.removeContainer({ container: id });
    await bench.volumes.removeVolume({ name: "later" });
  });

  it("removes no volume of others that has taken the name of its own meanwhile", async () => {
    for (const name of ["first", "later", "pruned"]) {
      await inner.volumes.createVolume({ name });
    }
    const busyRemoval = Promise.withResolvers<void>();
    bench.machine.busyRemoval = busyRemoval;
    const all = { all: { values: ["1"] }, "label!": { values: ["unknown"] } };
    const pruned = inner.volumes.pruneVolumes({ filters: all });
    await untilTrue(() => bench.machine.busyRemoval === undefined);
    await inner.volumes.removeVolume({ name: "pruned" });
    await bench.volumes.createVolume({ name: "pruned" });

    bench.machine.busyRemoval = busyRemoval;
    const removed = inner.volumes.removeVolume({ name: "later" });
    await untilTrue(() => bench.machine.busyRemoval === undefined);
    const made = bench.volumes.createVolume({ name: "later" });
    await setTimeout(20); // It waits for the removal.
    const removedAgain = inner.volumes.removeVolume({ name: "later", force: true });
    await setTimeout(20);
    busyRemoval.resolve();
    assert.deepEqual((await pruned).removed, ["first"]);
    await Promise.all([removed, made, removedAgain]);
    for (const name of ["pruned", "later"]) {
      assert.ok(bench.state.volumes.get(name), name);
      await bench.volumes.removeVolume({ name });
    }
  });

  it("lists, counts and prunes what is its own", async () => {
    const { id } = await inner.containers.createContainer({
      config: { image: "shell" },
      hostConfig: { binds: ["own:/data"], networkMode: "bridge" },
    });
    await inner.networks.createNetwork({ name: "ownnet" });
    const ids = async () =>
      (await inner.containers.listContainers({ all: true })).containers.map((each) => each.id);
    assert.deepEqual(await ids(), [id, job]);
    assert.deepEqual(
      (await inner.containers.listContainers({ limit: 1 })).containers.map((each) => each.id),
      [id],
    );
    const info = await inner.system.getInfo({});
    assert.deepEqual([info.containersRunning, info.containersStopped, info.eventsListeners], [1, 1, 0]);
    const usage = await inner.system.getDiskUsage({});
    assert.deepEqual(
      usage.volumes.map(({ volume }) => volume?.name),
      ["own"],
    );
    assert.deepEqual(usage.containers.map((each) => each.id).toSorted(), [id, job].toSorted());
    assert.deepEqual(
      (await inner.volumes.listVolumes({})).volumes.map(({ name }) => name),
      ["own"],
    );
    assert.deepEqual((await inner.networks.listNetworks({})).networks.map(({ name }) => name).toSorted(), [
      "bridge",
      "ownnet",
      "shared",
    ]);
    const stopped = await bench.createScript("true", { name: "stopped" });
    assert.deepEqual((await inner.containers.pruneContainers({})).removed, [id]);
    assert.deepEqual((await inner.networks.pruneNetworks({})).removed, ["ownnet"]);
    assert.deepEqual((await inner.volumes.pruneVolumes({ filters: { all: { values: ["1"] } } })).removed, [
      "own",
    ]);
    await bench.containers.removeContainer({ container: stopped });
  });

  it("leaves no mark on an image that is committed from a container of its own", async (context) => {
    const { images } = bench.engine.context;
    const { id } = await inner.containers.createContainer({
      config: { image: "shell", labels: { mine: "1" } },
      hostConfig: { networkMode: "bridge" },
    });
    await inner.containers.startContainer({ container: id });
    const commit = context.mock.method(images, "commit");
    await bench.containers.commitContainer({ container: id, reference: "saved:1" });
    assert.equal(commit.mock.calls[0]?.arguments[0].config.labels["mine"], "1");
    assert.deepEqual(
      Object.keys(commit.mock.calls[0]?.arguments[0].config.labels ?? {}).filter((key) =>
        key.startsWith("sockerless."),
      ),
      [],
    );
    await bench.containers.removeContainer({ container: id, force: true });
  });

  it("sees events of its own, also of what is gone", async () => {
    await bench.volumes.createVolume({ name: "foreign" });
    await bench.volumes.removeVolume({ name: "foreign" });
    const { id } = await inner.containers.createContainer({
      config: { image: "shell" },
      hostConfig: { networkMode: "bridge" },
    });
    await inner.containers.removeContainer({ container: id });
    const request = { sinceUnixNs: 0n, untilUnixNs: BigInt(Date.now()) * 1_000_000n };
    const seen = new Set<string>();
    for await (const { message } of inner.events.subscribeEvents(request)) {
      if (message.case === "event" && message.value.type === "container") {
        seen.add(message.value.actorId);
      }
      assert.doesNotMatch(
        JSON.stringify(message, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
        /foreign|secret/,
      );
    }
    assert.ok(seen.has(job) && seen.has(id));
    assert.ok(!seen.has(secret));
  });

  it("acts as the container that made its own, and cannot say that it is another's", async () => {
    const { id } = await inner.containers.createContainer({
      config: { image: "shell", labels: { ...asLabel(secret), "sockerless.build": "x", mine: "1" } },
      hostConfig: { networkMode: "bridge", binds: ["/var/run/docker.sock:/var/run/docker.sock"] },
    });
    const { container } = await bench.containers.inspectContainer({ container: id });
    assert.deepEqual(container?.config?.labels, { ...asLabel(job), mine: "1", vendor: "test" });
    const { sockets, creator } = await bench.containers.describePorts({ container: id });
    assert.equal(creator, job);
    assert.deepEqual(
      sockets.map(({ path, full }) => [path, full]),
      [["/var/run/docker.sock", false]],
    );
    const reaper = bench.acting(id);
    assert.deepEqual(
      (await reaper.containers.listContainers({ all: true })).containers.map((each) => each.id),
      [id, job],
    );
    await assert.rejects(reaper.containers.inspectContainer({ container: secret }), (error) =>
      isErrorKind(error, "not-found"),
    );
    await reaper.containers.removeContainer({ container: id });
    await assert.rejects(reaper.containers.listContainers({}), (error) => isErrorKind(error, "not-found"));
  });
});

describe("what was made through a container's Docker socket", () => {
  const bench = EngineBench.ofEach(() => options);

  async function make(): Promise<string> {
    const job = await bench.runScript(forLong, { hostConfig: { networkMode: "bridge" } });
    const inner = bench.acting(job);
    await inner.networks.createNetwork({ name: "net" });
    const { id } = await inner.containers.createContainer({
      config: { image: "shell", cmd: { values: ["sh", "-c", forLong] } },
      hostConfig: { networkMode: "net", binds: ["vol:/data"] },
    });
    await inner.containers.startContainer({ container: id });
    const gone = await inner.containers.createContainer({
      config: { image: "shell", volumes: ["/data"] },
      hostConfig: { networkMode: "net" },
    });
    await inner.containers.removeContainer({ container: gone.id }); // Its anonymous volume stays.
    assert.equal((await inner.volumes.listVolumes({})).volumes.length, 2);
    await inner.volumes.createVolume({ name: "kept", labels: { "sockerless.inner-socket.keep": "" } });
    return job;
  }

  const isLeftAlone = (): boolean =>
    [...bench.state.containers.keys()].length === 0 &&
    [...bench.state.volumes.keys()].join() === "kept" &&
    bench.state.networks.named("net") === undefined;

  it("goes with the container", async () => {
    const job = await make();
    await bench.containers.removeContainer({ container: job, force: true });
    await untilTrue(isLeftAlone);
  });

  it("does not go with it where it is a volume of a container that stays", async () => {
    const job = await bench.runScript(forLong);
    const { containers } = bench.acting(job);
    const { id } = await containers.createContainer({
      config: {
        ...{ image: "shell", cmd: { values: ["true"] }, volumes: ["/anonymous"] },
        labels: { "sockerless.inner-socket.keep": "" },
      },
      hostConfig: { binds: ["data:/data"] },
    });
    await bench.containers.removeContainer({ container: job, force: true });
    await bench.containers.removeContainer({ container: id });
    const volumes = [...bench.state.volumes.keys()].sort();
    assert.equal(volumes.length, 2);
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.deepEqual([...bench.state.volumes.keys()].sort(), volumes);
  });

  it("goes when the backend comes back that ended before it could", async () => {
    const job = await make();
    bench.machine.dockerSocket = "off"; // As if it had died right after the removal.
    await bench.stopBackend();
    await bench.startBackend();
    await bench.containers.removeContainer({ container: job, force: true });
    bench.machine.dockerSocket = "own";
    await bench.stopBackend();
    await bench.startBackend();
    await untilTrue(isLeftAlone);
  });
});
