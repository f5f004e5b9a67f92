import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { networkLabels, networkOf, policyOf } from "./policy.ts";

const place = { namespace: "docker", instance: "sockerless/0123456789abcdef", isDirect: false };
const id = "a".repeat(64);
const members = { podSelector: { matchLabels: { "sockerless/network-aaaaaaaaaaaa": "member" } } };

describe("the policy of a network", () => {
  it("lets its pods reach one another, and go out", () => {
    const { metadata, spec } = policyOf(create(NetworkSchema, { id, name: "web" }), place);
    assert.equal(metadata?.name, "sockerless-aaaaaaaaaaaa");
    assert.deepEqual(spec, {
      ...members,
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ _from: [members] }],
      egress: [{}],
    });
  });

  it("lets in whoever dials agents", () => {
    const { spec } = policyOf(create(NetworkSchema, { id }), { ...place, isDirect: true });
    assert.deepEqual(spec?.ingress?.[1], { ports: [{ port: 9111 }] });
  });

  it("of an internal one lets nothing out", () => {
    const { spec } = policyOf(create(NetworkSchema, { id, internal: true }), place);
    assert.deepEqual(spec?.egress, [{ to: [members] }]);
  });

  it("of an internal one lets agents call, and ask for the name of whom they call", () => {
    const network = create(NetworkSchema, { id, internal: true });
    const { spec } = policyOf(network, { ...place, callbackPort: 8443 });
    const dns = [
      { protocol: "UDP", port: 53 },
      { protocol: "TCP", port: 53 },
    ];
    assert.deepEqual(spec?.egress, [{ to: [members] }, { ports: [{ port: 8443 }, ...dns] }]);
  });

  it("tells its network again", () => {
    const network = create(NetworkSchema, { id, name: "web", driver: "bridge", labels: { team: "web" } });
    const policy = policyOf(network, place);
    assert.deepEqual(networkOf(policy)?.network, network);
    assert.equal(networkOf({ ...policy, metadata: { ...policy.metadata, name: "other" } }), undefined);
    assert.equal(networkOf({ metadata: { name: "plain" } }), undefined);
  });
});

describe("a pod's labels of networks", () => {
  it("name each in an order of their own", () => {
    const record = create(ContainerRecordSchema, {
      endpoints: { web: { networkId: "b".repeat(64) }, bridge: { networkId: id } },
    });
    assert.deepEqual(Object.keys(networkLabels(record)), [
      "sockerless/network-aaaaaaaaaaaa",
      "sockerless/network-bbbbbbbbbbbb",
    ]);
  });
});
