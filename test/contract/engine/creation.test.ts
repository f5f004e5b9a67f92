import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";

import { type ErrorKind, fromUnknown, isErrorKind, messageOf } from "../../../src/common/errors.ts";
import type { VolumeStore } from "../../../src/backends/driver/volumes.ts";
import type { HostConfigSchema } from "../../../src/gen/sockerless/backend/v1/config_pb.ts";
import type { VolumeRecord } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { EngineBench } from "../engine-bench.ts";

/** How a driver makes directories of volumes, to be changed. */
function madeParts({ parts }: VolumeStore): {
  limitMs?: number;
  create: (record: VolumeRecord, subpath: string) => Promise<string>;
} {
  assert.ok(parts.kind === "made");
  return parts;
}

describe("a creation", () => {
  const bench = EngineBench.ofEach();

  const inspect = async (container: string) => {
    const { container: detail } = await bench.containers.inspectContainer({ container });
    assert.ok(detail?.config !== undefined && detail.hostConfig !== undefined);
    return { ...detail, config: detail.config, hostConfig: detail.hostConfig };
  };

  it("shows the image's defaults, the user's settings and Docker's own", async () => {
    const id = await bench.createScript("true", { config: { env: ["MINE=1"] } });
    const { config, hostConfig, path, args, name } = await inspect(id);
    assert.deepEqual([path, ...args], ["sh", "-c", "true"]);
    assert.match(name, /^\/[a-z]+_[a-z]+$/);
    assert.equal(config.image, "shell");
    assert.equal(config.hostname, id.slice(0, 12));
    assert.deepEqual(config.env, ["MINE=1", "FROM_IMAGE=1", "PATH=/usr/local/bin:/usr/bin:/bin"]);
    assert.equal(config.labels["vendor"], "test");
    assert.equal(hostConfig.networkMode, "bridge");
    assert.equal(hostConfig.restartPolicy?.name, "no");
    assert.equal(hostConfig.logConfig?.type, "json-file");
    assert.equal(hostConfig.shmSize, 67_108_864n);
    assert.ok(hostConfig.maskedPaths?.values.includes("/proc/kcore"));
  });

  it("waits for two commits where nothing is mounted: that it begins, and that it is whole", async (test) => {
    const commit = test.mock.method(bench.state, "commit");
    const counts: number[] = [];
    for (let n = 0; n < 3; n++) {
      commit.mock.resetCalls();
      await bench.createScript("true");
      counts.push(commit.mock.callCount());
    }
    assert.equal(
      Math.min(...counts),
      2,
      `a backend that has just been started commits too: ${counts.join()}`,
    );
  });

  it("commits once for each volume, however often that is mounted", async (test) => {
    await bench.createScript("true");
    const commit = test.mock.method(bench.state, "commit");
    const binds = Array.from({ length: 100 }, (_, at) => `data:/mnt/${at}`);
    const id = await bench.createScript("true", { hostConfig: { binds } });
    assert.ok(commit.mock.callCount() < 10, `${commit.mock.callCount()} commits`);
    const { mounts } = await inspect(id);
    assert.deepEqual(
      mounts.map(({ name, destination }) => `${name}:${destination}`),
      binds,
    );
    const many = Array.from({ length: 257 }, (_, at) => `data${at}:/mnt/${at}`);
    await assert.rejects(
      bench.createScript("true", { hostConfig: { binds: many } }),
      /a container mounts at most 256 volumes: 257 are named/,
    );
    assert.deepEqual([...bench.state.volumes.keys()], ["data"]);
  });

  it("hides what its machine hides, and nothing where its user says so", async () => {
    const plain = await inspect(await bench.createScript("true"));
    assert.ok(plain.hostConfig.maskedPaths?.values.includes("/sys/of-this-machine"));
    assert.deepEqual(plain.hostConfig.readonlyPaths?.values, ["/proc/sys"]);
    const open = await inspect(
      await bench.createScript("true", { hostConfig: { maskedPaths: { values: [] } } }),
    );
    assert.deepEqual(open.hostConfig.maskedPaths?.values, []);
  });

  it("makes the volumes it names and needs, and takes away its own with `rm -v` only", async () => {
    const id = await bench.createScript("true", {
      config: { image: "with-volume" },
      hostConfig: { binds: ["named:/n", "/anonymous"] },
    });
    const { mounts } = await inspect(id);
    assert.deepEqual(mounts.map((mount) => mount.destination).sort(), ["/anonymous", "/data", "/n"]);
    assert.equal(bench.machine.volumes.size, 3);
    await assert.rejects(
      bench.volumes.removeVolume({ name: "named" }),
      (error) =>
        isErrorKind(error, "conflict") && messageOf(error) === `remove named: volume is in use - [${id}]`,
    );
    await bench.containers.removeContainer({ container: id, volumes: true });
    assert.deepEqual([...bench.machine.volumes], ["named"]);
    await bench.volumes.removeVolume({ name: "named" });
    await assert.rejects(
      bench.volumes.removeVolume({ name: "named" }),
      (error) => messageOf(error) === "get named: no such volume",
    );
    await bench.volumes.removeVolume({ name: "named", force: true });
  });

  it("takes away with a volume the parts of it that were made, whatever was said of them", async (context) => {
    const mounts = ["one", "two"].map((subpath) => ({
      type: "volume",
      source: "parted",
      target: `/${subpath}`,
      volumeOptions: { subpath },
    }));
    const id = await bench.createScript("true", { hostConfig: { mounts } });
    const { volumes } = bench.engine.context.driver;
    const parts = madeParts(volumes);
    const { remove } = volumes;
    const createPart = parts.create;
    const known = () =>
      bench.state.volumes
        .get("parted")
        ?.parts.map(({ subpath, driverReference }) => [subpath, driverReference]);
    context.mock.method(parts, "create", async (record: VolumeRecord, subpath: string) => {
      const reference = await createPart.call(parts, record, subpath);
      if (subpath === "two") {
        throw new Error("the answer was lost");
      }
      return reference;
    });
    await assert.rejects(bench.containers.startContainer({ container: id }), /the answer was lost/);
    assert.deepEqual(known(), [
      ["one", "reference of one"],
      ["two", ""],
    ]);
    await bench.containers.removeContainer({ container: id });
    const failing = context.mock.method(volumes, "remove", async () => {
      bench.machine.volumeParts.delete("parted/one");
      throw new Error("the whole stays");
    });
    await assert.rejects(bench.volumes.removeVolume({ name: "parted" }), /the whole stays/);
    const unknown = [
      ["one", ""],
      ["two", ""],
    ];
    assert.deepEqual(known(), unknown, "what is gone is not mounted");
    failing.mock.mockImplementation(remove);
    await bench.volumes.removeVolume({ name: "parted" });
    assert.deepEqual([...bench.machine.volumeParts, ...bench.machine.volumes], []);
  });

  it("waits for a part of a volume no longer than the driver says, and has it at the next start", async (context) => {
    const mounts = [
      { type: "volume", source: "slow", target: "/x", volumeOptions: { subpath: "x" } },
      { type: "volume", source: "slow", target: "/y", volumeOptions: { subpath: "y" } },
    ];
    const id = await bench.createScript("true", { hostConfig: { mounts } });
    const { clock, driver } = bench.engine.context;
    const parts = madeParts(driver.volumes);
    const begun = Promise.withResolvers<void>();
    const made = Promise.withResolvers<void>();
    context.after(() => {
      made.resolve();
      delete parts.limitMs;
    });
    const asked: string[] = [];
    context.mock.method(parts, "create", async (_: VolumeRecord, subpath: string) => {
      asked.push(subpath);
      begun.resolve();
      await made.promise;
      return `reference of ${subpath}`;
    });
    const limitMs = 123_000;
    parts.limitMs = limitMs;
    const { sleep } = clock;
    context.mock.method(clock, "sleep", (ms: number, signal?: AbortSignal) =>
      ms === limitMs ? begun.promise : sleep.call(clock, ms, signal),
    );
    await assert.rejects(
      bench.containers.startContainer({ container: id }),
      /its volumes cannot be mounted: they were not ready within 123 s/,
    );
    assert.deepEqual(asked, ["x"]);
    delete parts.limitMs;
    made.resolve();
    await bench.containers.startContainer({ container: id });
    assert.deepEqual(asked, ["x", "y"], "the first was finished behind");
    await bench.containers.removeContainer({ container: id, force: true });
    await bench.volumes.removeVolume({ name: "slow" });
  });

  it("leaves nothing behind when it fails", async () => {
    const refused: readonly (readonly [MessageInitShape<typeof HostConfigSchema>, ErrorKind, RegExp])[] = [
      [{ privileged: true }, "not-implemented", /^the local backend does not support --privileged$/],
      [{ links: ["a:b"] }, "invalid", /^could not get container for a: No such container: a$/],
      [{ binds: ["a:/x", "b:/x"] }, "invalid", /^Duplicate mount point: \/x$/],
      [{ volumesFrom: ["nobody"] }, "invalid", /^No such container: nobody$/],
      [
        { mounts: [{ type: "bind", source: "/no/such/path", target: "/x" }] },
        "invalid",
        /^invalid mount config for type "bind": bind source path does not exist: \/no\/such\/path$/,
      ],
      [{ binds: ["x:/y"], mounts: [{ type: "volume", source: "v", target: "/y" }] }, "invalid", /Duplicate/],
      [{ binds: ["!!:/y"] }, "invalid", /includes invalid characters for a local volume name/],
      [{ portBindings: [{ containerPort: "http" }] }, "invalid", /invalid port specification: "http"/],
      [{ capAdd: ["FLY"] }, "invalid", /^invalid CapAdd: unknown capability: "CAP_FLY"$/],
      [{ resources: { memory: 1024n } }, "invalid", /^Minimum memory limit allowed is 6MB$/],
      [
        { restartPolicy: { name: "sometimes" } },
        "invalid",
        /^invalid restart policy: unknown policy 'sometimes'/,
      ],
      [
        { autoRemove: true, restartPolicy: { name: "always" } },
        "invalid",
        /'AutoRemove' container with restart/,
      ],
      [{ logConfig: { type: "syslog" } }, "invalid", /^logger: no log driver named 'syslog' is registered$/],
      [{ logConfig: { type: "papyrus" } }, "invalid", /no log driver named 'papyrus' is registered/],
      [{ logConfig: { type: "json-file", config: { mode: "x" } } }, "invalid", /^logger: logging mode not/],
      [{ networkMode: "container:" }, "invalid", /^invalid network mode: invalid container format/],
      [{ networkMode: "container" }, "invalid", /^invalid network mode: invalid container format/],
      [{ networkMode: "container:b", dns: ["::1"] }, "invalid", /^conflicting options: dns and the network/],
      [{ isolation: "hyperv" }, "invalid", /^invalid isolation \(hyperv\): linux only supports 'default'$/],
    ];
    for (const [hostConfig, kind, message] of refused) {
      await assert.rejects(bench.createScript("true", { hostConfig }), (error) => {
        const { kind: got, message: text } = fromUnknown(error);
        assert.deepEqual([got, message.test(text)], [kind, true], `${got}: ${text}`);
        return true;
      });
    }
    await assert.rejects(
      bench.createScript("true", { config: { image: "missing" } }),
      (error) => isErrorKind(error, "not-found") && messageOf(error) === "No such image: missing:latest",
    );
    await assert.rejects(
      bench.createScript("true", { name: "a b" }),
      (error) =>
        messageOf(error) === "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    );
    assert.equal(bench.state.containers.size, 0);
    assert.equal(bench.machine.workloads.size, 0);
    assert.deepEqual([...bench.machine.volumes], []);
  });

  it("accepts what clients send to say nothing", async () => {
    const id = await bench.createScript("true", {
      hostConfig: {
        networkMode: "default",
        logConfig: { type: "" },
        restartPolicy: { name: "" },
        resources: { memorySwappiness: -1n, pidsLimit: 0n, oomKillDisable: false },
        isolation: "",
        consoleHeight: 40,
        consoleWidth: 120,
        portBindings: [],
      },
    });
    const { hostConfig } = await inspect(id);
    assert.equal(hostConfig.resources?.memorySwappiness, undefined);
    assert.equal(hostConfig.resources?.pidsLimit, undefined);
  });

  it("tells its user and the log what the backend does not apply", async (context) => {
    bench.machine.notApplied = ({ hostConfig, endpoints, mounts }) => [
      ...(hostConfig?.oomScoreAdj === 0 ? [] : [{ name: "--oom-score-adj", why: "nobody is near" }]),
      ...(mounts.length === 0 ? [] : [{ name: "mounts", why: "there are none" }]),
      ...(endpoints["net"] === undefined ? [] : [{ name: "--mac-address", why: "it has one" }]),
    ];
    const { warn } = bench.engine.context.logger;
    const logged: unknown[] = [];
    context.mock.method(bench.engine.context.logger, "warn", function (this: unknown, ...args: unknown[]) {
      logged.push(args[1]);
      Reflect.apply(warn, this, args);
    });
    const told = "the local backend does not apply";
    const { id, warnings } = await bench.containers.createContainer({
      config: { image: "shell" },
      hostConfig: { oomScoreAdj: 100, binds: ["/:/host"] },
    });
    assert.deepEqual(warnings, [`${told} --oom-score-adj: nobody is near`, `${told} mounts: there are none`]);
    assert.deepEqual(logged.splice(0), warnings);
    assert.equal((await inspect(id)).hostConfig.oomScoreAdj, 100);
    await bench.networks.createNetwork({ name: "net" });
    await bench.networks.connectNetwork({ network: "net", container: id });
    assert.deepEqual(logged, [`${told} --mac-address: it has one`]);
  });

  it("gives an address of the default bridge while it runs, and takes it back", async () => {
    const [a, b] = [await bench.runScript("exec sleep 1000"), await bench.runScript("exec sleep 1000")];
    const addressOf = async (id: string) =>
      (await inspect(id)).networkSettings?.networks["bridge"]?.ipAddress;
    assert.deepEqual([await addressOf(a), await addressOf(b)], ["172.18.0.2", "172.18.0.3"]);
    const { network } = await bench.networks.inspectNetwork({ network: "bridge" });
    assert.deepEqual(new Set(Object.keys(network?.containers ?? {})), new Set([a, b]));
    await bench.containers.stopContainer({ container: a });
    assert.equal(await addressOf(a), "");
    await bench.engine.context.live.of(a).released;
    const c = await bench.runScript("exec sleep 1000");
    assert.equal(await addressOf(c), "172.18.0.2");
  });

  it("joins neither its own network nor that of nobody", async () => {
    const refusals = {
      me: "cannot join own network namespace",
      nobody: "joining network namespace of container: No such container: nobody",
    };
    for (const [donor, text] of Object.entries(refusals)) {
      const container = await bench.createScript("true", {
        name: donor === "me" ? "me" : "other",
        hostConfig: { networkMode: `container:${donor}` },
      });
      await assert.rejects(
        bench.containers.startContainer({ container }),
        (error) => isErrorKind(error, "system") && messageOf(error) === text,
      );
    }
  });

  it("joins the network of a container that runs, and of no other", async () => {
    const id = await bench.createScript("true", { name: "shared" });
    const joining = await bench.createScript("exec sleep 1000", {
      hostConfig: { networkMode: "container:shared" },
    });
    assert.equal((await inspect(joining)).hostConfig.networkMode, `container:${id}`);
    await assert.rejects(
      bench.containers.startContainer({ container: joining }),
      (error) =>
        isErrorKind(error, "conflict") &&
        messageOf(error) ===
          "cannot join network namespace of a non running container: " + "container shared is created",
    );
  });
});

describe("volumes", () => {
  const bench = EngineBench.ofEach();

  it("are made once by name, and are 64 digits without one", async () => {
    const first = await bench.volumes.createVolume({ name: "data", labels: { a: "1" } });
    const again = await bench.volumes.createVolume({ name: "data" });
    assert.deepEqual(again.volume, first.volume);
    const { volume } = await bench.volumes.createVolume({});
    assert.match(volume?.name ?? "", /^[0-9a-f]{64}$/);
    assert.ok(volume?.anonymous);
    await assert.rejects(
      bench.volumes.createVolume({ name: "x1", driver: "nfs" }),
      (error) => isErrorKind(error, "not-found") && /plugin "nfs" not found/.test(messageOf(error)),
    );
  });

  it("are there when a container that was made with them is, whoever removes them meanwhile", async () => {
    for (let round = 0; round < 50; round++) {
      const name = `contested${round}`;
      await bench.volumes.createVolume({ name });
      let isMade = false;
      const making = bench
        .createScript("true", { hostConfig: { binds: [`${name}:/x`] } })
        .finally(() => (isMade = true));
      while (!isMade) {
        await Promise.allSettled([1, 2].map(() => bench.volumes.removeVolume({ name })));
      }
      const container = await making;
      assert.ok(bench.machine.volumes.has(name), `round ${round}: the volume is gone`);
      await bench.volumes.inspectVolume({ name });
      await bench.containers.removeContainer({ container });
    }
  });

  it("are listed by name, driver, label and use", async () => {
    await bench.volumes.createVolume({ name: "used", labels: { team: "a" } });
    await bench.volumes.createVolume({ name: "free" });
    await bench.createScript("true", { hostConfig: { binds: ["used:/u"] } });
    const names = async (filters: Record<string, string[]>) => {
      const { volumes } = await bench.volumes.listVolumes({
        filters: Object.fromEntries(Object.entries(filters).map(([key, values]) => [key, { values }])),
      });
      return volumes.map((volume) => volume.name).join(" ");
    };
    assert.equal(await names({}), "free used");
    assert.equal(await names({ dangling: ["true"] }), "free");
    assert.equal(await names({ dangling: ["false"] }), "used");
    assert.equal(await names({ label: ["team=a"] }), "used");
    assert.equal(await names({ name: ["^f"] }), "free");
    assert.equal(await names({ driver: ["other"] }), "");
  });
});
