import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { fromUnknown, messageOf } from "../../common/errors.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import {
  ContainerRecordSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { failedCall } from "../cloud/testing/cloud.ts";
import { passing } from "../cloud/testing/passing.ts";
import { workloadSpec } from "../cloud/testing/workload-spec.ts";
import type { ResolvedMount } from "../driver/workload-spec.ts";
import { UnsettledError } from "../driver/unsettled-error.ts";
import { AzureError } from "./arm/errors.ts";
import { AzureFiles, type AzureFilesOptions } from "./shares/azure-files.ts";
import { shareName } from "./shares/names.ts";
import { shareOf } from "./shares/reference.ts";
import { acaVolumes, unsharedVolumes } from "./volumes.ts";

interface KeptShare {
  readonly metadata: Record<string, string>;
  readonly enabledProtocols?: string;
}

const storageRule = /^[a-z](?!.*--)[a-z0-9-]{0,30}[a-z0-9]$/;
const shareRule = /^[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]$/;

/** As much of Azure as volumes use; the simulator's own tests know the rest. */
function setUp({ listsMetadata = true, configuredKey = "secret" } = {}) {
  const shares = new Map<string, KeptShare>();
  const storages = new Map<string, unknown>();
  const calls: string[] = [];
  /** Failures by operation: `refused` has done nothing, `unknown` may have. */
  const failing = new Map<string, "refused" | "unknown">();
  /** Storages that a job names, and how Azure says so. */
  const used = new Set<string>();
  const refusal = {
    statusCode: 409,
    code: "ManagedEnvironmentStorageInUse",
    words: "because it's still in use.",
  };
  /** Looks after which these jobs are gone. */
  let rounds = 2;
  const keepUsed = (name: string): void => {
    used.add(name);
    rounds = Number.POSITIVE_INFINITY;
  };
  const clock = new ManualClock();
  const call = async (operation: string, send: (options: object) => PromiseLike<unknown>) => {
    calls.push(operation);
    const outcome = failing.get(operation);
    if (outcome === "refused") {
      throw failedCall("refused", `${operation}: no`);
    }
    const answer = await send({});
    if (outcome === "unknown") {
      throw failedCall("unknown", `${operation}: the answer was lost`);
    }
    return answer;
  };
  const fileShares = {
    async create(_group: string, _account: string, name: string, body: KeptShare) {
      assert.match(name, shareRule);
      shares.set(name, shares.get(name) ?? body);
      return {};
    },
    async get(_group: string, _account: string, name: string) {
      if (!shares.has(name)) {
        throw new AzureError(
          "FileShares_Get",
          Object.assign(new Error("no such share"), { statusCode: 404, code: "ShareNotFound" }),
        );
      }
      return shares.get(name);
    },
    async *list() {
      for (const [name, share] of shares) {
        yield listsMetadata ? { name, ...share } : { name };
      }
    },
    async delete(_group: string, _account: string, name: string) {
      assert.ok(
        used.has(name) || !JSON.stringify([...storages.values()]).includes(`${name}"`),
        "a share goes after its storages",
      );
      shares.delete(name);
    },
  };
  const managedEnvironmentsStorages = {
    async createOrUpdate(_group: string, _environment: string, name: string, body: unknown) {
      assert.match(name, storageRule);
      storages.set(name, body);
      return {};
    },
    async delete(_group: string, _environment: string, name: string) {
      if (used.has(name)) {
        const { words, ...answer } = refusal;
        const message = `Cannot delete Managed environment storage '${name}' ${words}`;
        throw new AzureError("ManagedEnvironmentsStorages_Delete", Object.assign(new Error(message), answer));
      }
      storages.delete(name);
    },
    list: async () => ({
      value: [...storages].map(([name, body]) => ({ ...(body as { properties: object }), name })),
    }),
  };
  const keys = ["other", "secret"];
  const account = { enableHttpsTrafficOnly: false };
  const storageAccounts = {
    getProperties: async () => account,
    listKeys: async () => ({ keys: keys.map((value) => ({ value })) }),
  };
  const azure = { call, storage: { fileShares, storageAccounts }, apps: { managedEnvironmentsStorages } };
  const log = capturedLogger();
  const open = (instance = "sockerless/1", account = "account") =>
    acaVolumes({
      files: new AzureFiles({
        azure: azure as unknown as AzureFilesOptions["azure"],
        resourceGroup: "group",
        environment: "environment",
        account,
        accountKey: configuredKey === "" ? undefined : configuredKey,
        refusalOfKey: async (key) => (keys.includes(key) ? undefined : "AuthenticationFailed"),
        clock,
      }),
      dropIdleJobs: async () => {
        rounds -= 1;
        if (failing.has("sweep")) {
          rounds = Math.min(rounds, 1);
          failing.delete("sweep");
          throw failedCall("refused", "Jobs_ListByResourceGroup: no");
        }
        if (rounds <= 0) {
          used.clear();
        }
      },
      clock,
      instance,
      logger: log.logger,
    });
  return {
    account,
    shares,
    storages,
    calls,
    keys,
    failing,
    used,
    refusal,
    keepUsed,
    clock,
    log,
    open,
    volumes: open(),
  };
}

