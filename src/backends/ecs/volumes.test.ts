import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { EFSClient } from "@aws-sdk/client-efs";

import { systemClock } from "../../common/clock.ts";
import { messageOf, systemError, unavailable } from "../../common/errors.ts";
import { Phase, type VolumeRecord, VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../driver/workload-spec.ts";
import { UnsettledError } from "../driver/unsettled-error.ts";
import { AccessPoints } from "./access-points/access-points.ts";
import { withMissingDirectory } from "./access-points/parts.ts";
import type { AwsService } from "./aws/clients.ts";
import { AwsError } from "./aws/errors.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { answered } from "./testing/fake-client.ts";
import { accessPointPath, partPath } from "./access-points/path.ts";
import { accessPointOf } from "./access-points/reference.ts";
import { orphanedAccessPoints } from "./orphans/access-points.ts";
import { ecsVolumes } from "./volumes.ts";

interface Kept {
  readonly input: Record<string, unknown>;
  readonly id: string;
  state: string;
}

/** As much of EFS as volumes use; the simulator's own tests know the rest. */
class FakeEfs {
  readonly points: Kept[] = [];
  readonly calls: string[] = [];
  failWith: { readonly operation: string; readonly name: string; readonly message: string } | undefined;
  /** An access point is made and its answer lost: it does not come, or is cut, or nobody waits for it. */
  losesAnswers: Error | undefined;
  stateAfterCreation = "available";
  pageSize = 2;

  readonly client = {
    send: (command: { constructor: { name: string }; input: Record<string, unknown> }) =>
      this.#answer(command.constructor.name.replace(/Command$/, ""), command.input),
  } as unknown as AwsService<EFSClient>;

  async #answer(operation: string, input: Record<string, unknown>): Promise<unknown> {
    this.calls.push(operation);
    if (this.failWith?.operation === operation) {
      throw refusal(operation, this.failWith.name, this.failWith.message);
    }
    switch (operation) {
      case "CreateAccessPoint": {
        const same = this.points.find((point) => point.input["ClientToken"] === input["ClientToken"]);
        if (same !== undefined) {
          throw refusal(operation, "AccessPointAlreadyExists", "exists", { AccessPointId: same.id });
        }
        const point = { input, id: `fsap-${this.points.length + 1}`, state: "creating" };
        this.points.push(point);
        if (this.losesAnswers !== undefined) {
          throw this.losesAnswers;
        }
        return { AccessPointId: point.id, LifeCycleState: point.state };
      }
      case "DeleteAccessPoint": {
        const at = this.points.findIndex(({ id }) => id === input["AccessPointId"]);
        if (at === -1) {
          throw refusal(operation, "AccessPointNotFound", "not found");
        }
        this.points.splice(at, 1);
        return {};
      }
      case "DescribeAccessPoints": {
        for (const point of this.points) {
          point.state = this.stateAfterCreation;
        }
        const asked = this.points.filter(
          ({ id }) => input["AccessPointId"] === undefined || input["AccessPointId"] === id,
        );
        const from = Number(input["NextToken"] ?? 0);
        const next = from + this.pageSize;
        return {
          AccessPoints: asked.slice(from, next).map(({ input: made, id, state }) => ({
            ...made,
            AccessPointId: id,
            LifeCycleState: state,
          })),
          NextToken: next < asked.length ? String(next) : undefined,
        };
      }
      default:
        throw new Error(`unexpected call ${operation}`);
    }
  }
}

function refusal(operation: string, name: string, message: string, more: object = {}): AwsError {
  const cause = Object.assign(new Error(message), { name, $metadata: { httpStatusCode: 400 }, ...more });
  return new AwsError({ service: "efs", operation }, cause);
}

function volume(name: string, more: MessageInitShape<typeof VolumeRecordSchema> = {}): VolumeRecord {
  const created = timestampFromMs(Date.UTC(2026, 1, 15, 12));
  return create(VolumeRecordSchema, { name, driver: "local", created, ...more } as MessageInitShape<
    typeof VolumeRecordSchema
  >);
}

