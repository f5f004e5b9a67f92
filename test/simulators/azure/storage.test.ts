import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { AzureScene, type JobInput } from "./azure-scene.ts";
import { duringTests } from "../../support/during-tests.ts";

const version = "2025-08-01";
const scene = duringTests(() => AzureScene.start());

const share = (name: string): string =>
  `Microsoft.Storage/storageAccounts/sockerless/fileServices/default/shares/${name}`;

async function ask(method: string, path: string, body?: unknown): Promise<[number, string]> {
  const { status, body: answer } = await scene.ask(method, path, body, { version });
  return [status, answer?.error?.code ?? ""];
}

/** Makes a share and a storage of the environment for it, which have the same name. */
async function makeShare(name: string, accessMode = "ReadWrite", storage = name): Promise<void> {
  const { storageAccount: accountName, storageAccountKey: accountKey } = scene.azure.subscription;
  const path = `Microsoft.App/managedEnvironments/sockerless/storages/${storage}`;
  assert.ok((await scene.ask("PUT", share(name), {}, { version })).status < 300);
  const azureFile = { accountName, accountKey, shareName: name, accessMode };
  assert.equal((await scene.ask("PUT", path, { properties: { azureFile } })).status, 200);
}

function mounted(storageName: string, script: string, mountOptions?: string, subPath?: string): JobInput {
  const volumeMounts = [{ volumeName: "v", mountPath: "/v", ...(subPath !== undefined && { subPath }) }];
  return {
    volumes: [
      {
        name: "v",
        storageType: "AzureFile",
        storageName,
        ...(mountOptions !== undefined && { mountOptions }),
      },
    ],
    containers: [{ name: "main", command: ["/bin/sh", "-c"], args: [script], volumeMounts }],
  };
}

function directoryOf(name: string): string {
  return scene.azure.storage.account("sockerless")?.shares.get(name)?.directory ?? "";
}

test("shares are made, changed, listed in pages and deleted by Azure's codes", async () => {
  const body = { properties: { shareQuota: 10, metadata: { container: "abc" } } };
  assert.deepEqual(await ask("PUT", share("a-b")), [400, "InvalidRequestContent"]);
  assert.deepEqual(await ask("PUT", share("A_B"), body), [400, "InvalidResourceName"]);
  assert.deepEqual(await ask("PUT", share("a--b"), body), [400, "InvalidResourceName"]);
  assert.deepEqual(await ask("PUT", share("a-b"), { properties: { quota: 1 } }), [
    400,
    "InvalidRequestContent",
  ]);
  const bad = { properties: { metadata: { "a-b": "1" } } };
  assert.deepEqual(await ask("PUT", share("a-b"), bad), [400, "InvalidMetadata"]);
  assert.deepEqual(await ask("PUT", share("a-b"), body), [201, ""]);
  assert.deepEqual(await ask("PUT", share("a-b"), body), [200, ""]);
  assert.deepEqual(await ask("PUT", share("c-d"), {}), [201, ""]);
  const first = await scene.ask("GET", `${share("").slice(0, -1)}?$maxpagesize=1`, undefined, { version });
  assert.deepEqual(first.body.value[0].properties.metadata, { container: "abc" });
  const second = await scene.follow(first.body.nextLink);
  assert.deepEqual([second.body.value[0].name, second.body.nextLink], ["c-d", undefined]);
  assert.deepEqual(await ask("DELETE", share("a-b")), [200, ""]);
  assert.deepEqual(await ask("DELETE", share("a-b")), [204, ""]);
  assert.deepEqual(await ask("GET", share("a-b")), [404, "ShareNotFound"]);
});

test("an account tells its keys, and nothing of NFS where it is not premium", async () => {
  const account = "Microsoft.Storage/storageAccounts/sockerless";
  const { body } = await scene.ask("POST", `${account}/listKeys`, undefined, { version });
  assert.equal(body.keys[0].value, scene.azure.subscription.storageAccountKey);
  const nfs = { properties: { enabledProtocols: "NFS" } };
  assert.deepEqual(await ask("PUT", share("nfs"), nfs), [400, "FeatureNotSupportedForAccount"]);
});

test("files of a share have the mount's owner and modes, whoever makes them", async () => {
  await makeShare("owned");
  const script = "mkdir /v/d; echo text > /v/f; chown 5:5 /v/f; stat -c '%u:%g %a' /v /v/d /v/f";
  const options = "uid=1000,gid=1001,dir_mode=0750,file_mode=0640";
  const lines = await scene.output("owned", "", mounted("owned", script, options));
  assert.deepEqual(lines, ["1000:1001 750", "1000:1001 750", "1000:1001 640"]);
  assert.equal(readFileSync(join(directoryOf("owned"), "f"), "utf8"), "text\n");
});

test("a share refuses chmod by others than its owner, hard links and pipes", async () => {
  await makeShare("strict");
  const script = `
    : > /v/f
    chmod 600 /v/f || echo no chmod
    ln /v/f /v/hard || echo no hard link
    ln -s f /v/soft || echo no symbolic link
    mkfifo /v/pipe || echo no pipe`;
  const refusals = async (job: string, options?: string): Promise<string[]> => {
    const lines = await scene.output(job, "", mounted("strict", `rm -f /v/*; ${script}`, options));
    return lines.filter((line) => line.startsWith("no "));
  };
  const always = ["no hard link", "no pipe"];
  assert.deepEqual(await refusals("plain"), ["no hard link", "no symbolic link", "no pipe"]);
  assert.deepEqual(await refusals("linking", "mfsymlinks,nobrl"), always);
  assert.deepEqual(await refusals("other", "uid=1000,mfsymlinks"), ["no chmod", ...always]);
});

test("a file that nobody may write is read-only on the share", async () => {
  await makeShare("readonly-files");
  const script = "echo 1 > /v/f; chmod 444 /v/f; stat -c %a /v/f; rm -f /v/f; ls /v";
  assert.deepEqual(await scene.output("readonly-files", "", mounted("readonly-files", script)), ["555"]);
});

test("a storage that is ReadOnly is mounted so, and a path in a share by itself", async () => {
  await makeShare("both");
  await makeShare("both", "ReadOnly", "both-ro");
  writeFileSync(join(directoryOf("both"), "f"), "text\n");
  const script = "cat /v/f; (echo more > /v/g) 2>/dev/null || echo refused";
  const lines = await scene.output("reader", "", mounted("both-ro", script));
  assert.deepEqual(lines, ["text", "refused"]);
  await scene.output("below", "", mounted("both", "echo in > /v/below", undefined, "a/b"));
  assert.equal(readFileSync(join(directoryOf("both"), "a/b/below"), "utf8"), "in\n");
});

test("two executions share files, and a share that is gone is no share", async () => {
  await makeShare("handed");
  await scene.output("giver", "", mounted("handed", "echo from the other > /v/f"));
  assert.deepEqual(await scene.output("taker", "", mounted("handed", "cat /v/f")), ["from the other"]);
  await ask("DELETE", share("handed"));
  const execution = await scene.start("taker");
  assert.match(await scene.complaint(execution), /^FailedMount: mount error\(2\)/);
  assert.equal((await scene.endedInTime(execution)).status, "Failed");
});

test("a wrong key mounts nothing", async () => {
  await makeShare("keyed");
  scene.azure.storage.rotateKeys("sockerless");
  scene.azure.storage.rotateKeys("sockerless");
  await scene.write("keyed", "", mounted("keyed", "true"));
  const execution = await scene.start("keyed");
  assert.match(await scene.complaint(execution), /^FailedMount: mount error\(13\): Permission denied/);
  await scene.endedInTime(execution);
});
