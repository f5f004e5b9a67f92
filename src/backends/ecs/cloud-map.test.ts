import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import type { ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";

import { ManualClock } from "../../common/manual-clock.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { AwsService } from "./aws/clients.ts";
import { CloudMapDiscovery } from "./cloud-map.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { fakeClient, refusal } from "./testing/fake-client.ts";

const net = "a".repeat(64);
const net12 = "a".repeat(12);

/** Cloud Map's services by name, each with the addresses of its instances. */
class FakeCloudMap {
  readonly services = new Map<string, { description: string; instances: Map<string, string> }>();
  /** A service is in use for so many deletions after its last instance went. */
  busyDeletions = 0;
  failing = 0;
  readonly fake = fakeClient<AwsService<ServiceDiscoveryClient>>({
    ListServices: () => ({
      Services: [...this.services].map(([Name, { description }]) => ({
        Id: Name,
        Name,
        Description: description,
      })),
    }),
    ListInstances: ({ ServiceId }) => ({
      Instances: [...(this.services.get(String(ServiceId))?.instances ?? [])].map(([Id, address]) => ({
        Id,
        Attributes: { [address.includes(":") ? "AWS_INSTANCE_IPV6" : "AWS_INSTANCE_IPV4"]: address },
      })),
    }),
    CreateService: ({ Name, Description }) => {
      if (this.failing > 0) {
        this.failing -= 1;
        throw refusal("servicediscovery", "CreateService", "NamespaceNotFound");
      }
      this.services.set(String(Name), { description: String(Description), instances: new Map() });
      return { Service: { Id: Name } };
    },
    RegisterInstance: ({ ServiceId, InstanceId, Attributes }) => {
      const [address = ""] = Object.values(Attributes as Record<string, string>);
      const service = this.services.get(String(ServiceId));
      if (service === undefined) {
        throw refusal("servicediscovery", "RegisterInstance", "ServiceNotFound");
      }
      service.instances.set(String(InstanceId), address);
      return {};
    },
    DeregisterInstance: ({ ServiceId, InstanceId }) => {
      this.services.get(String(ServiceId))?.instances.delete(String(InstanceId));
      return {};
    },
    DeleteService: ({ Id }) => {
      if (this.busyDeletions > 0) {
        this.busyDeletions -= 1;
        throw refusal("servicediscovery", "DeleteService", "ResourceInUse");
      }
      this.services.delete(String(Id));
      return {};
    },
  });

  get names(): Record<string, string[]> {
    return Object.fromEntries(
      [...this.services].map(([name, { instances }]) => [name, [...instances.values()]]),
    );
  }
}

function container(digit: string, name: string, aliases: string[] = []): ContainerRecord {
  return create(ContainerRecordSchema, {
    id: digit.repeat(64),
    name,
    endpoints: { web: { networkId: net, config: { aliases } }, bridge: { networkId: "b".repeat(64) } },
  });
}

describe("names in Cloud Map", () => {
  let cloud: FakeCloudMap;
  let clock: ManualClock;
  let log: ReturnType<typeof capturedLogger>;
  beforeEach(() => {
    cloud = new FakeCloudMap();
    clock = new ManualClock();
    log = capturedLogger();
  });
  const start = (instance = "one") =>
    new CloudMapDiscovery({
      serviceDiscovery: cloud.fake.client,
      namespaceId: "ns-1",
      instance,
      clock,
      logger: log.logger,
    });

  it("are there for every name on user-defined networks while the container runs", async () => {
    const discovery = start();
    discovery.announce(container("1", "api", ["backend", "not a label"]), "10.0.0.1");
    discovery.announce(container("2", "api2", ["backend"]), "10.0.0.2");
    assert.deepEqual(cloud.fake.calls, [], "nobody waits for Cloud Map");
    await clock.advance(1);
    assert.deepEqual(cloud.names, {
      [`api.${net12}`]: ["10.0.0.1"],
      [`api2.${net12}`]: ["10.0.0.2"],
      [`backend.${net12}`]: ["10.0.0.1", "10.0.0.2"],
    });
    discovery.withdraw("1".repeat(64));
    await clock.advance(1);
    assert.deepEqual(cloud.names, {
      [`api2.${net12}`]: ["10.0.0.2"],
      [`backend.${net12}`]: ["10.0.0.2"],
    });
    discovery.forgetNetwork(net);
    await clock.advance(1);
    assert.deepEqual(cloud.names, {});
    await discovery.close();
  });

  it("are there again once another container has one whose service somebody has deleted", async () => {
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    cloud.services.clear();
    discovery.announce(container("2", "api"), "10.0.0.2");
    await clock.advance(1);
    await clock.advance(60_000);
    assert.deepEqual(cloud.names, { [`api.${net12}`]: ["10.0.0.1", "10.0.0.2"] });
    await discovery.close();
  });

  it("have IPv6 addresses where containers have those alone, also for the next process", async () => {
    const first = start();
    first.announce(container("1", "api"), "2001:db8::7");
    await clock.advance(1);
    assert.deepEqual(cloud.fake.made("CreateService")[0]?.["DnsConfig"], {
      RoutingPolicy: "MULTIVALUE",
      DnsRecords: [{ Type: "AAAA", TTL: 5 }],
    });
    assert.deepEqual(cloud.fake.made("RegisterInstance")[0]?.["Attributes"], {
      AWS_INSTANCE_IPV6: "2001:db8::7",
    });
    await first.close();
    const second = start();
    second.announce(container("1", "api"), "2001:db8::7");
    second.reconcile(new Set(["1".repeat(64)]));
    await clock.advance(1);
    assert.equal(cloud.fake.made("RegisterInstance").length, 1);
    assert.deepEqual(cloud.names, { [`api.${net12}`]: ["2001:db8::7"] });
    await second.close();
  });

  it("follow a container to its next address", async () => {
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    discovery.announce(container("1", "api"), "10.0.0.9");
    await clock.advance(1);
    assert.deepEqual(cloud.names, { [`api.${net12}`]: ["10.0.0.9"] });
    assert.equal(cloud.fake.made("CreateService").length, 1);
    await discovery.close();
  });

  it("follow a container to its next name, and aliases stay as they are", async () => {
    const discovery = start();
    discovery.announce(container("1", "api", ["backend"]), "10.0.0.1");
    await clock.advance(1);
    discovery.withdraw("1".repeat(64));
    discovery.announce(container("1", "web.v2", ["backend"]), "10.0.0.1");
    await clock.advance(1);
    assert.deepEqual(cloud.names, {
      [`backend.${net12}`]: ["10.0.0.1"],
      [`web.v2.${net12}`]: ["10.0.0.1"],
    });
    const registered = cloud.fake.made("RegisterInstance").map(({ ServiceId }) => ServiceId);
    assert.equal(registered.filter((each) => each === `backend.${net12}`).length, 1);
    await discovery.close();
  });

  it("may have dots, and are left out where a label or the whole is none that Cloud Map takes", async () => {
    const discovery = start();
    const refused = ["_", "a..b", "-a", "a.", "x".repeat(64), `${"x".repeat(60)}.${"y".repeat(60)}`];
    discovery.announce(container("1", "db.internal", ["a_b", ...refused]), "10.0.0.1");
    await clock.advance(1);
    assert.deepEqual(new Set(Object.keys(cloud.names)), new Set([`a_b.${net12}`, `db.internal.${net12}`]));
    await discovery.close();
  });

  it("are tried again after a refusal, a service that is still in use too", async () => {
    cloud.failing = 2;
    cloud.busyDeletions = 2;
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    await clock.advance(10_000);
    assert.deepEqual(cloud.names, { [`api.${net12}`]: ["10.0.0.1"] });
    discovery.withdraw("1".repeat(64), net);
    await clock.advance(1);
    await clock.advance(10_000);
    assert.deepEqual(cloud.names, {});
    await discovery.close();
  });

  it("come at once while a service that is still in use is deleted again and again", async () => {
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    cloud.busyDeletions = 6;
    discovery.withdraw("1".repeat(64), net);
    await clock.advance(1);
    await clock.advance(10_000); // The next deletion is seconds away.
    assert.ok(cloud.busyDeletions > 0);
    discovery.announce(container("2", "db"), "10.0.0.2");
    await clock.advance(1);
    assert.deepEqual(cloud.names[`db.${net12}`], ["10.0.0.2"]);
    await clock.advance(60_000);
    await clock.advance(60_000);
    assert.deepEqual(cloud.names, { [`db.${net12}`]: ["10.0.0.2"] });
    await discovery.close();
  });

  it("are given up with a warning when Cloud Map goes on refusing", async () => {
    cloud.failing = 1_000;
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    await clock.advance(3_600_000);
    assert.match(log.warnings()[0] ?? "", /Cloud Map does not take a name: .*NamespaceNotFound/);
    const asked = cloud.fake.calls.length;
    await clock.advance(3_600_000);
    assert.equal(cloud.fake.calls.length, asked);
    await discovery.close();
  });

  it("are not looked at while calls of their kind pause, and come once one of them does", async () => {
    let looks = 0;
    clock = new (class extends ManualClock {
      override nowMs(): number {
        looks += 1;
        return super.nowMs();
      }
    })();
    cloud.failing = 8;
    const discovery = start();
    const count = 60;
    for (let index = 0; index < count; index++) {
      const aliases = Array.from({ length: 30 }, (_, alias) => `n${index}-${alias}`);
      const id = String(index).padStart(64, "0");
      discovery.announce({ ...container("1", `c${index}`, aliases), id }, "10.0.0.1");
    }
    const pass = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second++) {
        await clock.advance(1_000);
        await nextTurn();
        await nextTurn();
      }
    };
    await clock.advance(1);
    for (let turn = 0; turn < count * 31; turn++) {
      await nextTurn();
    }
    const first = looks;
    await pass(100);
    assert.equal(cloud.failing, 1);
    assert.ok(looks - first < 1_000, `${looks - first} looks`);
    await pass(100);
    assert.equal(cloud.services.size, count * 31);
    await discovery.close();
  });

  it("are 32 of each container", async () => {
    const discovery = start();
    const aliases = Array.from({ length: 40 }, (_, index) => `alias${index}`);
    discovery.announce(container("1", "api", aliases), "10.0.0.1");
    discovery.announce(container("1", "api", ["later"]), "10.0.0.1");
    discovery.announce(container("2", "db", ["alias39"]), "10.0.0.2");
    await clock.advance(1);
    const own = Object.entries(cloud.names).filter(([, addresses]) => addresses.includes("10.0.0.1"));
    assert.equal(own.length, 32);
    assert.deepEqual(cloud.names[`alias39.${net12}`], ["10.0.0.2"]);
    assert.match(
      log.warnings()[0] ?? "",
      /^9 names of a container are not in Cloud Map, which takes at most 32 of a container/,
    );
    discovery.withdraw("1".repeat(64));
    discovery.announce(container("1", "api", ["later"]), "10.0.0.1");
    await clock.advance(1);
    assert.equal(cloud.services.size, 4);
    await discovery.close();
  });

  it("of containers that ended while nobody looked are cleared away, others' are let be", async () => {
    const first = start();
    first.announce(container("1", "api", ["both"]), "10.0.0.1");
    first.announce(container("2", "db", ["both"]), "10.0.0.2");
    const other = start("two");
    other.announce(container("3", "theirs"), "10.0.0.3");
    await clock.advance(1);
    await first.close();
    const second = start();
    second.reconcile(new Set(["2".repeat(64)]));
    await clock.advance(1);
    assert.deepEqual(cloud.names, {
      [`both.${net12}`]: ["10.0.0.2"],
      [`db.${net12}`]: ["10.0.0.2"],
      [`theirs.${net12}`]: ["10.0.0.3"],
    });
    await Promise.all([second.close(), other.close()]);
  });

  it("do not come back while a container that has lost them still counts as running", async () => {
    const one = "1".repeat(64);
    const first = start();
    first.announce(container("1", "api", ["backend"]), "10.0.0.1");
    await clock.advance(1);
    const expectNone = async (discovery: CloudMapDiscovery): Promise<void> => {
      discovery.reconcile(new Set([one])); // Listed before it lost them, or running on without them.
      await clock.advance(1);
      assert.deepEqual(Object.values(cloud.names).flat(), []);
    };
    first.withdraw(one, net);
    await expectNone(first);
    first.announce(container("1", "api", ["backend"]), "10.0.0.1");
    await clock.advance(1);
    await first.close();
    for (const lose of [
      (discovery: CloudMapDiscovery) => discovery.withdraw(one),
      (discovery: CloudMapDiscovery) => discovery.withdraw(one, net),
      (discovery: CloudMapDiscovery) => discovery.forgetNetwork(net),
    ]) {
      const second = start();
      lose(second); // Before it is known what is there.
      await expectNone(second);
      second.announce(container("1", "api", ["backend"]), "10.0.0.1");
      await clock.advance(1);
      await second.close();
    }
  });

  it("are those of the last renaming, whatever is listed meanwhile", async () => {
    const discovery = start();
    discovery.announce(container("1", "api"), "10.0.0.1");
    await clock.advance(1);
    discovery.reconcile(new Set(["1".repeat(64)]));
    await clock.advance(1);
    discovery.withdraw("1".repeat(64));
    discovery.announce(container("1", "web"), "10.0.0.1");
    discovery.reconcile(new Set(["1".repeat(64)]));
    await clock.advance(1);
    assert.deepEqual(cloud.names, { [`web.${net12}`]: ["10.0.0.1"] });
    await discovery.close();
  });
});