describe("volumes on EFS", () => {
  let efs: FakeEfs;
  let log: ReturnType<typeof capturedLogger>;
  beforeEach(() => {
    efs = new FakeEfs();
    log = capturedLogger();
  });

  const volumes = (more: Partial<Parameters<typeof ecsVolumes>[0]> = {}) =>
    ecsVolumes({
      efs: efs.client,
      fileSystemId: "fs-1",
      accessPointLimit: 1000,
      partsLimitMs: 60_000,
      instance: "one",
      clock: systemClock,
      logger: log.logger,
      ...more,
    });

  it("have a directory of their own for each that is created at a container's socket", () => {
    const labels = { "sockerless.inner-socket": "c".repeat(64) };
    const [own, later] = [
      volume("app_pgdata", { labels }),
      volume("app_pgdata", { labels, created: timestampFromMs(Date.UTC(2026, 1, 15, 13)) }),
    ];
    const paths = [volume("app_pgdata"), own, later].map(accessPointPath);
    assert.equal(new Set(paths).size, 3);
    assert.match(paths[1] ?? "", /^\/sockerless\/volumes\/app_pgdata-[0-9a-f]{12}$/);
    assert.equal(partPath(own, "part"), `${paths[1]}/part`);
  });

  it("are access points of root, below /sockerless/volumes, tagged with their name", async () => {
    const made = await volumes().create(volume("runner-cache"));
    assert.deepEqual(accessPointOf({ driverReference: made.reference }), {
      fileSystemId: "fs-1",
      accessPointId: "fsap-1",
    });
    const input = efs.points[0]?.input ?? {};
    assert.equal(input["FileSystemId"], "fs-1");
    assert.deepEqual(input["PosixUser"], { Uid: 0, Gid: 0 });
    assert.deepEqual(input["RootDirectory"], {
      Path: "/sockerless/volumes/runner-cache",
      CreationInfo: { OwnerUid: 0, OwnerGid: 0, Permissions: "0755" },
    });
    const tags = input["Tags"] as { Key: string; Value: string }[];
    assert.ok(tags.some(({ Key, Value }) => Key === "sockerless-volume" && Value === "runner-cache"));
  });

  it("have no user of their own where posix_user=none asks for that, and refuse other options by name", async () => {
    await volumes().create(volume("data", { options: { posix_user: "none" } }));
    assert.equal(efs.points[0]?.input["PosixUser"], undefined);
    await assert.rejects(
      async () => volumes().create(volume("x1", { options: { posix_user: "me" } })),
      /must be "root" or "none"/,
    );
    await assert.rejects(async () => volumes().create(volume("x2", { options: { type: "nfs" } })), {
      kind: "invalid",
      message: /^create x2: invalid option: "type"$/,
    });
    assert.equal(efs.points.length, 1);
  });

  it("have a hash in the path where the name is longer than EFS takes", () => {
    const long = `a${"b".repeat(90)}`;
    assert.equal(accessPointPath(volume(long)).length, 100);
    assert.notEqual(accessPointPath(volume(long)), accessPointPath(volume(`${long}c`)));
    assert.equal(accessPointPath(volume("c".repeat(80))).length, 100);
    assert.match(accessPointPath(volume("c".repeat(80))), /\/c{80}$/);
    assert.doesNotMatch(accessPointPath(volume("c".repeat(81))), /\/c{81}$/);
  });

  it("are made once, however often a creation is repeated", async () => {
    const first = await volumes().create(volume("cache"));
    assert.deepEqual(await volumes().create(volume("cache")), first);
    assert.equal(efs.points.length, 1);
    const later = volume("cache", { created: timestampFromMs(Date.UTC(2026, 1, 16)) });
    assert.notDeepEqual(await volumes().create(later), first, "a volume that was made anew is another");
  });

  it("are taken back when they do not become available", async () => {
    efs.stateAfterCreation = "error";
    await assert.rejects(async () => volumes().create(volume("cache")), {
      kind: "system",
      message: /is error/,
    });
    assert.equal(efs.points.length, 0);
  });

  it("may be there where no answer came, and are found when their creation is repeated", async () => {
    for (const lost of [
      refusal("CreateAccessPoint", "TimeoutError", "nobody answered"),
      refusal("CreateAccessPoint", "SyntaxError", "the answer was cut", answered),
      unavailable("the backend is shutting down"),
    ]) {
      efs.losesAnswers = lost;
      efs.points.length = 0;
      await assert.rejects(
        async () => volumes().create(volume("cache")),
        (error) =>
          error instanceof UnsettledError && error.message.startsWith(`create cache: ${lost.message}`),
      );
    }
    efs.losesAnswers = undefined;
    const { reference } = await volumes().create(volume("cache"));
    assert.deepEqual(
      efs.points.map(({ id }) => `fs-1/${id}`),
      [reference],
    );
  });

  it("are found and removed where no answer came to their creation", async () => {
    efs.losesAnswers = unavailable("the backend is shutting down");
    const record = volume("cache", { phase: Phase.CREATING });
    await assert.rejects(async () => volumes().create(record), UnsettledError);
    await volumes({ instance: "two" })
      .create(volume("cache"))
      .catch(() => undefined);
    efs.losesAnswers = undefined;
    await volumes().create(volume("other"));
    assert.equal(efs.points.length, 3);
    await volumes().remove(record);
    assert.equal(efs.points.length, 2);
    assert.deepEqual(
      (await volumes().found())?.map(({ name }) => name),
      ["other"],
    );
  });

  it("keep what was there before where it cannot be looked at", async () => {
    const { reference } = await volumes().create(volume("cache"));
    const part = async (): Promise<string> => {
      const { parts } = volumes();
      assert.ok(parts.kind === "made");
      return await parts.create(volume("cache", { driverReference: reference }), "logs");
    };
    await part();
    efs.stateAfterCreation = "error";
    await assert.rejects(part, UnsettledError);
    efs.failWith = { operation: "DescribeAccessPoints", name: "ThrottlingException", message: "later" };
    await assert.rejects(async () => volumes().create(volume("cache")), UnsettledError);
    assert.equal(efs.calls.filter((call) => call === "DeleteAccessPoint").length, 0);
    efs.calls.length = 0;
    const other = volume("cache", { driverReference: reference, options: { posix_user: "none" } });
    assert.equal((await volumes().create(other)).reference, reference);
    await assert.rejects(
      async () => volumes().create({ ...other, options: { type: "nfs" } }),
      /invalid option/,
    );
    assert.deepEqual(efs.calls, []);
  });

  it("may be there where they could not be taken back", async () => {
    efs.stateAfterCreation = "error";
    efs.failWith = { operation: "DeleteAccessPoint", name: "ServerException", message: "later" };
    await assert.rejects(
      async () => volumes().create(volume("cache")),
      (error) => error instanceof UnsettledError && /is error/.test(error.message),
    );
  });

  it("fail with AWS's own words where the file system cannot be had", async () => {
    const name = "FileSystemNotFound";
    efs.failWith = { operation: "CreateAccessPoint", name, message: "File system 'fs-1' does not exist." };
    await assert.rejects(async () => volumes().create(volume("cache")), {
      kind: "system",
      message:
        "create cache: efs: CreateAccessPoint: File system 'fs-1' does not exist. (FileSystemNotFound)",
    });
    efs.failWith = { operation: "DeleteAccessPoint", name: "AccessDeniedException", message: "not allowed" };
    const record = volume("cache", { driverReference: "fs-1/fsap-9" });
    await assert.rejects(async () => volumes().remove(record), {
      kind: "system",
      message: /^remove cache: .*not allowed/,
    });
  });

  it("are removed by their access point; one that is gone is no error", async () => {
    const { reference } = await volumes().create(volume("cache"));
    const record = volume("cache", { driverReference: reference });
    await volumes().remove(record);
    assert.equal(efs.points.length, 0);
    await volumes().remove(record);
  });

  it("are rebuilt from the tags, labels and options too", async () => {
    const labels = { "com.gitlab.gitlab-runner.managed": "true", text: "ä\n".repeat(300) };
    const options = { posix_user: "none" };
    const { reference } = await volumes().create(volume("cache", { labels, options }));
    await volumes().create(volume("other"));
    await volumes({ instance: "two" }).create(volume("theirs"));
    const found = await volumes().found();
    assert.deepEqual(
      found.map(({ name }) => name),
      ["cache", "other"],
    );
    assert.deepEqual(
      { ...found[0] },
      {
        ...volume("cache", {
          labels,
          options,
          driverReference: reference,
          mountpoint: "/var/lib/docker/volumes/cache/_data",
        }),
      },
    );
    assert.ok(
      log.lines.some(({ volume: name, reason }) => name === "theirs" && reason === "it is of instance two"),
    );
    for (const { Value = "" } of (efs.points[0]?.input["Tags"] ?? []) as { Value?: string }[]) {
      assert.match(Value, /^[\w+\-=.:/@ ]{0,256}$/);
    }
  });

  describe("whose directories are mounted apart from the whole", () => {
    it("are beneath the volume's own directory, also where an earlier version gave it another", async () => {
      const { parts } = volumes();
      assert.ok(parts.kind === "made");
      const { reference } = await volumes().create(volume("data"));
      const labels = { "sockerless.inner-socket": "c".repeat(64) };
      await parts.create(volume("data", { labels, driverReference: reference }), "logs");
      assert.deepEqual(efs.points.at(-1)?.input["RootDirectory"], { Path: "/sockerless/volumes/data/logs" });
    });

    const createPart = async (record: VolumeRecord, subpath: string): Promise<string> => {
      const { parts } = volumes();
      assert.ok(parts.kind === "made");
      return await parts.create(record, subpath);
    };
    const whole = async (name: string, more: MessageInitShape<typeof VolumeRecordSchema> = {}) => {
      const { reference } = await volumes().create(volume(name, more));
      return volume(name, { ...more, driverReference: reference } as MessageInitShape<
        typeof VolumeRecordSchema
      >);
    };

    it("have an access point for each, of the same user, that nobody makes the directory of", async () => {
      const record = await whole("cache");
      const reference = await createPart(record, "logs");
      assert.equal(reference, "fs-1/fsap-2");
      const [made, part] = efs.points.map(({ input }) => input);
      assert.deepEqual(part?.["RootDirectory"], { Path: "/sockerless/volumes/cache/logs" });
      assert.deepEqual(part?.["PosixUser"], { Uid: 0, Gid: 0 });
      assert.notEqual(part?.["ClientToken"], made?.["ClientToken"]);
      assert.equal(await createPart(record, "logs"), reference, "a repetition");
      assert.equal(efs.points.length, 2);
      await createPart(await whole("data", { options: { posix_user: "none" } }), "db");
      assert.equal(efs.points.at(-1)?.input["PosixUser"], undefined);
    });

    it("are removed with them, also those that the state does not know whole", async () => {
      for (const known of [true, false]) {
        const record = await whole("cache");
        await whole("other");
        const driverReference = await createPart(record, "logs");
        await createPart(record, "more");
        const parts = known
          ? [
              { subpath: "logs", driverReference },
              { subpath: "more", driverReference: "fs-1/fsap-4" },
            ]
          : [{ subpath: "logs", driverReference: "" }];
        await volumes().remove(
          create(VolumeRecordSchema, { ...record, parts } as MessageInitShape<typeof VolumeRecordSchema>),
        );
        assert.deepEqual(
          efs.points.map(({ input }) => (input["RootDirectory"] as { Path: string }).Path),
          ["/sockerless/volumes/other"],
        );
        efs.points.length = 0;
      }
    });

    it("are rebuilt with them, and no volumes by themselves", async () => {
      const record = await whole("cache");
      await createPart(record, "ü,1");
      await volumes({ instance: "two" }).create(volume("cache"));
      const found = await volumes().found();
      assert.deepEqual(
        found.map(({ name, driverReference, parts }) => [
          name,
          driverReference,
          parts.map((part) => [part.subpath, part.driverReference]),
        ]),
        [["cache", "fs-1/fsap-1", [["ü,1", "fs-1/fsap-2"]]]],
      );
      for (const { Value = "" } of (efs.points[1]?.input["Tags"] ?? []) as { Value?: string }[]) {
        assert.match(Value, /^[\w+\-=.:/@ ]{0,256}$/);
      }
    });

    it("are left to their volume by a prune, which takes those of volumes that nobody knows", async () => {
      await createPart(await whole("kept"), "logs");
      await createPart(await whole("lost"), "logs");
      const accessPoints = new AccessPoints({
        efs: efs.client,
        fileSystemId: "fs-1",
        instance: "one",
        clock: systemClock,
        logger: log.logger,
      });
      const no = () => false;
      const known = { hasNetwork: no, hasContainer: no, hasImage: no };
      const orphans = await orphanedAccessPoints(accessPoints, "fs-1", "one", {
        ...known,
        hasVolume: (reference) => reference === "fs-1/fsap-1",
      });
      assert.deepEqual(
        orphans.map(({ id, purpose }) => [id, purpose]),
        [
          ["fsap-3", "volume lost"],
          ["fsap-4", "a directory of volume lost"],
        ],
      );
    });

    it("cannot be what EFS has no path for", async () => {
      const record = await whole("cache");
      const faults: [string, RegExp][] = [
        ["a/b", /at most 4 directories deep.*is 5/],
        ["x".repeat(80), /at most 100 characters.*has 106/],
        [".git", /begins with a dot/],
        ["a;b", /no character ";"/],
        ["a\nb", /no character/],
      ];
      for (const [subpath, message] of faults) {
        await assert.rejects(() => createPart(record, subpath), {
          kind: "invalid",
          message,
        });
      }
      await assert.rejects(() => createPart(volume("f".repeat(64)), "logs"), {
        kind: "invalid",
        message: /a directory of each task/,
      });
      assert.equal(efs.points.length, 1);
    });

    it("are named where ECS tells only that something was not mounted", async () => {
      const mounted = { ...(await whole("cache")), mountpoint: "/var/lib/docker/volumes/cache/_data" };
      const mount: ResolvedMount = {
        type: "volume",
        destination: "/logs",
        readOnly: false,
        volume: mounted,
        subpath: "logs",
      };
      const failed = systemError("failed to start: failed to invoke EFS utils commands: access denied");
      assert.match(
        messageOf(withMissingDirectory(failed, [mount])),
        /^cannot access path \/var\/lib\/docker\/volumes\/cache\/_data\/logs: no such directory.*access denied$/,
      );
      assert.equal(withMissingDirectory(failed, [{ ...mount, subpath: "" }]), failed);
      const other = systemError("no capacity");
      assert.equal(withMissingDirectory(other, [mount]), other);
    });
  });

  it("lose their labels in the tags alone where these are too long", async () => {
    await volumes().create(volume("cache", { labels: { text: "x".repeat(9000) } }));
    assert.ok(log.warnings().some((message) => message.includes("do not fit in AWS's tags")));
    assert.deepEqual((await volumes().found())?.[0]?.labels, {});
  });

  it("warn from four fifths of the limit on, once for each percent", async () => {
    const store = volumes({ accessPointLimit: 10 });
    for (let index = 0; index < 7; index++) {
      await store.create(volume(`v${index}`));
    }
    await store.found();
    assert.deepEqual(log.warnings(), []);
    await store.create(volume("v8"));
    assert.match(log.warnings()[0] ?? "", /^80 % of the file system's access points are in use/);
    await store.found();
    assert.equal(log.warnings().length, 1);
  });

  it("of drivers that need a machine are refused with the reason and what to use", () => {
    const { drivers, elsewhere } = volumes().rules;
    assert.deepEqual(
      drivers.map(({ name, sharing }) => [name, sharing]),
      [
        ["local", "shared"],
        ["efs", "shared"],
      ],
    );
    assert.match(elsewhere?.["block"] ?? "", /^an EBS volume .* is new each time.*: use --driver efs/);
    assert.match(elsewhere?.["tmpfs"] ?? "", /: use --tmpfs/);
  });

  it("without a file system are known, shared with nobody and warned of", async () => {
    const store = volumes({ fileSystemId: undefined });
    assert.deepEqual(await store.create(volume("cache")), {
      reference: "",
      mountpoint: "/var/lib/docker/volumes/cache/_data",
      status: {},
    });
    assert.match(log.warnings()[0] ?? "", /efs_filesystem_id is not set/);
    await store.remove(volume("cache"));
    assert.deepEqual(efs.calls, []);
  });

  it("that are anonymous are of the task alone", async () => {
    const made = await volumes().create(volume("f".repeat(64), { anonymous: true }));
    assert.equal(accessPointOf({ driverReference: made.reference }), undefined);
    assert.deepEqual(efs.calls, []);
  });
});
