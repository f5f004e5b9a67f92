/** Volumes as shares of a simulated Azure, mounted by jobs that really run. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import type { CommandResult } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";

describe("volumes on Container Apps", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "1s", drain_timeout: "1s" } }));

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const docker = (...args: string[]): Promise<CommandResult> => aca.daemon.docker(...args);
  const run = (script: string, ...options: string[]): Promise<string> =>
    ok("run", "--rm", ...options, "busybox", "sh", "-c", script);
  const shares = (): string[] => [
    ...(aca.azure.storage.account(aca.azure.config["storage_account_name"] ?? "")?.shares.keys() ?? []),
  ];

  it("hand files from one job to the next, as each user's own", async () => {
    await ok("volume", "create", "--label", "a=b", "Hand.over");
    assert.equal(
      await ok("volume", "inspect", "--format", "{{.Driver}} {{.Mountpoint}} {{.Labels.a}}", "Hand.over"),
      "azure-files /mnt/azure/Hand.over b",
    );
    assert.match(shares().join(), /^sk-hand-over-[0-9a-f]{12}$/);
    const [helper, build] = [
      ["--user", "0"],
      ["--user", "1000:1000"],
    ] as const;
    await run("mkdir /v/src && echo made > /v/src/file && chmod 700 /v/src", "-v", "Hand.over:/v", ...helper);
    const script =
      "cat /v/src/file && echo more >> /v/src/file && stat -c %u:%g /v/src/file && cat /v/src/file";
    assert.equal(await run(script, "-v", "Hand.over:/v", ...build), "made\n1000:1000\nmade\nmore");
  });

  it("are read only by a storage of their own, and go with it", async () => {
    await run("echo kept > /v/file", "-v", "ro:/v");
    const { text, code } = await docker(
      ...["run", "--rm", "-v", "ro:/v:ro", "busybox", "sh", "-c", "cat /v/file; touch /v/other"],
    );
    assert.deepEqual([text, code], ["kept", 1]);
    const [share = ""] = shares().filter((name) => name.startsWith("sk-ro-"));
    await ok("volume", "rm", "ro");
    assert.ok(!shares().includes(share));
    const made = aca.azure.calls.all().map(({ operation, input }) => `${operation} ${JSON.stringify(input)}`);
    assert.ok(
      made.some(
        (call) => call.startsWith("ManagedEnvironmentsStorages_Delete") && call.includes(`${share}-ro`),
      ),
    );
  });

  it("are in use while a container runs, and not any more", async () => {
    await run("mkdir /v/src && echo cloned > /v/src/file", "-v", "busy:/v");
    const mounts = ["-v", "busy:/v", "-v", "given-up:/w"];
    const id = await ok("run", "--detach", "--name", "holder", ...mounts, "busybox", "sleep", "600");
    const build = "cat /v/src/file; echo built > /v/src/out && stat -c %u /v/src/out";
    assert.equal(await run(build, "-v", "busy:/v", "--user", "1000"), "cloned\n1000");
    assert.equal(await run("cat /v/src/out", "--volumes-from", "holder"), "built");
    const { volumes } = aca.azure.app.jobs.body(`sk-${id.slice(0, 12)}`)?.properties?.template ?? {};
    assert.ok(volumes?.some(({ storageType, storageName }) => storageType === "AzureFile" && storageName));
    const refused = await docker("volume", "rm", "busy");
    assert.equal(refused.errorText, "Error response from daemon: volume is in use");
    await ok("volume", "rm", "--force", "given-up");
    assert.ok(!shares().some((name) => name.startsWith("sk-given-up-")));
    await ok("rm", "--force", id);
    await ok("volume", "rm", "busy");
    assert.ok(!shares().some((name) => name.startsWith("sk-busy-")));
    assert.doesNotMatch(await ok("volume", "ls", "--quiet"), /^busy$/m);
  });

  it("without a name begin anew with each start, and are told not to be shared", async () => {
    await ok("create", "--name", "donor", "-v", "/data", "busybox", "sh", "-c", "ls /data; echo x > /data/x");
    for (const _ of [1, 2]) {
      assert.equal(await ok("start", "--attach", "donor"), "");
      await ok("wait", "donor");
    }
    assert.equal(await run("echo mine > /scratch/file; cat /scratch/file", "--volume", "/scratch"), "mine");
    const { errorText } = await docker("create", "--volumes-from", "donor", "busybox");
    assert.match(errorText, /--volumes-from \(anonymous volumes\).* not shared/);
  });

  it("are not mounted at a path that Azure does not take", async () => {
    const { errorText } = await docker("create", "--mount", "source=vol,target=/b:c", "busybox");
    assert.match(
      errorText,
      /invalid mount path: '\/b:c': Azure Container Apps takes no mount path with a colon/,
    );
    const { code, errorText: told } = await docker("run", "--rm", "-v", "x:/with:colon", "busybox", "true");
    assert.notEqual(code, 0);
    assert.match(told, /colon|:/);
  });
});