function volume(name: string, more: MessageInitShape<typeof VolumeRecordSchema> = {}): VolumeRecord {
  const created = timestampFromMs(Date.UTC(2026, 1, 15, 12));
  return create(VolumeRecordSchema, { name, driver: "azure-files", created, ...more } as MessageInitShape<
    typeof VolumeRecordSchema
  >);
}

/** A volume that was made. */
async function made(
  { volumes }: ReturnType<typeof setUp>,
  name: string,
  more?: MessageInitShape<typeof VolumeRecordSchema>,
): Promise<VolumeRecord> {
  const record = volume(name, more);
  const { reference, mountpoint } = await volumes.create(record);
  return { ...record, driverReference: reference, mountpoint };
}

function mount(of: VolumeRecord, more: Partial<ResolvedMount> = {}): ResolvedMount {
  return { type: "volume", destination: "/data", readOnly: false, volume: of, ...more };
}

const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();

describe("a named volume", () => {
  it("is a share and a storage of the environment that mounts it for writing", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const [name = "", ...others] = azure.shares.keys();
    assert.deepEqual(others, []);
    assert.match(name, /^sk-cache-[0-9a-f]{12}$/);
    assert.deepEqual(azure.storages.get(name), {
      properties: {
        azureFile: { accountName: "account", accountKey: "secret", shareName: name, accessMode: "ReadWrite" },
      },
    });
    assert.equal(record.driverReference, `account/${name}`);
    assert.equal(record.mountpoint, "/mnt/azure/cache");
  });

  it("is mounted by its storage, with its owner as the container's user", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const { share = "" } = shareOf(record) ?? {};
    const options = async (user: string) => {
      const spec = workloadSpec({ config: { user } }, { mounts: [mount(record, { subpath: "a/b" })] });
      return await azure.volumes.partsOf(spec, step);
    };
    assert.deepEqual(await options("1000:50"), {
      volumes: [
        {
          name: share,
          storageType: "AzureFile",
          storageName: share,
          mountOptions: "uid=1000,gid=50,dir_mode=0777,file_mode=0777,mfsymlinks,nobrl",
        },
      ],
      mounts: [{ volumeName: share, mountPath: "/data", subPath: "a/b" }],
    });
    for (const [user, owner] of [
      ["", "uid=0,gid=0"],
      ["root", "uid=0,gid=0"],
      ["1000", "uid=1000,gid=0"],
      ["postgres", "uid=0,gid=0"],
    ] as const) {
      assert.ok((await options(user)).volumes[0]?.mountOptions?.startsWith(`${owner},`), user);
    }
  });

  it("is mounted for reading by a second storage, made at its first use and gone with the volume", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const { share = "" } = shareOf(record) ?? {};
    assert.deepEqual([...azure.storages.keys()], [share]);
    const mounts = [mount(record), mount(record, { destination: "/ro", readOnly: true })];
    const parts = await azure.volumes.partsOf(workloadSpec({}, { mounts }), step);
    await azure.volumes.partsOf(workloadSpec({}, { mounts }), step);
    assert.deepEqual(
      parts.mounts.map(({ volumeName }) => volumeName),
      [share, `${share}-ro`],
    );
    assert.match(JSON.stringify(azure.storages.get(`${share}-ro`)), /"ReadOnly"/);
    assert.equal(azure.calls.filter((name) => name.startsWith("ManagedEnvironmentsStorages")).length, 2);
    await azure.volumes.remove(record);
    assert.deepEqual([azure.storages.size, azure.shares.size], [0, 0]);
  });

  it("goes once the jobs that name it are gone, and is told to be used where they stay", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const { share = "" } = shareOf(record) ?? {};
    azure.used.add(share);
    await passing(azure.clock, azure.volumes.remove(record));
    assert.equal(azure.shares.size, 0);
    await azure.volumes.remove(record);
    const busy = await made(azure, "busy");
    azure.keepUsed(shareOf(busy)?.share ?? "");
    await assert.rejects(passing(azure.clock, azure.volumes.remove(busy)), (error) => {
      assert.deepEqual([fromUnknown(error).kind, messageOf(error)], ["conflict", "volume is in use"]);
      return true;
    });
    azure.failing.set("ManagedEnvironmentsStorages_Delete", "refused");
    azure.calls.length = 0;
    await assert.rejects(
      passing(azure.clock, azure.volumes.remove(busy)),
      /^SockerlessError: remove busy: .*: no$/,
    );
    assert.equal(azure.calls.length, 1);
    assert.equal(azure.shares.size, 1);
  });

  it("is in use by Azure's code or words, whatever the status", async () => {
    for (const [statusCode, code, words, told] of [
      [400, "ManagedEnvironmentStorageInUse", "as jobs name it", /^volume is in use$/],
      [500, "InternalServerError", "because it's still in use.", /^volume is in use$/],
      [
        409,
        "Conflict",
        "while another operation is under way",
        /another operation is under way \(Conflict\)$/,
      ],
    ] as const) {
      const azure = setUp();
      const record = await made(azure, "cache");
      const { share = "" } = shareOf(record) ?? {};
      Object.assign(azure.refusal, { statusCode, code, words });
      azure.used.add(share);
      await passing(azure.clock, azure.volumes.remove(record));
      assert.equal(azure.shares.size, 0, "it was waited for");
      const busy = await made(azure, "busy");
      azure.keepUsed(shareOf(busy)?.share ?? "");
      await assert.rejects(passing(azure.clock, azure.volumes.remove(busy)), (error) => {
        assert.match(messageOf(error), told);
        return true;
      });
    }
  });

  it("goes by force from under the jobs that have it, and its storage after them", async () => {
    for (const options of [{}, { nfs: "true" }]) {
      const azure = setUp();
      const record = await made(azure, "cache", { options });
      const other = await made(azure, "other");
      const { share = "" } = shareOf(record) ?? {};
      azure.keepUsed(share);
      await azure.volumes.remove(record, true);
      assert.deepEqual([...azure.shares.keys()], [shareOf(other)?.share]);
      await azure.volumes.clearLeft();
      assert.equal(azure.storages.size, 2, "a job names it");
      azure.used.clear();
      await azure.volumes.clearLeft();
      assert.deepEqual([...azure.storages.keys()], [shareOf(other)?.share]);
    }
  });

  it("is not made, nor mounted, with a key that is none of the account's", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    azure.keys[1] = "renewed";
    await assert.rejects(setUp({ configuredKey: "wrong" }).volumes.create(volume("v")), {
      kind: "system",
      message: /^create v: aca\.storage_account_key is none of the keys that the storage account account has/,
    });
    await azure.clock.advance(60_000);
    await assert.rejects(azure.volumes.partsOf(workloadSpec({}, { mounts: [mount(record)] }), step), {
      message: /aca\.storage_account_key is none/,
    });
    azure.failing.set("StorageAccounts_ListKeys", "refused"); // Nobody may ask.
    await assert.rejects(azure.volumes.partsOf(workloadSpec({}, { mounts: [mount(record)] }), step), {
      message: /the storage account account refuses aca\.storage_account_key \(AuthenticationFailed\)/,
    });
    azure.keys[1] = "secret";
    await azure.volumes.partsOf(workloadSpec({}, { mounts: [mount(record)] }), step);
  });

  it("is mounted with the account's key of today, where none is configured", async () => {
    const azure = setUp({ configuredKey: "" });
    const record = await made(azure, "cache");
    azure.keys[0] = "renewed";
    await azure.clock.advance(60_000);
    await azure.volumes.partsOf(workloadSpec({}, { mounts: [mount(record)] }), step);
    assert.match(JSON.stringify([...azure.storages.values()]), /"accountKey":"renewed"/);
  });

  it("goes although nobody can look for jobs that name it for a moment", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    azure.used.add(shareOf(record)?.share ?? "");
    azure.failing.set("sweep", "refused");
    await passing(azure.clock, azure.volumes.remove(record));
    assert.equal(azure.shares.size, 0);
  });

  it("is NFS on demand, and has the user's own mount options", async () => {
    const azure = setUp();
    const record = await made(azure, "data", { options: { nfs: "true", mount_options: "nconnect=4" } });
    const { share = "" } = shareOf(record) ?? {};
    assert.equal(azure.shares.get(share)?.enabledProtocols, "NFS");
    assert.deepEqual(azure.storages.get(share), {
      properties: {
        nfsAzureFile: {
          server: "account.file.core.windows.net",
          shareName: `/account/${share}`,
          accessMode: "ReadWrite",
        },
      },
    });
    const { volumes } = await azure.volumes.partsOf(workloadSpec({}, { mounts: [mount(record)] }), step);
    assert.deepEqual(volumes, [
      { name: share, storageType: "NfsAzureFile", storageName: share, mountOptions: "nconnect=4" },
    ]);
  });

  it("is no NFS where the account takes secure transfer alone", async () => {
    const azure = setUp();
    azure.account.enableHttpsTrafficOnly = true;
    await assert.rejects(azure.volumes.create(volume("v", { options: { nfs: "true" } })), {
      kind: "invalid",
      message: /^create v: .*https_traffic_only_enabled = false$/,
    });
    assert.equal(azure.shares.size, 0);
  });

  it("takes no option that it does not know, and no mount option that is none", async () => {
    const { volumes, shares } = setUp();
    for (const [options, told] of [
      [{ type: "nfs" }, /^create v: invalid option: "type"$/],
      [{ nfs: "yes" }, /nfs must be/],
      [{ mount_options: "uid=1 000" }, /mount_options must be/],
      [{ mount_options: "" }, /mount_options must be/],
    ] as const) {
      await assert.rejects(volumes.create(volume("v", { options })), { kind: "invalid", message: told });
    }
    assert.equal(shares.size, 0);
  });

  it("leaves no share where its storage is refused, and is unsettled where nobody knows", async () => {
    const azure = setUp();
    azure.failing.set("ManagedEnvironmentsStorages_CreateOrUpdate", "refused");
    await assert.rejects(azure.volumes.create(volume("v")), (error) => {
      assert.ok(!(error instanceof UnsettledError));
      assert.match(messageOf(error), /^create v: ManagedEnvironmentsStorages_CreateOrUpdate: no$/);
      return true;
    });
    assert.equal(azure.shares.size, 0);
    azure.failing.clear();
    azure.failing.set("FileShares_Create", "unknown");
    await assert.rejects(azure.volumes.create(volume("v")), UnsettledError);
    azure.failing.clear();
    await azure.volumes.remove(volume("v"));
    assert.equal(azure.shares.size, 0);
  });

  it("is found again by its share, with its labels and options, by its own instance alone", async () => {
    for (const listsMetadata of [true, false]) {
      const azure = setUp({ listsMetadata });
      const record = await made(azure, "Cache.1", {
        labels: { "a b": "ü" },
        options: { mount_options: "uid=7" },
      });
      assert.deepEqual(await azure.open().found(), [record]);
      assert.deepEqual(await azure.open("sockerless/2").found(), []);
    }
  });

  it("is not found by a copy of its share, whichever is listed first", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const [[share, kept] = ["", { metadata: {} }]] = azure.shares;
    azure.shares.clear();
    for (const name of ["sk-0-restored", share, "sk-z-restored"]) {
      azure.shares.set(name, kept);
    }
    assert.deepEqual(await azure.open().found(), [record]);
  });

  it("has labels in the state alone that do not fit in metadata", async () => {
    const azure = setUp();
    const record = await made(azure, "v", { labels: { long: "x".repeat(8_000) } });
    assert.equal(azure.log.warnings().length, 1);
    assert.deepEqual(await azure.open().found(), [{ ...record, labels: {} }]);
  });
});

