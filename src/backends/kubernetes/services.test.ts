import assert from "node:assert/strict";
import type { IncomingMessage, ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import type { V1ObjectMeta, V1Service } from "@kubernetes/client-node";

import { ManualClock } from "../../common/manual-clock.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { kubernetesServices, serviceOf } from "./services.ts";
import { standIn } from "./testing/stand-in.ts";

const pod = { metadata: { name: "sockerless-cccccccccccc-1", uid: "1-2-3" } };
const place = { namespace: "docker", instance: "sockerless/0123456789abcdef" };

type Ports = readonly (readonly [string, string, string])[];

function recordOf(name: string, ...ports: Ports): ContainerRecord {
  const portBindings = ports.map(([containerPort, hostIp, hostPort]) => ({
    ...{ containerPort, hostIp, hostPort },
  }));
  return create(ContainerRecordSchema, { id: "c".repeat(64), name, hostConfig: { portBindings } });
}

function ofPorts(name: string, ...ports: Ports): V1Service | undefined {
  return serviceOf(recordOf(name, ...ports), pod, place);
}

describe("the Service of a container", () => {
  it("has the ports that the container publishes, and goes with its pod", () => {
    const service = ofPorts("web", ["80/tcp", "", "8080"], ["53/udp", "0.0.0.0", ""]);
    assert.deepEqual(service?.spec?.ports, [
      { name: "tcp-8080", port: 8080, targetPort: 80, protocol: "TCP" },
      { name: "udp-53", port: 53, targetPort: 53, protocol: "UDP" },
    ]);
    assert.deepEqual(service.spec.selector, {
      "sockerless/instance": "0123456789abcdef",
      "sockerless/container": "cccccccccccc",
    });
    assert.deepEqual(service.metadata?.ownerReferences, [
      { apiVersion: "v1", kind: "Pod", name: pod.metadata.name, uid: "1-2-3" },
    ]);
  });

  it("is not there without ports that others may reach", () => {
    assert.equal(ofPorts("web"), undefined);
    assert.equal(ofPorts("web", ["80/tcp", "127.0.0.1", "80"], ["80/tcp", "::1", "80"]), undefined);
  });

  it("has the container's name where the cluster's DNS can have it", () => {
    const nameOf = (name: string) => ofPorts(name, ["80/tcp", "", ""])?.metadata?.name;
    assert.equal(nameOf("web-1"), "web-1");
    for (const name of ["sleepy_turing", "1st", "Web", "a".repeat(64)]) {
      assert.equal(nameOf(name), "sockerless-cccccccccccc");
    }
  });

  it("is never another's that is named by its ID", () => {
    const other = "sockerless-aaaaaaaaaaaa";
    assert.equal(ofPorts(other, ["80/tcp", "", ""])?.metadata?.name, "sockerless-cccccccccccc");
  });
});

/** The API server's Services: those that are there, by name, each with its version. */
class Services {
  readonly all = new Map<string, V1Service>();
  /** Called before the next patch is taken. */
  beforePatch = (): void => {};
  #version = 0;

  put(service: V1Service): void {
    const { name = "" } = service.metadata ?? {};
    this.all.set(name, {
      ...service,
      metadata: { ...service.metadata, resourceVersion: `${++this.#version}` },
    });
  }

  readonly answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request);
    if (request.method === "PATCH" && !/(merge|apply)-patch/.test(request.headers["content-type"] ?? "")) {
      return void response.writeHead(415).end();
    }
    const given = (body === "" ? {} : JSON.parse(body)) as V1Service;
    const named = /\/services\/([^/?]+)/.exec(request.url ?? "")?.[1];
    const [status, answer] = this.#answerTo(request.method ?? "", named ?? given.metadata?.name ?? "", given);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  };

  #answerTo(method: string, name: string, given: V1Service): readonly [number, object] {
    if (method === "PATCH") {
      this.beforePatch();
      this.beforePatch = () => {};
    }
    const found = this.all.get(name);
    if (method === "POST" && found !== undefined) {
      return [409, { kind: "Status", reason: "AlreadyExists", message: `services "${name}" already exists` }];
    }
    if (method !== "POST" && found === undefined) {
      return [404, { kind: "Status", reason: "NotFound", message: `services "${name}" not found` }];
    }
    if (method === "PATCH") {
      const { resourceVersion = found?.metadata?.resourceVersion } = given.metadata ?? {};
      if (resourceVersion !== found?.metadata?.resourceVersion) {
        return [409, { kind: "Status", reason: "Conflict", message: "the object has been modified" }];
      }
    }
    if (method !== "GET") {
      this.put({ ...found, ...merged(found, given) });
    }
    return [200, this.all.get(name) ?? {}];
  }
}

