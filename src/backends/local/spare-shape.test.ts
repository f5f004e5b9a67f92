import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, isFieldSet, type MessageInitShape } from "@bufbuild/protobuf";

import { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerRecordSchema,
  ImageRecordSchema,
  NetworkRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../common/driver/workload-spec.ts";
import { readMachineProfile } from "./oci/spec.ts";
import { planOf, spareOf } from "./spare-shape.ts";
import { type LocalMachineParts, spareEnder, sparePreparer } from "./workloads.ts";

/** Every setting that a container may have, none as it is by default. */
const everything = {
  ...{ binds: ["/a:/b"], containerIdFile: "/id", networkMode: "lane", volumeDriver: "local" },
  ...{ logConfig: { type: "local", config: { "max-size": "1m" } }, restartPolicy: { name: "always" } },
  ...{ portBindings: [{ containerPort: "80/tcp" }], publishAllPorts: true, autoRemove: true },
  ...{
    volumesFrom: ["c"],
    consoleHeight: 1,
    consoleWidth: 2,
    annotations: { a: "b" },
    capAdd: ["CAP_NET_ADMIN"],
  },
  ...{ capDrop: ["CAP_CHOWN"], cgroupnsMode: "private", dns: ["192.0.2.1"], dnsOptions: ["ndots:1"] },
  ...{ dnsSearch: ["lane"], extraHosts: ["a:192.0.2.2"], groupAdd: ["7"], ipcMode: "shareable", cgroup: "c" },
  ...{ links: ["c"], oomScoreAdj: 1, readonlyRootfs: true, securityOpt: ["no-new-privileges"] },
  ...{ storageOpt: { size: "1G" }, tmpfs: { "/tmp": "" }, usernsMode: "host", shmSize: 1n },
  ...{ sysctls: { "net.ipv4.ip_forward": "1" }, runtime: "runc", isolation: "default", init: true },
  ...{ resources: { memory: 1_000_000n, ulimits: [{ name: "nofile", soft: 1n, hard: 2n }] } },
  ...{ mounts: [{ type: "tmpfs", target: "/a" }], maskedPaths: { values: ["/m"] } },
  ...{ readonlyPaths: { values: ["/r"] }, bindsReadOnlyNonRecursive: true },
} satisfies MessageInitShape<typeof HostConfigSchema>;
/** Others, in whose company some of those have no effect. */
const ofMachine = { ...everything, privileged: true, pidMode: "host", utsMode: "host" };

describe("a spare container", () => {
  it("is prepared from the part of a container's settings that preparing needs", async () => {
    const all = create(HostConfigSchema, ofMachine);
    assert.deepEqual(
      HostConfigSchema.fields.filter((field) => !isFieldSet(all, field)).map(({ name }) => name),
      [],
    );
    for (const hostConfig of [everything, ofMachine]) {
      const record = create(ContainerRecordSchema, { id: "c1", generation: 1n, config: {}, hostConfig });
      const network = { name: "lane", record: create(NetworkRecordSchema, { network: { name: "lane" } }) };
      const launched: WorkloadSpec = {
        ...{ record, image: create(ImageRecordSchema), args: [], env: [], mounts: [], awaitAttachIds: [] },
        network: { kind: "networks", networks: [network] },
      };
      const spare = spareOf(planOf(launched), "s1");
      const whole = { ...spare, record: { ...spare.record, hostConfig: record.hostConfig } } as WorkloadSpec;
      const asked: unknown[] = [];
      const prepare = sparePreparer({
        host: { prepareSpare: async (request: unknown) => void asked.push(withoutFiles(request)) },
        profile: {
          ...readMachineProfile({
            apparmor: false,
            cgroupVersion: "2",
            runtimeName: "runc",
            runtimeVersion: "1.1",
          }),
          capabilities: ["CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN"],
        },
        ...{ stateDir: "/state", storedSocket: "", frontendSocket: undefined },
      } as unknown as LocalMachineParts);
      await prepare(spare);
      await prepare({ ...whole, network: launched.network });
      assert.deepEqual(asked[0], asked[1]);
    }
  });

  it("is ended within a limit of time", async () => {
    const limits: unknown[] = [];
    const host = { releaseContainer: async (_: unknown, options: unknown) => void limits.push(options) };
    await spareEnder(host as unknown as LocalMachineParts["host"])("s1");
    assert.deepEqual(limits, [{ timeoutMs: 30_000 }]);
  });
});

/** A request to prepare one, without the content of the name files: the start writes them anew. */
function withoutFiles(request: unknown): unknown {
  const { create: created, launch } = request as {
    create: object;
    launch: { files: { content: unknown }[] };
  };
  const text = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString();
  const { ociSpec } = launch as unknown as { ociSpec: Uint8Array };
  return {
    ...{ create: created, ociSpec: text(ociSpec) },
    launch: { ...launch, files: launch.files.map(({ content: _, ...file }) => file) },
  };
}
