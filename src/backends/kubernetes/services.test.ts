import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { serviceOf } from "./services.ts";

const pod = { metadata: { name: "sockerless-cccccccccccc-1", uid: "1-2-3" } };
const place = { namespace: "docker", instance: "sockerless/0123456789abcdef" };

function ofPorts(name: string, ...ports: readonly (readonly [string, string, string])[]) {
  const portBindings = ports.map(([containerPort, hostIp, hostPort]) => ({
    ...{ containerPort, hostIp, hostPort },
  }));
  const record = create(ContainerRecordSchema, { id: "c".repeat(64), name, hostConfig: { portBindings } });
  return serviceOf(record, pod, place);
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
});