/** A Service with a patch that conflicts with nothing of it. */
function merged(found: V1Service | undefined, given: V1Service): V1Service {
  const keys = (of: "labels" | "annotations"): V1ObjectMeta => ({
    [of]: { ...found?.metadata?.[of], ...given.metadata?.[of] },
  });
  return {
    metadata: { ...found?.metadata, ...given.metadata, ...keys("labels"), ...keys("annotations") },
    spec: { ...found?.spec, ...given.spec },
  };
}

describe("Services in the cluster", { timeout: 60_000 }, () => {
  const record = recordOf("db", ["5432/tcp", "", "5432"]);
  const wanted = serviceOf(record, pod, place);
  const annotations = { "sockerless/container-id": record.id };

  /** Announces the container beside what is there. @returns the Service of its name then, and what was warned of */
  async function announced(services: Services, isDone: (service: V1Service | undefined) => boolean) {
    const clock = new ManualClock();
    const { logger, warnings } = capturedLogger();
    await using server = await standIn((...args) => void services.answer(...args), clock);
    const seen = { pod: { metadata: { ...pod.metadata, annotations } }, stopped: false, deleted: false };
    const discovery = kubernetesServices({
      ...{ client: server.client, clock, logger, instance: place.instance, recordOf: () => record },
      watch: { pods: () => Promise.resolve(new Map([["", seen]])) },
    });
    discovery.announce(record, "");
    while (!isDone(services.all.get("db")) && warnings().length === 0) {
      await setTimeout(5);
      await clock.advance(1_000);
    }
    await discovery.close();
    return { service: services.all.get("db"), warnings: warnings() };
  }

  const leadsTo = (service: V1Service | undefined): boolean =>
    service?.metadata?.ownerReferences?.[0]?.uid === pod.metadata.uid;

  it("are made", async () => {
    const { service } = await announced(new Services(), leadsTo);
    assert.deepEqual(service?.spec, wanted?.spec);
  });

  const labels = wanted?.metadata?.labels;
  const others: Readonly<Record<string, V1Service>> = {
    "leads out of the cluster": { spec: { type: "ExternalName", externalName: "db.example.com" } },
    "has endpoints of its own": { spec: { ports: [{ port: 5432 }] } },
    "is another instance's": {
      metadata: { ...wanted?.metadata, labels: { ...labels, "sockerless/instance": "another" } },
    },
    "has copied labels": { metadata: { labels: labels ?? {} } },
    "is a copy of another": {
      metadata: { ...wanted?.metadata, annotations: { ...annotations, "sockerless/name": "web" } },
    },
  };
  for (const [what, other] of Object.entries(others)) {
    it(`are not made of somebody's that ${what}`, async () => {
      const services = new Services();
      services.put({ ...other, metadata: { ...other.metadata, name: "db", ownerReferences: [] } });
      const before = services.all.get("db");
      const { service, warnings } = await announced(services, leadsTo);
      assert.deepEqual(service, before);
      assert.deepEqual(warnings, [
        'no Service of the container\'s ports: create services: services "db" already exists',
      ]);
    });
  }

  const former: V1Service = {
    metadata: {
      ...wanted?.metadata,
      labels: { ...labels, "sockerless/container": "dddddddddddd", own: "kept" },
      annotations: { "sockerless/container-id": "d".repeat(64), "sockerless/name": "db" },
      ownerReferences: [{ apiVersion: "v1", kind: "Pod", name: "sockerless-dddddddddddd-1", uid: "4-5-6" }],
    },
    spec: { selector: { ...labels, "sockerless/container": "dddddddddddd" }, ports: [{ port: 80 }] },
  };

  it("lead to a container that has the name of a former one", async () => {
    const services = new Services();
    services.put(former);
    const { service } = await announced(services, leadsTo);
    assert.deepEqual(service?.spec, wanted?.spec);
    assert.deepEqual(service?.metadata?.labels, { ...labels, own: "kept" });
    assert.deepEqual(service?.metadata?.ownerReferences, wanted?.metadata?.ownerReferences);
  });

  it("are made where a former container's goes meanwhile, or is somebody else's then", async () => {
    const gone = new Services();
    gone.put(former);
    gone.beforePatch = () => void gone.all.delete("db");
    assert.deepEqual((await announced(gone, leadsTo)).service?.spec, wanted?.spec);

    const taken = new Services();
    taken.put(former);
    const other = { metadata: { name: "db" }, spec: { type: "ExternalName" } };
    taken.beforePatch = () => taken.put(other);
    assert.deepEqual((await announced(taken, leadsTo)).service?.spec, other.spec);
  });
});
