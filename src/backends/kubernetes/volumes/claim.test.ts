import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, equals } from "@bufbuild/protobuf";

import { VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type ClaimSettings, claimIn, claimOf, volumeOf } from "./claim.ts";

const settings: ClaimSettings = {
  namespace: "docker",
  instance: "sockerless/0123456789abcdef",
  sharedStorageClass: "nfs",
  sharedAccessMode: "ReadWriteMany",
  blockStorageClass: undefined,
  volumeSize: 1024,
};

function volume(fields: { driver?: string; options?: Record<string, string>; name?: string } = {}) {
  return create(VolumeRecordSchema, {
    name: "Data_of.Web",
    driver: "local",
    created: { seconds: 1_700_000_000n, nanos: 7 },
    labels: { team: "web" },
    ...fields,
  });
}

describe("the claim of a volume", () => {
  it("is shareable, or one container's, by its driver", () => {
    const { spec } = claimOf(volume(), settings);
    assert.deepEqual(spec, {
      accessModes: ["ReadWriteMany"],
      resources: { requests: { storage: "1024" } },
      storageClassName: "nfs",
    });
    assert.deepEqual(claimOf(volume({ driver: "block" }), settings).spec, {
      accessModes: ["ReadWriteOnce"],
      resources: { requests: { storage: "1024" } },
    });
  });

  it("is as its options say", () => {
    const options = { size: "2g", storage_class: "fast", access_mode: "ReadWriteOncePod" };
    assert.deepEqual(claimOf(volume({ options }), settings).spec, {
      accessModes: ["ReadWriteOncePod"],
      resources: { requests: { storage: String(2 * 1024 ** 3) } },
      storageClassName: "fast",
    });
  });

  it("has no others, and no values that mean nothing", () => {
    for (const [options, message] of [
      [{ type: "tmpfs" }, /invalid option: "type"/],
      [{ size: "much" }, /option size must be a size/],
      [{ access_mode: "any" }, /option access_mode must be one of/],
    ] as const) {
      assert.throws(() => claimOf(volume({ options }), settings), { kind: "invalid", message });
    }
  });

  it("has a name that Kubernetes takes, of its own for each volume", () => {
    const nameOf = (name: string, instance = settings.instance) =>
      claimOf(volume({ name }), { ...settings, instance }).metadata?.name;
    assert.match(nameOf("Data_of.Web") ?? "", /^sockerless-data-of-web-[0-9a-f]{12}$/);
    assert.match(nameOf("x".repeat(255)) ?? "", /^[a-z0-9-]{1,63}$/);
    const names = [nameOf("a.b"), nameOf("a_b"), nameOf("a.b", "sockerless/fedcba9876543210")];
    assert.equal(new Set(names).size, 3);
  });

  it("tells its volume again, and none of another instance's", () => {
    const record = volume({ options: { size: "1g" } });
    const told = volumeOf(claimOf(record, settings), settings);
    const name = claimOf(record, settings).metadata?.name;
    const expected = create(VolumeRecordSchema, {
      ...record,
      mountpoint: "/var/lib/docker/volumes/Data_of.Web/_data",
      driverReference: `docker/${name}`,
    });
    assert.ok(told !== undefined && equals(VolumeRecordSchema, told, expected));
    const instance = "sockerless/fedcba9876543210";
    assert.equal(volumeOf(claimOf(record, settings), { ...settings, instance }), undefined);
  });

  it("is used in its own namespace alone", () => {
    const record = { name: "data", driverReference: "docker/claim" };
    assert.equal(claimIn("docker", record), "claim");
    assert.throws(() => claimIn("other", record), { kind: "invalid" });
    assert.equal(claimIn("other", { name: "data", driverReference: "" }), undefined);
  });
});