describe("a volume of another storage account than the configured one", () => {
  it("is neither mounted nor removed, and the account is told", async () => {
    const azure = setUp();
    const record = await made(azure, "cache");
    const volumes = azure.open("sockerless/1", "other");
    const told = /volume cache is in the storage account account, and aca.storage_account_name is other/;
    const mounts = [mount(record)];
    assert.throws(() => volumes.refuseUnfit(mounts), told);
    await assert.rejects(volumes.partsOf(workloadSpec({}, { mounts }), step), told);
    await assert.rejects(volumes.remove(record), told);
    assert.deepEqual([azure.shares.size, azure.storages.size], [1, 1]);
  });
});

describe("the name of a share", () => {
  it("differs where names are alike, and where the instance or the time is another", () => {
    const names = [
      "cache",
      "Cache",
      "ca-che",
      "ca.che",
      "ca_che",
      "c",
      "-",
      "_.",
      `${"x".repeat(200)}1`,
      `${"x".repeat(200)}2`,
    ];
    const shares = [
      ...names.map((name) => shareName(volume(name), "one")),
      shareName(volume("cache"), "two"),
      shareName(volume("cache", { created: timestampFromMs(1) }), "one"),
    ];
    assert.equal(new Set(shares).size, shares.length);
    for (const share of shares) {
      assert.match(share, shareRule);
      assert.match(`${share}-ro`, storageRule);
    }
    assert.equal(shareName(volume("cache"), "one"), shareName(volume("cache"), "one"));
  });
});

