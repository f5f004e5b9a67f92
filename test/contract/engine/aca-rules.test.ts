/** Words of the specification for volumes and networks on Container Apps, over an engine. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { acaNetworks } from "../../../src/backends/aca/networks.ts";
import { acaVolumes, unsharedVolumes } from "../../../src/backends/aca/volumes.ts";
import { systemClock } from "../../../src/common/clock.ts";
import { type ErrorKind, isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { createLogger } from "../../../src/common/logger.ts";
import { EngineBench } from "../engine-bench.ts";

const { rules } = acaVolumes({
  files: undefined,
  dropIdleJobs: async () => {},
  instance: "sockerless/1",
  clock: systemClock,
  logger: createLogger({ level: "silent", process: "backend" }),
});

const inWords = (kind: ErrorKind, message: string) => (error: unknown) => {
  assert.deepEqual([isErrorKind(error, kind), messageOf(error)], [true, message]);
  return true;
};

describe("on Container Apps", () => {
  const bench = EngineBench.ofEach(() => ({
    cloud: true,
    prepare(machine) {
      machine.networkFabric = acaNetworks;
      machine.volumeRules = rules;
      machine.notApplied = (record) => (unsharedVolumes.isSet(record) ? [unsharedVolumes] : []);
    },
  }));

  const subnetOf = async (network: string) =>
    (await bench.networks.inspectNetwork({ network })).network?.pools[0]?.subnet;
  const endpointOf = (id: string, network: string) => bench.state.containers.get(id)?.endpoints[network];

  it("networks are slices of 172.18.0.0/16, until these are used up", async () => {
    for (let number = 0; number < 256; number++) {
      await bench.networks.createNetwork({ name: `net${number}` });
    }
    assert.deepEqual(
      [await subnetOf("bridge"), await subnetOf("net0"), await subnetOf("net255")],
      ["172.17.0.0/16", "172.18.0.0/24", "172.18.255.0/24"],
    );
    await assert.rejects(
      bench.networks.createNetwork({ name: "more" }),
      inWords("invalid", "all predefined address pools have been fully subnetted"),
    );
    await bench.networks.removeNetwork({ network: "net7" });
    await bench.networks.createNetwork({ name: "more" });
    assert.equal(await subnetOf("more"), "172.18.7.0/24");
  });

  it("a container has an address of its network, which goes back when it leaves", async () => {
    const { id: network } = await bench.networks.createNetwork({ name: "net", labels: { a: "b" } });
    assert.match(network, /^[0-9a-f]{64}$/);
    const run = (name: string) =>
      bench.runScript("exec sleep 1000", {
        name,
        hostConfig: { networkMode: "net" },
        networking: { endpoints: { net: { aliases: ["db"] } } },
      });
    const id = await run("one");
    const { ipAddress, gateway, macAddress, endpointId, dnsNames } = endpointOf(id, "net") ?? {};
    assert.deepEqual([ipAddress, gateway], ["172.18.0.2", "172.18.0.1"]);
    assert.match(macAddress ?? "", /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    assert.match(endpointId ?? "", /^[0-9a-f]{64}$/);
    assert.deepEqual(dnsNames, ["one", "db", id.slice(0, 12)]);
    const { network: inspected } = await bench.networks.inspectNetwork({ network: "net" });
    assert.equal(inspected?.containers[id]?.endpointId, endpointId);
    await assert.rejects(
      bench.networks.removeNetwork({ network: "net" }),
      inWords("forbidden", "network has active endpoints"),
    );
    assert.deepEqual((await bench.networks.pruneNetworks({})).removed, []);
    await bench.networks.disconnectNetwork({ network: "net", container: id, force: true });
    assert.equal(endpointOf(await run("two"), "net")?.ipAddress, "172.18.0.2");
    await bench.networks.disconnectNetwork({ network: "net", container: "two", force: true });
    const filters = { label: { values: ["a=c"] } };
    assert.deepEqual((await bench.networks.pruneNetworks({ filters })).removed, []);
    assert.deepEqual((await bench.networks.pruneNetworks({})).removed, ["net"]);
  });

  it("a volume is in use by a container that runs, unless it goes by force", async () => {
    const { volume } = await bench.volumes.createVolume({ name: "data", driver: "local" });
    assert.equal(volume?.driver, "azure-files");
    const hostConfig = { binds: ["data:/data"] };
    const id = await bench.runScript("exec sleep 1000", { hostConfig });
    await assert.rejects(
      bench.volumes.removeVolume({ name: "data" }),
      inWords("conflict", "volume is in use"),
    );
    await bench.volumes.removeVolume({ name: "data", force: true });
    await bench.containers.stopContainer({ container: id, timeoutSeconds: 0 });
    await bench.createScript("true", { hostConfig });
    await bench.volumes.removeVolume({ name: "data" });
  });

  it("a container that takes anonymous volumes from another is told that they are not shared", async () => {
    const config = { volumes: ["/cache"] };
    const hostConfig = { binds: ["data:/data"] };
    const create = async (said: { name: string; config?: object; hostConfig: object }) => {
      const { id, warnings } = await bench.containers.createContainer({
        ...said,
        config: { image: "shell", cmd: { values: ["true"] }, ...said.config },
      });
      return { id, warnings };
    };
    const donor = await create({ name: "donor", config, hostConfig });
    assert.deepEqual(donor.warnings, []);
    const taker = await create({ name: "taker", hostConfig: { volumesFrom: ["donor"] } });
    assert.equal(taker.warnings.length, 1);
    assert.match(taker.warnings[0] ?? "", /--volumes-from \(anonymous volumes\): .* not shared/);
    const mounts = bench.state.containers.get(taker.id)?.mounts.map(({ destination }) => destination);
    assert.deepEqual(new Set(mounts), new Set(["/cache", "/data"]));
  });
});
