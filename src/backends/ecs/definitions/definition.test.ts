import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../common/errors.ts";
import {
  type ImageRecord,
  ImageRecordSchema,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import type { TaskImage } from "../ecr/task-image.ts";
import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import { type DefinitionSettings, definitionOf, unmountedVolumes } from "./definition.ts";
import { taskVolumeName } from "./volume-names.ts";

const settings: DefinitionSettings = {
  instance: "sockerless/0123456789abcdef",
  region: "eu-west-1",
  logGroup: "/sockerless/containers",
  executionRoleArn: "arn:aws:iam::123456789012:role/execution",
  mountRoleArn: undefined,
  architecture: "amd64",
  agent: { kind: "image", image: "registry/agent:1" },
};
const image = { reference: "docker.io/library/busybox@sha256:abc", credentialsArn: undefined };

function definition(
  said: SaidOfContainer = {},
  fields: Partial<WorkloadSpec> = {},
  other: Partial<DefinitionSettings> = {},
  taskImage: (mounted: ImageRecord) => TaskImage = () => image,
) {
  return definitionOf(workloadSpec(said, fields), taskImage, { ...settings, ...other });
}

function main(...args: Parameters<typeof definition>) {
  const found = definition(...args).containerDefinitions?.find(({ name }) => name === "main");
  assert.ok(found);
  return found;
}

function volumeMount(name: string, reference: string, fields: Partial<ResolvedMount> = {}): ResolvedMount {
  const volume = create(VolumeRecordSchema, { name, driverReference: reference });
  return { type: "volume", destination: `/mnt/${name}`, readOnly: false, volume, ...fields };
}

function imageMount(id: string, fields: Partial<ResolvedMount> = {}): ResolvedMount {
  const mounted = create(ImageRecordSchema, { id });
  return { type: "image", destination: "/mnt/image", readOnly: true, image: mounted, ...fields };
}

describe("a task definition", () => {
  it("is shared by containers that differ in what travels to the agent, or is an override", () => {
    const { family } = definition();
    assert.match(family, /^sockerless-0123456789abcdef-[0-9a-f]{32}$/);
    const alike: SaidOfContainer[] = [
      { id: "d".repeat(64), generation: 7n },
      { config: { env: ["A=1"], user: "1000", workingDir: "/srv", tty: true, hostname: "web" } },
      { hostConfig: { resources: { nanoCpus: 2_000_000_000n, memory: 8n << 30n } } },
      { hostConfig: { capDrop: ["ALL"], dns: ["1.1.1.1"], extraHosts: ["a:10.0.0.1"], autoRemove: true } },
    ];
    for (const said of alike) {
      assert.equal(definition(said, { args: ["sh", "-c", "exit 3"] }).family, family);
    }
  });

  it("has an address that tells everything which only it can set", () => {
    const tmpfs: ResolvedMount = { type: "tmpfs", destination: "/scratch", readOnly: false };
    const different = [
      definition(),
      definition({ hostConfig: { readonlyRootfs: true } }),
      definition({ hostConfig: { resources: { ulimits: [{ name: "nofile", soft: 1024n, hard: 2048n }] } } }),
      definition({ hostConfig: { sysctls: { "net.core.somaxconn": "1024" } } }),
      definition({ hostConfig: { capAdd: ["CAP_SYS_PTRACE"] } }),
      definition({}, { mounts: [tmpfs] }),
      definition({}, { mounts: [volumeMount("data", "fs-1/fsap-1")] }),
      definition({}, { mounts: [volumeMount("data", "fs-1/fsap-1", { readOnly: true })] }),
      definition({}, { mounts: [imageMount("tools")] }),
      definition({}, { mounts: [imageMount("other")] }),
      definition({}, { mounts: [imageMount("tools", { subpath: "bin" })] }),
      definition({}, { mounts: [imageMount("tools", { destination: "/elsewhere" })] }),
      definition({}, {}, { architecture: "arm64" }),
      definition({}, {}, { logGroup: "/other" }),
      definition({}, {}, { agent: { kind: "image", image: "registry/agent:2" } }),
      definitionOf(
        workloadSpec(),
        () => ({ ...image, reference: "docker.io/library/alpine@sha256:def" }),
        settings,
      ),
      definitionOf(
        workloadSpec(),
        () => ({ ...image, credentialsArn: "arn:aws:secretsmanager:x" }),
        settings,
      ),
    ];
    assert.equal(new Set(different.map(({ family }) => family)).size, different.length);
  });

  it("does not depend on the order in which settings were written", () => {
    const sysctls = { "net.core.somaxconn": "1", "net.ipv4.ip_forward": "0" };
    const reversed = Object.fromEntries(Object.entries(sysctls).reverse());
    assert.equal(
      definition({ hostConfig: { sysctls } }).family,
      definition({ hostConfig: { sysctls: reversed } }).family,
    );
  });

  it("brings the agent by an init container, and runs it as root", () => {
    const [agent, container] = definition().containerDefinitions ?? [];
    assert.deepEqual(agent?.command, ["cp", "/.sockerless/sockerless-agent"]);
    assert.equal(agent?.essential, false);
    assert.deepEqual(container?.entryPoint, ["/.sockerless/sockerless-agent"]);
    assert.deepEqual(container?.dependsOn, [{ containerName: "agent", condition: "SUCCESS" }]);
    assert.equal(container?.user, "0");
    assert.equal(container?.stopTimeout, 120);
    assert.equal(container?.logConfiguration?.options?.["mode"], "blocking");
    assert.equal(container?.environment, undefined);
  });

  it("lets CloudWatch drop lines only where the container's log options say so", () => {
    const options = (config: Record<string, string>) =>
      main({ hostConfig: { logConfig: { type: "json-file", config } } }).logConfiguration?.options;
    assert.equal(options({})?.["max-buffer-size"], undefined);
    const dropping = options({ mode: "non-blocking", "max-buffer-size": "4m" });
    assert.deepEqual([dropping?.["mode"], dropping?.["max-buffer-size"]], ["non-blocking", "4096k"]);
    assert.equal(options({ mode: "non-blocking" })?.["max-buffer-size"], "977k");
  });

  it("takes the agent from a file system where that is configured", () => {
    const made = definition(
      {},
      {},
      { agent: { kind: "efs", fileSystemId: "fs-1", accessPointId: "fsap-9" } },
    );
    assert.equal(made.containerDefinitions?.length, 1);
    const container = made.containerDefinitions?.[0];
    assert.deepEqual(container?.entryPoint, ["/.sockerless/bin/sockerless-agent"]);
    assert.deepEqual(container?.mountPoints?.at(-1), {
      sourceVolume: "sockerless-agent",
      containerPath: "/.sockerless/bin",
      readOnly: true,
    });
  });

  it("mounts a volume by its access point, and as the user asked", () => {
    const mounts = [volumeMount("data", "fs-1/fsap-1", { readOnly: true })];
    assert.deepEqual(definition({}, { mounts }).volumes?.at(-1), {
      name: "vol-data",
      efsVolumeConfiguration: {
        fileSystemId: "fs-1",
        transitEncryption: "ENABLED",
        authorizationConfig: { accessPointId: "fsap-1" },
        rootDirectory: "/",
      },
    });
    assert.deepEqual(main({}, { mounts }).mountPoints?.at(-1), {
      sourceVolume: "vol-data",
      containerPath: "/mnt/data",
      readOnly: true,
    });
  });

  it("mounts with the rights of the containers' role where there is one to mount with, the agent too", () => {
    const mountRoleArn = "arn:aws:iam::123456789012:role/task";
    const agent = { kind: "efs", fileSystemId: "fs-1", accessPointId: "fsap-2" } as const;
    const mounts = [volumeMount("data", "fs-1/fsap-1")];
    const made = definition({}, { mounts }, { agent, mountRoleArn });
    assert.equal(made.taskRoleArn, mountRoleArn);
    assert.deepEqual(
      made.volumes?.flatMap(({ efsVolumeConfiguration: efs }) => efs?.authorizationConfig ?? []),
      [
        { accessPointId: "fsap-2", iam: "ENABLED" },
        { accessPointId: "fsap-1", iam: "ENABLED" },
      ],
    );
    assert.equal(definition({}, { mounts }, { agent }).taskRoleArn, undefined);
  });

  it("mounts a directory of a volume by its own access point, beside the whole", () => {
    const volume = create(VolumeRecordSchema, {
      name: "data",
      driverReference: "fs-1/fsap-1",
      parts: [{ subpath: "logs", driverReference: "fs-1/fsap-2" }],
    });
    const mounts = [
      volumeMount("data", "", { volume }),
      volumeMount("logs", "", { volume, subpath: "logs" }),
    ];
    const [whole, part] = definition({}, { mounts }).volumes?.slice(-2) ?? [];
    assert.equal(whole?.efsVolumeConfiguration?.authorizationConfig?.accessPointId, "fsap-1");
    assert.equal(part?.efsVolumeConfiguration?.authorizationConfig?.accessPointId, "fsap-2");
    assert.deepEqual(
      main({}, { mounts })
        .mountPoints?.slice(-2)
        .map(({ sourceVolume, containerPath }) => [sourceVolume, containerPath]),
      [
        [whole?.name, "/mnt/data"],
        [part?.name, "/mnt/logs"],
      ],
    );
  });

  it("gives a volume without an access point a directory of the task, and an anonymous one only where it must", () => {
    const volume = create(VolumeRecordSchema, { name: "x".repeat(64), anonymous: true });
    const mounts = [volumeMount("x", "", { volume })];
    assert.deepEqual(definition({}, { mounts: [volumeMount("data", "")] }).volumes?.at(-1), {
      name: "vol-data",
    });
    assert.equal(definition({}, { mounts }).volumes?.length, 1);
    assert.equal(definition({ hostConfig: { readonlyRootfs: true } }, { mounts }).volumes?.length, 2);
    assert.deepEqual(unmountedVolumes(workloadSpec({}, { mounts })), ["/mnt/x"]);
    assert.deepEqual(
      unmountedVolumes(workloadSpec({ hostConfig: { readonlyRootfs: true } }, { mounts })),
      [],
    );
  });

  it("mounts an image by a container of it, which copies its files before the main one starts", () => {
    const mounts = [
      imageMount("tools"),
      imageMount("tools", { destination: "/again" }),
      imageMount("tools", { destination: "/part", subpath: "usr/bin" }),
    ];
    const [agent, whole, part, container, ...more] =
      definition({}, { mounts }, {}, ({ id }) => ({
        reference: `registry/${id}`,
        credentialsArn: `arn:${id}`,
      })).containerDefinitions ?? [];
    assert.deepEqual(more, []);
    assert.equal(agent?.name, "agent");
    assert.equal(whole?.image, "registry/tools");
    assert.deepEqual(whole?.repositoryCredentials, { credentialsParameter: "arn:tools" });
    assert.deepEqual([whole?.essential, whole?.user], [false, "0"]);
    assert.deepEqual(whole?.entryPoint, ["/.sockerless/sockerless-agent"]);
    assert.deepEqual(whole?.command, ["copy-image", "/.sockerless-image"]);
    assert.deepEqual(part?.command, ["copy-image", "/.sockerless-image", "usr/bin"]);
    assert.deepEqual(whole?.dependsOn, [{ containerName: "agent", condition: "SUCCESS" }]);
    assert.deepEqual(whole?.mountPoints?.at(-1), {
      sourceVolume: whole?.name,
      containerPath: "/.sockerless-image",
    });
    assert.deepEqual(
      container?.dependsOn?.map(({ containerName }) => containerName),
      ["agent", whole?.name, part?.name],
    );
    assert.deepEqual(container?.mountPoints?.slice(-3), [
      { sourceVolume: whole?.name, containerPath: "/mnt/image", readOnly: true },
      { sourceVolume: whole?.name, containerPath: "/again", readOnly: true },
      { sourceVolume: part?.name, containerPath: "/part", readOnly: true },
    ]);
    assert.equal(whole?.logConfiguration?.logDriver, "awslogs");
  });

  it("gives a mount that is written to a copy of its own", () => {
    const mounts = [
      imageMount("tools"),
      imageMount("tools", { destination: "/mine", readOnly: false }),
      imageMount("tools", { destination: "/yours", readOnly: false }),
    ];
    const main = definition({}, { mounts }).containerDefinitions?.at(-1);
    const mounted = main?.mountPoints?.slice(-3) ?? [];
    assert.deepEqual(
      mounted.map(({ readOnly }) => readOnly),
      [true, false, false],
    );
    assert.equal(new Set(mounted.map(({ sourceVolume }) => sourceVolume)).size, 3);
  });

  it("is refused where it is larger than AWS takes", () => {
    const mounts = (bytes: number): ResolvedMount[] => [
      { type: "tmpfs", destination: `/${"a".repeat(bytes)}`, readOnly: false },
    ];
    const room = 65_536 - JSON.stringify(definition({}, { mounts: mounts(0) })).length;
    assert.doesNotThrow(() => definition({}, { mounts: mounts(room) }));
    assert.throws(
      () => definition({}, { mounts: mounts(65_536) }),
      /task definition has .* ECS takes 65536$/,
    );
  });

  it("mounts no more images than a task has containers for", () => {
    const mounts = (count: number) =>
      Array.from({ length: count }, (_, at) => imageMount(`image-${at}`, { destination: `/mnt/${at}` }));
    assert.equal(definition({}, { mounts: mounts(8) }).containerDefinitions?.length, 10);
    assert.throws(
      () => definition({}, { mounts: mounts(9) }),
      (error) => isErrorKind(error, "invalid"),
    );
  });

  it("leaves host paths out", () => {
    const mounts: ResolvedMount[] = [
      { type: "bind", source: "/var/run/docker.sock", destination: "/var/run/docker.sock", readOnly: false },
    ];
    assert.equal(definition({}, { mounts }).family, definition().family);
  });

  it("has tmpfs with a size, and options of the kernel", () => {
    const mounts: ResolvedMount[] = [
      {
        type: "tmpfs",
        destination: "/scratch",
        readOnly: false,
        tmpfsOptions: ["mode=1777", "size=1048577"],
      },
      { type: "tmpfs", destination: "/small", readOnly: false, tmpfsOptions: [] },
    ];
    assert.deepEqual(main({}, { mounts }).linuxParameters?.tmpfs, [
      { containerPath: "/scratch", size: 2, mountOptions: ["mode=1777"] },
      { containerPath: "/small", size: 64 },
    ]);
  });

  it("asks for unlimited limits where the platform has a bound, and leaves the others to the agent", () => {
    const ulimits = ["memlock", "fsize", "core"].map((name) => ({ name, soft: -1n, hard: -1n }));
    const most = 2 ** 31 - 1;
    assert.deepEqual(main({ hostConfig: { resources: { ulimits } } }).ulimits, [
      { name: "memlock", softLimit: most, hardLimit: most },
    ]);
  });

  it("refuses what is no option of a tmpfs, in Docker's words", () => {
    for (const [option, said] of [
      ["bad=3", '["bad" "3"]'],
      ["huge", '["huge"]'],
      ["ro=1", '["ro" "1"]'],
      ["mode", '["mode"]'],
      ["", '[""]'],
    ] as const) {
      const tmpfs: ResolvedMount = {
        type: "tmpfs",
        destination: "/scratch",
        readOnly: false,
        tmpfsOptions: ["noexec", "uid=7", option],
      };
      const message = `invalid tmpfs option ${said}`;
      assert.throws(() => definition({}, { mounts: [tmpfs] }), { kind: "invalid", message });
    }
  });

  it("has a tmpfs whose size is a share of the task's memory", () => {
    const half = {
      type: "tmpfs",
      destination: "/half",
      readOnly: false,
      tmpfsOptions: ["size=50%"],
    } as const;
    const asked = { hostConfig: { resources: { memory: 1024n * 1024n ** 2n } } };
    assert.deepEqual(main(asked, { mounts: [half] }).linuxParameters?.tmpfs, [
      { containerPath: "/half", size: 512 },
    ]);
  });

  it("has a /dev/shm of another size as a tmpfs, unless something else is mounted there", () => {
    const shm = (shmSize: bigint, mounts: ResolvedMount[] = []) =>
      main({ hostConfig: { shmSize } }, { mounts }).linuxParameters?.tmpfs;
    const mountOptions = ["nosuid", "nodev", "noexec", "mode=1777"];
    assert.deepEqual(shm(256n * 1024n ** 2n), [{ containerPath: "/dev/shm", size: 256, mountOptions }]);
    assert.equal(shm(64n * 1024n ** 2n), undefined);
    assert.equal(shm(1n, [volumeMount("data", "fs-1/fsap-1", { destination: "/dev/shm" })]), undefined);
  });

  it("adds SYS_PTRACE and no other capability", () => {
    assert.deepEqual(main({ hostConfig: { capAdd: ["CAP_SYS_PTRACE"] } }).linuxParameters?.capabilities, {
      add: ["SYS_PTRACE"],
    });
  });
});

describe("a volume's name in a task definition", () => {
  it("is the seed's where AWS takes it, and told from its like where not", () => {
    assert.equal(taskVolumeName("runner-cache_1"), "vol-runner-cache_1");
    assert.match(taskVolumeName("cache.v2"), /^vol-cache_v2-[0-9a-f]{12}$/);
    assert.notEqual(taskVolumeName("cache.v2"), taskVolumeName("cache_v2"));
    assert.notEqual(taskVolumeName("a.b"), taskVolumeName("a/b"));
    assert.ok(taskVolumeName("x".repeat(255)).length <= 255);
  });
});