describe("an anonymous volume", () => {
  it("is a directory of its container and nothing in Azure", async () => {
    const azure = setUp();
    const record = await made(azure, "a".repeat(64), { anonymous: true });
    const spec = workloadSpec({}, { mounts: [mount(record)] });
    assert.deepEqual(await azure.volumes.partsOf(spec, step), { volumes: [], mounts: [] });
    assert.deepEqual(azure.volumes.unmounted(spec), ["/data"]);
    await azure.volumes.remove(record);
    assert.deepEqual(azure.calls, []);
  });

  it("that another container takes is not shared, and its user is told", () => {
    const mounts = [{ type: "volume", name: "anonymous", destination: "/data" }];
    const taken = { takenSubpaths: { "/data": "" }, anonymousVolumes: ["anonymous"], mounts };
    const isTold = (fields: MessageInitShape<typeof ContainerRecordSchema>): boolean =>
      unsharedVolumes.isSet(create(ContainerRecordSchema, fields));
    assert.ok(isTold(taken));
    assert.ok(!isTold({ ...taken, takenSubpaths: {} }), "its own");
    assert.ok(!isTold({ ...taken, anonymousVolumes: [] }), "a named one");
  });
});

describe("a mount path with a colon", () => {
  it("is refused for what a job mounts", async () => {
    const azure = setUp();
    const record = await made(azure, "v");
    assert.throws(
      () => azure.volumes.refuseUnfit([mount(record, { destination: "/a:b" })]),
      /no mount path with a colon/,
    );
    assert.throws(
      () => azure.volumes.refuseUnfit([{ type: "tmpfs", destination: "/t:mp", readOnly: false }]),
      /type "tmpfs": invalid mount path: '\/t:mp'/,
    );
    assert.throws(
      () => azure.volumes.refuseUnfit([{ type: "image", destination: "/i:mage", readOnly: true }]),
      /type "image": invalid mount path: '\/i:mage'/,
    );
    azure.volumes.refuseUnfit([mount(record), mount(volume("anonymous"), { destination: "/a:b" })]);
  });
});

describe("without a storage account", () => {
  it("no volume has a name, and anonymous ones work", async () => {
    const volumes = acaVolumes({
      files: undefined,
      dropIdleJobs: async () => {},
      clock: new ManualClock(),
      instance: "sockerless/1",
      logger: capturedLogger().logger,
    });
    await assert.rejects(volumes.create(volume("v")), /set aca.storage_account_name/);
    const before = volume("v", { driverReference: "account/sk-v-0" });
    const spec = workloadSpec({}, { mounts: [mount(before)] });
    await assert.rejects(volumes.partsOf(spec, step), /aca.storage_account_name is not set/);
    await assert.rejects(async () => volumes.remove(before), /aca.storage_account_name is not set/);
    assert.equal((await volumes.create(volume("v", { anonymous: true }))).reference, "");
  });
});

describe("the rules of volumes", () => {
  it("are the seed's", () => {
    const { rules } = setUp().volumes;
    assert.equal(rules.drivers[0]?.name, "azure-files");
    assert.deepEqual(
      [rules.inUseMessage, rules.usedBy, rules.forceOnUsed],
      ["volume is in use", "running", "remove"],
    );
  });
});
